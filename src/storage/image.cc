// Opens images: refuses formats that it would misread, and stacks the snapshot overlay.
#include "storage/image.h"

#include <array>
#include <cstring>

#include "storage/overlay.h"
#include "storage/raw_image.h"

namespace vellum {

namespace {

struct Magic {
  usize offset;
  std::string_view bytes;
  std::string_view format;
};
using namespace std::string_view_literals;
// Each format's own header definition: QCOW2 specification; VMDK "Virtual Disk Format 5.0" (sparse extent and text
// descriptor); VirtualBox VDI header (signature BEDA107Fh at 64); MS-VHDX 3.1.2; VHD specification (dynamic disks
// repeat the footer at the start); QED specification; Parallels.
constexpr Magic kMagics[] = {
    {0, "QFI\xfb"sv, "qcow2"},
    {0, "KDMV"sv, "vmdk"},
    {0, "COWD"sv, "vmdk"},
    {0, "# Disk DescriptorFile"sv, "vmdk"},
    {64, "\x7f\x10\xda\xbe"sv, "vdi"},
    {0, "vhdxfile"sv, "vhdx"},
    {0, "conectix"sv, "vpc"},
    {0, "QED\0"sv, "qed"},
    {0, "WithoutFreeSpace"sv, "parallels"},
    {0, "WithouFreSpacExt"sv, "parallels"},
};
constexpr usize kProbeSize = 512;

}  // namespace

std::string_view probe_image_format(std::span<const u8> head) {
  for (const auto& magic : kMagics)
    if (magic.offset + magic.bytes.size() <= head.size() &&
        std::memcmp(head.data() + magic.offset, magic.bytes.data(), magic.bytes.size()) == 0)
      return magic.format;
  return {};
}

Result<std::unique_ptr<BlockDevice>> open_image(const ImageOptions& options) {
  if (!options.format.empty() && options.format != "raw")
    return failure(fmt::format("{}: image format '{}' is not supported: use format=raw (convert other images with "
                               "'qemu-img convert -O raw')",
                               options.path, options.format));
  auto raw = RawImage::open(options.path, options.read_only || options.snapshot);
  if (!raw) return std::unexpected(raw.error());
  std::unique_ptr<BlockDevice> image = std::move(*raw);
  if (options.format.empty()) {
    std::array<u8, kProbeSize> head{};
    if (auto done = image->read(0, head); !done) return std::unexpected(done.error());
    if (const auto format = probe_image_format(head); !format.empty())
      return failure(fmt::format("{0}: this is a {1} image, and only raw images are supported: convert it with "
                                 "'qemu-img convert -O raw', or give format=raw to use its bytes as they are",
                                 options.path, format));
  }
  if (options.snapshot && !options.read_only) {
    auto overlay = Overlay::create(std::move(image));
    if (!overlay) return std::unexpected(overlay.error());
    return std::move(*overlay);
  }
  return image;
}

}  // namespace vellum
