// Opens disk, CD-ROM and floppy images: what -drive, -hda, -cdrom and -fda name.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "state/error.h"
#include "storage/block_device.h"

namespace vellum {

struct ImageOptions {
  std::string path;
  std::string format;      // "raw", or empty: look at the content, and refuse what is plainly another format
  bool read_only = false;  // readonly=on: the guest finds a write-protected medium
  bool snapshot = false;   // snapshot=on: writes go to a temporary overlay and are forgotten at the end
};

// Opens the image. The error is one line that names the file, what is wrong with it and what to do.
Result<std::unique_ptr<BlockDevice>> open_image(const ImageOptions& options);

// The name of the image format that `head`, the first bytes of a file, shows ("qcow2", "vmdk", "vdi", "vhdx", "vpc",
// "qed", "parallels"); empty when it may be raw.
std::string_view probe_image_format(std::span<const u8> head);

}  // namespace vellum
