// Kernel images: bzImage, multiboot 1, PVH; checks, load addresses, fw_cfg items.
#include "machine/linux_boot.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>

#include "devices/boot_roms.h"

namespace vellum {

namespace {

constexpr u64 kMiB = 1 << 20;

// Linux Documentation/x86/boot.rst: fields of the setup header.
namespace linux_spec {
constexpr usize kSetupSectors = 0x1f1, kSystemSize = 0x1f4, kVideoMode = 0x1fa, kBootFlag = 0x1fe, kMagic = 0x202,
                kVersion = 0x206, kLoaderType = 0x210, kLoadFlags = 0x211, kRamdiskImage = 0x218, kRamdiskSize = 0x21c,
                kHeapEnd = 0x224, kCommandLinePointer = 0x228, kInitrdMaximum = 0x22c, kCommandLineSize = 0x238,
                kPreferredAddress = 0x258, kInitSize = 0x260, kHeaderEnd = 0x268;
constexpr usize kOldCommandLineMagic = 0x20, kOldCommandLineOffset = 0x22;
constexpr u8 kLoadedHigh = 0x01, kCanUseHeap = 0x80, kLoaderUnassigned = 0xff;
}  // namespace linux_spec

// Multiboot Specification 0.6.96, 3.1 and 3.3.
namespace multiboot {
constexpr u32 kHeaderMagic = 0x1badb002, kLoaderMagic = 0x2badb002;
constexpr usize kSearch = 8192;
constexpr u32 kHasAddresses = 1 << 16;
constexpr u32 kInfoMemory = 1 << 0, kInfoBootDevice = 1 << 1, kInfoCommandLine = 1 << 2, kInfoModules = 1 << 3,
              kInfoMemoryMap = 1 << 6, kInfoLoaderName = 1 << 9;
}  // namespace multiboot

// Xen include/public/arch-x86/hvm/start_info.h and elfnote.h.
namespace pvh {
constexpr u32 kStartMagic = 0x336ec578, kNotePhysicalEntry = 18;
}  // namespace pvh

// Where roms/protected_boot.S finds and leaves things; see there.
namespace block {
constexpr u64 kAddress = 0x70000, kReservedFrom = 0x60000, kReservedTo = 0x80000;
constexpr usize kStructure = 0x40, kModules = 0x100, kMemoryMap = 0x140, kEntries = 64, kStrings = 0x800,
                kLongest = 0x8000;
}  // namespace block

// Firmware keeps its tables at the top of low memory; an initrd must leave them room.
constexpr u64 kFirmwareReserve = 512 * 1024;

template <class T>
T load(std::span<const u8> bytes, usize at) {
  T value{};
  if (at <= bytes.size() && bytes.size() - at >= sizeof(T)) std::memcpy(&value, bytes.data() + at, sizeof(T));
  return value;
}
template <class T>
void store(std::span<u8> bytes, usize at, T value) {
  if (at <= bytes.size() && bytes.size() - at >= sizeof(T)) std::memcpy(bytes.data() + at, &value, sizeof(T));
}

bool is_linux(std::span<const u8> image) {
  return image.size() >= linux_spec::kHeaderEnd && load<u16>(image, linux_spec::kBootFlag) == 0xaa55 &&
         std::memcmp(image.data() + linux_spec::kMagic, "HdrS", 4) == 0;
}

std::optional<usize> find_multiboot_header(std::span<const u8> image) {
  for (usize at = 0; at + 12 <= std::min(image.size(), multiboot::kSearch); at += 4) {
    if (load<u32>(image, at) != multiboot::kHeaderMagic) continue;
    if (load<u32>(image, at) + load<u32>(image, at + 4) + load<u32>(image, at + 8) == 0) return at;
  }
  return std::nullopt;
}

// One program header, of either class.
struct Segment {
  u32 type = 0;
  u64 offset = 0, address = 0, file_size = 0, memory_size = 0;
};
struct Elf {
  u64 entry = 0;
  std::vector<Segment> segments;
};

// System V ABI: ELF for i386 or x86-64. Nothing when it is none or its headers do not fit the file.
std::optional<Elf> parse_elf(std::span<const u8> image) {
  if (image.size() < 52 || std::memcmp(image.data(), "\177ELF", 4) != 0 || image[5] != 1) return std::nullopt;
  const bool wide = image[4] == 2;
  const u16 machine = load<u16>(image, 18);
  if ((!wide && machine != 3) || (wide && machine != 62)) return std::nullopt;
  Elf elf;
  elf.entry = wide ? load<u64>(image, 24) : load<u32>(image, 24);
  const u64 table = wide ? load<u64>(image, 32) : load<u32>(image, 28);
  const usize entry_size = load<u16>(image, wide ? 54 : 42);
  const usize count = load<u16>(image, wide ? 56 : 44);
  if (entry_size < (wide ? 56u : 32u)) return std::nullopt;
  for (usize i = 0; i < count; ++i) {
    const u64 at = table + i * entry_size;
    if (at > image.size() || image.size() - at < entry_size) return std::nullopt;
    Segment segment;
    segment.type = load<u32>(image, at);
    if (wide) {
      segment.offset = load<u64>(image, at + 8);
      segment.address = load<u64>(image, at + 24);
      segment.file_size = load<u64>(image, at + 32);
      segment.memory_size = load<u64>(image, at + 40);
    } else {
      segment.offset = load<u32>(image, at + 4);
      segment.address = load<u32>(image, at + 12);
      segment.file_size = load<u32>(image, at + 16);
      segment.memory_size = load<u32>(image, at + 20);
    }
    if (segment.offset > image.size() || image.size() - segment.offset < segment.file_size) return std::nullopt;
    elf.segments.push_back(segment);
  }
  return elf;
}

// The entry point that a PVH kernel names in a note.
std::optional<u32> pvh_entry(std::span<const u8> image, const Elf& elf) {
  constexpr u32 kNote = 4;
  for (const auto& segment : elf.segments) {
    if (segment.type != kNote) continue;
    const auto notes = image.subspan(segment.offset, segment.file_size);
    for (usize at = 0; at + 12 <= notes.size();) {
      const u64 name_size = load<u32>(notes, at), description_size = load<u32>(notes, at + 4);
      const u64 name_end = at + 12 + ((name_size + 3) & ~u64{3});
      const u64 next = name_end + ((description_size + 3) & ~u64{3});
      if (next > notes.size()) break;
      if (load<u32>(notes, at + 8) == pvh::kNotePhysicalEntry && name_size == 4 &&
          std::memcmp(notes.data() + at + 12, "Xen", 4) == 0 && description_size >= 4)
        return load<u32>(notes, name_end);
      at = next;
    }
  }
  return std::nullopt;
}

// The number or word after "vga=", as boot loaders understand it.
std::optional<u16> video_mode(std::string_view command_line) {
  const auto at = command_line.find("vga=");
  if (at == std::string_view::npos || (at > 0 && command_line[at - 1] != ' ')) return std::nullopt;
  std::string_view value = command_line.substr(at + 4);
  value = value.substr(0, value.find(' '));
  if (value == "normal") return 0xffff;
  if (value == "ext") return 0xfffe;
  if (value == "ask") return 0xfffd;
  int base = 10;
  if (value.starts_with("0x") || value.starts_with("0X")) {
    base = 16;
    value.remove_prefix(2);
  }
  u16 mode = 0;
  const auto result = std::from_chars(value.data(), value.data() + value.size(), mode, base);
  if (result.ec != std::errc{} || result.ptr != value.data() + value.size()) return std::nullopt;
  return mode;
}

u64 whole_mib(u64 bytes) { return (bytes + kMiB - 1) / kMiB; }

Result<std::string> add_linux(FwCfg& fw_cfg, KernelRequest request) {
  using namespace linux_spec;
  const std::span<const u8> image = request.kernel;
  const usize sectors = image[kSetupSectors] ? image[kSetupSectors] : 4;
  const usize setup_size = (sectors + 1) * 512;
  const u16 version = load<u16>(image, kVersion);
  const auto bad = [&](std::string_view what) {
    return failure(fmt::format("cannot boot kernel '{}': {}", request.kernel_path, what));
  };
  if (image.size() <= setup_size) return bad("the file is truncated: it ends within the kernel's setup code");
  if (version >= 0x204) {
    const u64 whole = setup_size + u64{load<u32>(image, kSystemSize)} * 16;
    if (image.size() + 15 < whole)
      return bad(fmt::format("the file is truncated: its header promises {} bytes, it has {}", whole, image.size()));
  }
  const bool high = version >= 0x200 && (image[kLoadFlags] & kLoadedHigh);
  const u64 kernel_size = image.size() - setup_size;
  const u64 kernel_address = high ? kMiB : 0x10000;
  const u64 setup_address = high ? 0x10000 : 0x90000;
  const u64 command_line_address = high ? 0x20000 : 0x9a000 - ((request.command_line.size() + 16) & ~usize{15});
  if (!high && kernel_size > setup_address - kernel_address) return bad("it is too large for a kernel loaded low");

  const u64 longest = version >= 0x206 ? load<u32>(image, kCommandLineSize) : 255;
  if (request.command_line.size() > longest)
    return bad(fmt::format("the command line (-append) has {} bytes, this kernel takes {}", request.command_line.size(),
                           longest));

  // What the kernel needs to unpack itself, from the address at which it wants to run.
  u64 kernel_end = kernel_address + kernel_size;
  if (version >= 0x20a)
    kernel_end = std::max(kernel_end, std::max(kernel_address, load<u64>(image, kPreferredAddress)) +
                                          load<u32>(image, kInitSize));
  if (kernel_end > request.ram_below_4g)
    return bad(fmt::format("it needs at least {} MiB of memory, the machine has {}; give more with -m",
                           whole_mib(kernel_end), request.ram_below_4g / kMiB));

  u64 initrd_address = 0;
  if (!request.initrd.empty()) {
    if (version < 0x200) return bad("it is too old to take an initrd");
    const u64 limit = version >= 0x203 ? u64{load<u32>(image, kInitrdMaximum)} + 1 : 0x38000000;
    const u64 top = std::min(limit, request.ram_below_4g - std::min(request.ram_below_4g, kFirmwareReserve));
    if (request.initrd.size() > top || ((top - request.initrd.size()) & ~kPageMask) < kernel_end)
      return failure(fmt::format("initrd '{}' ({} MiB) does not fit into memory beside the kernel, which needs {} MiB; "
                                 "the machine has {} MiB, give more with -m",
                                 request.initrd_path, whole_mib(request.initrd.size()), whole_mib(kernel_end),
                                 request.ram_below_4g / kMiB));
    initrd_address = (top - request.initrd.size()) & ~kPageMask;
  }

  std::vector<u8> setup(image.begin(), image.begin() + static_cast<std::ptrdiff_t>(setup_size));
  setup[kLoaderType] = kLoaderUnassigned;
  if (version >= 0x201) {
    setup[kLoadFlags] |= kCanUseHeap;
    store<u16>(setup, kHeapEnd, static_cast<u16>(std::min<u64>(command_line_address - setup_address, 0xff00) - 0x200));
  }
  if (version >= 0x202) {
    store<u32>(setup, kCommandLinePointer, static_cast<u32>(command_line_address));
  } else {
    store<u16>(setup, kOldCommandLineMagic, u16{0xa33f});
    store<u16>(setup, kOldCommandLineOffset, static_cast<u16>(command_line_address - setup_address));
  }
  if (const auto mode = video_mode(request.command_line)) store<u16>(setup, kVideoMode, *mode);
  if (initrd_address) {
    store<u32>(setup, kRamdiskImage, static_cast<u32>(initrd_address));
    store<u32>(setup, kRamdiskSize, static_cast<u32>(request.initrd.size()));
  }

  fw_cfg.add_u32(FwCfgKey::SetupAddress, static_cast<u32>(setup_address));
  fw_cfg.add_u32(FwCfgKey::SetupSize, static_cast<u32>(setup_size));
  fw_cfg.add_item(FwCfgKey::SetupData, std::move(setup));
  fw_cfg.add_u32(FwCfgKey::KernelAddress, static_cast<u32>(kernel_address));
  fw_cfg.add_u32(FwCfgKey::KernelSize, static_cast<u32>(kernel_size));
  request.kernel.erase(request.kernel.begin(), request.kernel.begin() + static_cast<std::ptrdiff_t>(setup_size));
  fw_cfg.add_item(FwCfgKey::KernelData, std::move(request.kernel));
  fw_cfg.add_u32(FwCfgKey::CommandLineAddress, static_cast<u32>(command_line_address));
  fw_cfg.add_u32(FwCfgKey::CommandLineSize, static_cast<u32>(request.command_line.size() + 1));
  fw_cfg.add_string(FwCfgKey::CommandLineData, request.command_line);
  fw_cfg.add_u32(FwCfgKey::InitrdAddress, static_cast<u32>(initrd_address));
  fw_cfg.add_u32(FwCfgKey::InitrdSize, static_cast<u32>(request.initrd.size()));
  fw_cfg.add_item(FwCfgKey::InitrdData, std::move(request.initrd));
  const auto rom = linux_boot_rom();
  fw_cfg.add_file("genroms/linux_boot.bin", {rom.begin(), rom.end()});
  return std::string("/rom@genroms/linux_boot.bin");
}

// A kernel laid out in memory as it is to be loaded.
struct LoadImage {
  u64 address = 0;
  std::vector<u8> content;
  u64 entry = 0;
};

Result<LoadImage> lay_out(const KernelRequest& request, const std::vector<Segment>& segments, u64 entry) {
  const auto bad = [&](std::string_view what) {
    return failure(fmt::format("cannot boot kernel '{}': {}", request.kernel_path, what));
  };
  constexpr u32 kLoad = 1;
  u64 low = ~u64{0}, high = 0;
  for (const auto& segment : segments) {
    if (segment.type != kLoad || segment.memory_size == 0) continue;
    if (segment.memory_size < segment.file_size) return bad("a segment is larger in the file than in memory");
    if (segment.address >= u64{1} << 32 || segment.memory_size >= u64{1} << 32 ||
        segment.address + segment.memory_size > request.ram_below_4g)
      return bad(fmt::format("it loads up to {:#x}, the machine has {} MiB of memory; give more with -m",
                             segment.address + segment.memory_size, request.ram_below_4g / kMiB));
    low = std::min(low, segment.address);
    high = std::max(high, segment.address + segment.memory_size);
  }
  if (low >= high) return bad("it has nothing to load");
  if (low < 0x500 || (low < block::kReservedTo && high > block::kReservedFrom) || (low < kMiB && high > 0x9f000))
    return bad("it loads over memory that the firmware and the boot loader use");
  if (entry < low || entry >= high) return bad(fmt::format("its entry point {:#x} is not in what it loads", entry));
  LoadImage image{low, std::vector<u8>(high - low), entry};
  for (const auto& segment : segments)
    if (segment.type == kLoad && segment.file_size)
      std::memcpy(image.content.data() + (segment.address - low), request.kernel.data() + segment.offset,
                  segment.file_size);
  return image;
}

Result<LoadImage> lay_out_multiboot(const KernelRequest& request) {
  const std::span<const u8> image = request.kernel;
  const usize header = *find_multiboot_header(image);
  if (!(load<u32>(image, header + 4) & multiboot::kHasAddresses)) {
    const auto elf = parse_elf(image);
    if (!elf)
      return failure(fmt::format("cannot boot kernel '{}': its multiboot header needs an ELF file for i386 or x86-64, "
                                 "which this is not, or it is truncated",
                                 request.kernel_path));
    return lay_out(request, elf->segments, elf->entry);
  }
  const u32 header_address = load<u32>(image, header + 12), load_address = load<u32>(image, header + 16),
            load_end = load<u32>(image, header + 20), bss_end = load<u32>(image, header + 24),
            entry = load<u32>(image, header + 28);
  const u64 before = u64{header_address} - load_address;  // bytes of the image in front of the header
  if (header_address < load_address || before > header)
    return failure(fmt::format("cannot boot kernel '{}': the addresses in its multiboot header contradict each other",
                               request.kernel_path));
  Segment segment{.type = 1, .offset = header - before, .address = load_address};
  const u64 available = image.size() - segment.offset;
  segment.file_size = load_end > load_address ? load_end - load_address : available;
  if (segment.file_size > available)
    return failure(fmt::format("cannot boot kernel '{}': the file is truncated", request.kernel_path));
  segment.memory_size = std::max<u64>(segment.file_size, bss_end > load_address ? bss_end - load_address : 0);
  return lay_out(request, {segment}, entry);
}

Result<std::string> add_protected(FwCfg& fw_cfg, KernelRequest request, KernelFormat format) {
  Result<LoadImage> image = [&]() -> Result<LoadImage> {
    if (format == KernelFormat::Multiboot) return lay_out_multiboot(request);
    const auto elf = parse_elf(request.kernel);
    return lay_out(request, elf->segments, *pvh_entry(request.kernel, *elf));
  }();
  if (!image) return std::unexpected(image.error());

  // The module follows the kernel, on a page of its own, above 1 MiB.
  const u64 module_address = (std::max(image->address + image->content.size(), kMiB) + kPageMask) & ~kPageMask;
  const u64 module_size = request.initrd.size();
  if (module_size && module_address + module_size + kFirmwareReserve > request.ram_below_4g)
    return failure(fmt::format("initrd '{}' ({} MiB) does not fit into memory behind the kernel; the machine has {} MiB, "
                               "give more with -m",
                               request.initrd_path, whole_mib(module_size), request.ram_below_4g / kMiB));

  std::vector<u8> info(block::kStrings);
  const auto put = [&](usize at, auto value) { store(std::span(info), at, value); };
  const auto text = [&](std::string_view string) {
    const u32 address = static_cast<u32>(block::kAddress + info.size());
    info.insert(info.end(), string.begin(), string.end());
    info.push_back(0);
    return address;
  };
  const std::string arguments = format == KernelFormat::Multiboot ? request.kernel_path + ' ' + request.command_line
                                                                  : request.command_line;
  if (arguments.size() + request.initrd_path.size() > block::kLongest)
    return failure(fmt::format("cannot boot kernel '{}': the command line (-append) is longer than {} bytes",
                               request.kernel_path, block::kLongest));
  const u32 command_line = text(arguments);
  const u32 module_name = text(request.initrd_path);
  const u32 modules = block::kAddress + block::kModules, map = block::kAddress + block::kMemoryMap,
            structure = block::kAddress + block::kStructure;
  constexpr usize s = block::kStructure;
  put(4, structure);
  put(20, static_cast<u32>(block::kEntries));
  if (format == KernelFormat::Multiboot) {
    using namespace multiboot;
    put(0, kLoaderMagic);
    put(8, map + 4);
    put(12, structure + 44);
    put(16, u32{24});
    for (usize i = 0; i < block::kEntries; ++i) put(block::kMemoryMap + 24 * i, u32{20});
    put(s, kInfoMemory | kInfoBootDevice | kInfoCommandLine | (module_size ? kInfoModules : 0) | kInfoMemoryMap |
               kInfoLoaderName);
    put(s + 4, u32{639});
    put(s + 8, static_cast<u32>((request.ram_below_4g - std::min(request.ram_below_4g, kMiB)) / 1024));
    put(s + 12, u32{0x8000ffff});
    put(s + 16, command_line);
    put(s + 20, static_cast<u32>(module_size ? 1 : 0));
    put(s + 24, modules);
    put(s + 48, map);
    put(s + 64, text("Vellum"));
    put(block::kModules, static_cast<u32>(module_address));
    put(block::kModules + 4, static_cast<u32>(module_address + module_size));
    put(block::kModules + 8, module_name);
  } else {
    put(8, map);
    put(12, structure + 48);
    put(16, u32{1});
    put(s, pvh::kStartMagic);
    put(s + 4, u32{1});
    put(s + 12, static_cast<u32>(module_size ? 1 : 0));
    put(s + 16, u64{modules});
    put(s + 24, u64{command_line});
    put(s + 40, u64{map});
    put(block::kModules, module_address);
    put(block::kModules + 8, module_size);
  }

  fw_cfg.add_u32(FwCfgKey::KernelAddress, static_cast<u32>(image->address));
  fw_cfg.add_u32(FwCfgKey::KernelSize, static_cast<u32>(image->content.size()));
  fw_cfg.add_u32(FwCfgKey::KernelEntry, static_cast<u32>(image->entry));
  fw_cfg.add_item(FwCfgKey::KernelData, std::move(image->content));
  fw_cfg.add_u32(FwCfgKey::InitrdAddress, static_cast<u32>(module_address));
  fw_cfg.add_u32(FwCfgKey::InitrdSize, static_cast<u32>(module_size));
  fw_cfg.add_item(FwCfgKey::InitrdData, std::move(request.initrd));
  fw_cfg.add_u32(FwCfgKey::SetupAddress, static_cast<u32>(block::kAddress));
  fw_cfg.add_u32(FwCfgKey::SetupSize, static_cast<u32>(info.size()));
  fw_cfg.add_item(FwCfgKey::SetupData, std::move(info));
  const auto rom = protected_boot_rom();
  fw_cfg.add_file("genroms/protected_boot.bin", {rom.begin(), rom.end()});
  return std::string("/rom@genroms/protected_boot.bin");
}

}  // namespace

std::optional<KernelFormat> recognise_kernel(std::span<const u8> image) {
  if (is_linux(image)) return KernelFormat::BzImage;
  if (find_multiboot_header(image)) return KernelFormat::Multiboot;
  const auto elf = parse_elf(image);
  if (elf && pvh_entry(image, *elf)) return KernelFormat::Pvh;
  return std::nullopt;
}

Result<std::string> add_kernel(FwCfg& fw_cfg, KernelRequest request) {
  const auto format = recognise_kernel(request.kernel);
  if (!format)
    return failure(fmt::format("cannot boot kernel '{}': it is no kernel that can be started (a Linux bzImage, multiboot "
                               "or PVH image); is the file complete?",
                               request.kernel_path));
  if (*format == KernelFormat::BzImage) return add_linux(fw_cfg, std::move(request));
  return add_protected(fw_cfg, std::move(request), *format);
}

}  // namespace vellum
