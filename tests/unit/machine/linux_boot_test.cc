// Kernel images: recognised, refused with a reason, and laid out (Linux Documentation/x86/boot.rst, Multiboot 0.6.96,
// System V ABI, Xen's start_info.h).
#include <catch2/catch.hpp>

#include <cstring>

#include "devices/port_bus.h"
#include "machine/linux_boot.h"

using namespace vellum;

namespace {

constexpr u64 kMiB = 1 << 20;

struct Fixture {
  std::unique_ptr<GuestRam> ram = std::move(GuestRam::create(1u << 20).value());
  AddressSpace memory{*ram};
  PortBus ports;
  FwCfg fw_cfg{memory, ports};
  u32 number(FwCfgKey key) {
    const auto item = fw_cfg.item(key);
    REQUIRE(item.size() == 4);
    u32 value;
    std::memcpy(&value, item.data(), 4);
    return value;
  }
  u32 in_setup(usize at) {
    const auto item = fw_cfg.item(FwCfgKey::SetupData);
    REQUIRE(at + 4 <= item.size());
    u32 value;
    std::memcpy(&value, item.data() + at, 4);
    return value;
  }
};

template <class T>
void put(std::vector<u8>& bytes, usize at, T value) {
  if (bytes.size() < at + sizeof(T)) bytes.resize(at + sizeof(T));
  std::memcpy(bytes.data() + at, &value, sizeof(T));
}

// A bzImage of protocol 2.15 with two setup sectors and 4096 bytes of kernel that needs 16 MiB from 16 MiB on.
std::vector<u8> bzimage() {
  std::vector<u8> image(3 * 512 + 4096, 0xcc);
  put<u8>(image, 0x1f1, 2);
  put<u32>(image, 0x1f4, 4096 / 16);
  put<u16>(image, 0x1fe, 0xaa55);
  std::memcpy(image.data() + 0x202, "HdrS", 4);
  put<u16>(image, 0x206, 0x20f);
  put<u8>(image, 0x211, 1);
  put<u32>(image, 0x22c, 0x7fffffff);
  put<u32>(image, 0x238, 2047);
  put<u64>(image, 0x258, 16 * kMiB);
  put<u32>(image, 0x260, 16 * kMiB);
  return image;
}

// An ELF32 with one segment at 4 MiB, a multiboot header at its beginning, and room for a note.
std::vector<u8> elf32() {
  std::vector<u8> image(0x200);
  std::memcpy(image.data(), "\177ELF\1\1\1", 7);
  put<u16>(image, 18, 3);
  put<u32>(image, 24, 0x400010);
  put<u32>(image, 28, 52);
  put<u16>(image, 42, 32);
  put<u16>(image, 44, 1);
  put<u32>(image, 52, 1);          // PT_LOAD
  put<u32>(image, 56, 0x100);      // offset
  put<u32>(image, 64, 0x400000);   // physical address
  put<u32>(image, 68, 0x80);       // in the file
  put<u32>(image, 72, 0x2000);     // in memory
  std::memset(image.data() + 0x100, 0x90, 0x80);
  return image;
}

std::vector<u8> multiboot() {
  auto image = elf32();
  put<u32>(image, 0x100, 0x1badb002);
  put<u32>(image, 0x104, 0);
  put<u32>(image, 0x108, -0x1badb002u);
  return image;
}

std::vector<u8> pvh() {
  auto image = elf32();
  put<u16>(image, 44, 2);
  put<u32>(image, 84, 4);  // PT_NOTE
  put<u32>(image, 88, 0x180);
  put<u32>(image, 100, 20);
  put<u32>(image, 104, 20);
  put<u32>(image, 0x180, 4);
  put<u32>(image, 0x184, 4);
  put<u32>(image, 0x188, 18);
  std::memcpy(image.data() + 0x18c, "Xen", 4);
  put<u32>(image, 0x190, 0x400020);
  return image;
}

KernelRequest request(std::vector<u8> kernel) {
  return {.kernel_path = "vmlinuz", .kernel = std::move(kernel), .initrd_path = "initrd", .initrd = {},
          .command_line = "quiet", .ram_below_4g = 128 * kMiB, .ram_above_4g = 0};
}

std::string refusal(KernelRequest wanted) {
  Fixture f;
  const auto result = add_kernel(f.fw_cfg, std::move(wanted));
  REQUIRE_FALSE(result.has_value());
  CHECK(result.error().message.find('\n') == std::string::npos);
  return result.error().message;
}

using Catch::Matchers::Contains;

}  // namespace

TEST_CASE("kernel formats are recognised by their headers") {
  CHECK(recognise_kernel(bzimage()) == KernelFormat::BzImage);
  CHECK(recognise_kernel(multiboot()) == KernelFormat::Multiboot);
  CHECK(recognise_kernel(pvh()) == KernelFormat::Pvh);
  CHECK_FALSE(recognise_kernel(elf32()).has_value());
  CHECK_FALSE(recognise_kernel(std::vector<u8>{}).has_value());
  CHECK_FALSE(recognise_kernel(std::vector<u8>(100'000, 0x42)).has_value());
}

TEST_CASE("bzImage: parts, addresses and the boot loader's header fields") {
  Fixture f;
  auto wanted = request(bzimage());
  wanted.initrd.assign(10'000, 0x11);
  const auto line = add_kernel(f.fw_cfg, std::move(wanted));
  REQUIRE(line.has_value());
  CHECK(*line == "/rom@genroms/linux_boot.bin");
  CHECK(f.fw_cfg.has_file("genroms/linux_boot.bin"));
  CHECK(f.number(FwCfgKey::SetupSize) == 1536);
  CHECK(f.number(FwCfgKey::KernelSize) == 4096);
  CHECK(f.number(FwCfgKey::KernelAddress) == kMiB);
  CHECK(f.fw_cfg.item(FwCfgKey::KernelData)[0] == 0xcc);
  CHECK(f.number(FwCfgKey::CommandLineSize) == 6);
  CHECK(f.in_setup(0x228) == f.number(FwCfgKey::CommandLineAddress));
  const u32 initrd = f.number(FwCfgKey::InitrdAddress);
  CHECK(initrd % 4096 == 0);
  CHECK(initrd + 10'000 <= 128 * kMiB);
  CHECK(f.in_setup(0x218) == initrd);
  CHECK(f.in_setup(0x21c) == 10'000);
  CHECK((f.in_setup(0x210) >> 8 & 0x81) == 0x81);  // loaded high, heap usable
}

TEST_CASE("bzImage: the initrd stays below the address that the header names") {
  Fixture f;
  auto kernel = bzimage();
  put<u32>(kernel, 0x22c, 0x37fffff);  // 56 MiB
  auto wanted = request(std::move(kernel));
  wanted.initrd.assign(10'000, 0x11);
  REQUIRE(add_kernel(f.fw_cfg, std::move(wanted)).has_value());
  CHECK(f.number(FwCfgKey::InitrdAddress) + 10'000 <= 56 * kMiB);
}

TEST_CASE("bzImage: vga= on the command line becomes the video mode") {
  const auto [text, mode] = GENERATE(table<std::string, u16>(
      {{"vga=normal", 0xffff}, {"quiet vga=ask", 0xfffd}, {"vga=0x317", 0x317}, {"vga=791 quiet", 791}}));
  CAPTURE(text);
  Fixture f;
  auto wanted = request(bzimage());
  wanted.command_line = text;
  REQUIRE(add_kernel(f.fw_cfg, std::move(wanted)).has_value());
  CHECK((f.in_setup(0x1fa) & 0xffff) == mode);
}

TEST_CASE("kernels that cannot be started are refused with the file's name and the reason") {
  CHECK_THAT(refusal(request(std::vector<u8>(5000))), Contains("vmlinuz") && Contains("no kernel"));
  auto truncated = bzimage();
  truncated.resize(3 * 512 + 4000);
  CHECK_THAT(refusal(request(truncated)), Contains("truncated"));
  truncated.resize(1000);
  CHECK_THAT(refusal(request(truncated)), Contains("truncated"));
  auto small = request(bzimage());
  small.ram_below_4g = 24 * kMiB;
  CHECK_THAT(refusal(std::move(small)), Contains("32 MiB") && Contains("-m"));
  auto large_initrd = request(bzimage());
  large_initrd.initrd.resize(100 * kMiB);
  CHECK_THAT(refusal(std::move(large_initrd)), Contains("initrd 'initrd'"));
  auto long_line = request(bzimage());
  long_line.command_line.assign(3000, 'x');
  CHECK_THAT(refusal(std::move(long_line)), Contains("command line") && Contains("2047"));
}

TEST_CASE("multiboot: the ELF is laid out in memory, with its zeroed part, and the information block filled in") {
  Fixture f;
  auto wanted = request(multiboot());
  wanted.initrd = {1, 2, 3};
  const auto line = add_kernel(f.fw_cfg, std::move(wanted));
  REQUIRE(line.has_value());
  CHECK(*line == "/rom@genroms/protected_boot.bin");
  CHECK(f.number(FwCfgKey::KernelAddress) == 0x400000);
  CHECK(f.number(FwCfgKey::KernelSize) == 0x2000);
  CHECK(f.number(FwCfgKey::KernelEntry) == 0x400010);
  CHECK(f.in_setup(0) == 0x2badb002);
  const u32 base = f.number(FwCfgKey::SetupAddress);
  const u32 info = f.in_setup(4) - base;
  CHECK((f.in_setup(info) & 0x4d) == 0x4d);  // memory, command line, modules, memory map
  CHECK(f.in_setup(info + 8) == 127 * 1024);
  const char* text = reinterpret_cast<const char*>(f.fw_cfg.item(FwCfgKey::SetupData).data()) + f.in_setup(info + 16) - base;
  CHECK(std::string(text) == "vmlinuz quiet");
  const u32 module = f.in_setup(info + 24) - base;
  CHECK(f.in_setup(module) == f.number(FwCfgKey::InitrdAddress));
  CHECK(f.in_setup(module + 4) - f.in_setup(module) == 3);
  CHECK(f.in_setup(module) >= 0x402000);
}

TEST_CASE("multiboot: an image without ELF headers is placed by the addresses in its header") {
  Fixture f;
  std::vector<u8> image(0x100, 0x90);
  put<u32>(image, 0x10, 0x1badb002);
  put<u32>(image, 0x14, 0x10000);
  put<u32>(image, 0x18, -(0x1badb002u + 0x10000));
  put<u32>(image, 0x1c, 0x100010);  // of the header
  put<u32>(image, 0x20, 0x100000);
  put<u32>(image, 0x24, 0);
  put<u32>(image, 0x28, 0x100400);
  put<u32>(image, 0x2c, 0x100020);
  REQUIRE(add_kernel(f.fw_cfg, request(image)).has_value());
  CHECK(f.number(FwCfgKey::KernelAddress) == 0x100000);
  CHECK(f.number(FwCfgKey::KernelSize) == 0x400);
  CHECK(f.number(FwCfgKey::KernelEntry) == 0x100020);
}

TEST_CASE("multiboot: segments out of memory, out of the file or over the boot loader are refused") {
  auto outside = multiboot();
  put<u32>(outside, 64, 0x7fff000);
  put<u32>(outside, 72, 0x10000);
  CHECK_THAT(refusal(request(outside)), Contains("memory"));
  auto truncated = multiboot();
  put<u32>(truncated, 68, 0x10000);
  CHECK_THAT(refusal(request(truncated)), Contains("truncated"));
  auto low = multiboot();
  put<u32>(low, 64, 0x6f000);
  CHECK_THAT(refusal(request(low)), Contains("boot loader"));
  auto entry = multiboot();
  put<u32>(entry, 24, 0x100);
  CHECK_THAT(refusal(request(entry)), Contains("entry point"));
}

TEST_CASE("pvh: the entry comes from the note, the start info names module and memory map") {
  Fixture f;
  auto wanted = request(pvh());
  wanted.initrd = {1, 2, 3};
  REQUIRE(add_kernel(f.fw_cfg, std::move(wanted)).has_value());
  CHECK(f.number(FwCfgKey::KernelEntry) == 0x400020);
  const u32 start = f.in_setup(4) - f.number(FwCfgKey::SetupAddress);
  CHECK(f.in_setup(start) == 0x336ec578);
  CHECK(f.in_setup(start + 12) == 1);
}

TEST_CASE("no image of random bytes behind a valid signature is read out of its bounds") {
  for (unsigned seed = 0; seed < 2000; ++seed) {
    CAPTURE(seed);
    auto image = seed % 3 == 0 ? bzimage() : seed % 3 == 1 ? multiboot() : pvh();
    u32 state = seed * 2654435761u + 1;
    for (unsigned i = 0; i < 8; ++i) {
      state = state * 1664525 + 1013904223;
      image[(state >> 8) % image.size()] = static_cast<u8>(state >> 24);
    }
    image.resize(image.size() - state % 64);
    Fixture f;
    CHECK_NOTHROW((void)add_kernel(f.fw_cfg, request(image)));
  }
}
