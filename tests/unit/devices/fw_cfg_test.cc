// fw_cfg as its specification (QEMU docs/specs/fw_cfg) describes it.
#include <catch2/catch.hpp>

#include "bench.h"
#include "devices/e820.h"
#include "devices/fw_cfg.h"

using namespace vellum;

namespace {

struct Fixture {
  Bench bench;
  FwCfg device{bench.memory, bench.ports};
  void select(u16 key) { bench.ports.write(0x510, 2, key); }
  std::string read(usize count) {
    std::string text;
    while (text.size() < count) text += static_cast<char>(bench.ports.read(0x511, 1));
    return text;
  }
  u32 big_endian_word() {
    u32 value = 0;
    for (char byte : read(4)) value = value << 8 | static_cast<u8>(byte);
    return value;
  }
  // The key of a file, by the directory.
  u16 key_of(std::string_view name) {
    select(0x19);
    const u32 count = big_endian_word();
    for (u32 i = 0; i < count; ++i) {
      big_endian_word();
      const u16 key = static_cast<u16>(big_endian_word() >> 16);
      if (std::string(read(56).c_str()) == name) return key;
    }
    return 0;
  }
  // Runs one DMA command with its structure at 1000h; returns what the control word becomes.
  u32 dma(u32 control, u32 length, u64 address) {
    bench.memory.write_value(GuestPhysAddr(0x1000), std::byteswap(control));
    bench.memory.write_value(GuestPhysAddr(0x1004), std::byteswap(length));
    bench.memory.write_value(GuestPhysAddr(0x1008), std::byteswap(address));
    bench.ports.write(0x514, 4, 0);
    bench.ports.write(0x518, 4, std::byteswap(0x1000u));
    return std::byteswap(bench.memory.read_value<u32>(GuestPhysAddr(0x1000)));
  }
  std::string memory(u64 address, usize size) {
    std::string text(size, '?');
    bench.memory.read(GuestPhysAddr(address), {reinterpret_cast<u8*>(text.data()), size});
    return text;
  }
};

}  // namespace

TEST_CASE("fw_cfg: the signature is there, and the id names ports and DMA") {
  Fixture f;
  f.select(0);
  CHECK(f.read(4) == "QEMU");
  f.select(1);
  CHECK(f.read(4) == std::string("\3\0\0\0", 4));
  CHECK(std::byteswap(f.bench.ports.read(0x514, 4)) == 0x51454d55);
  CHECK(std::byteswap(f.bench.ports.read(0x518, 4)) == 0x20434647);
}

TEST_CASE("fw_cfg: behind an item's end and at an unknown key zeroes are read") {
  Fixture f;
  f.device.add_u16(FwCfgKey::CpuCount, 2);
  f.select(5);
  CHECK(f.read(4) == std::string("\2\0\0\0", 4));
  f.select(0x3fff);
  CHECK(f.read(2) == std::string(2, 0));
}

TEST_CASE("fw_cfg: the directory is sorted by name and gives big-endian size and key") {
  Fixture f;
  f.device.add_file("etc/second", {1, 2, 3});
  f.device.add_file("bootorder", {4});
  f.select(0x19);
  CHECK(f.big_endian_word() == 2);
  CHECK(f.big_endian_word() == 1);
  CHECK(f.big_endian_word() == 0x00200000);
  CHECK(std::string(f.read(56).c_str()) == "bootorder");
  CHECK(f.big_endian_word() == 3);
  CHECK(f.big_endian_word() == 0x00210000);
  CHECK(std::string(f.read(56).c_str()) == "etc/second");
}

TEST_CASE("fw_cfg DMA: select and read, padded with zeroes") {
  Fixture f;
  f.device.add_file("file", {'a', 'b', 'c'});
  f.bench.memory.write_value<u64>(GuestPhysAddr(0x2000), ~u64{0});
  CHECK(f.dma(static_cast<u32>(f.key_of("file")) << 16 | 8 | 2, 5, 0x2000) == 0);
  CHECK(f.memory(0x2000, 6) == std::string("abc\0\0\xff", 6));
}

TEST_CASE("fw_cfg DMA: skip moves on") {
  Fixture f;
  f.device.add_file("file", {'a', 'b', 'c'});
  CHECK(f.dma(static_cast<u32>(f.key_of("file")) << 16 | 8 | 4, 2, 0) == 0);
  CHECK(f.dma(2, 1, 0x2000) == 0);
  CHECK(f.memory(0x2000, 1) == "c");
}

TEST_CASE("fw_cfg DMA: only a file made for it can be written, and only within its size") {
  Fixture f;
  std::string seen;
  f.device.add_file("fixed", {1, 2, 3});
  f.device.add_file("writable", {0, 0, 0, 0}, [&](std::span<const u8> content) { seen.assign(content.begin(), content.end()); });
  f.bench.memory.write_value<u32>(GuestPhysAddr(0x2000), 0x64636261);
  CHECK(f.dma(static_cast<u32>(f.key_of("fixed")) << 16 | 8 | 16, 2, 0x2000) == 1);
  CHECK(f.dma(static_cast<u32>(f.key_of("writable")) << 16 | 8 | 16, 5, 0x2000) == 1);
  CHECK(f.dma(static_cast<u32>(f.key_of("writable")) << 16 | 8 | 16, 4, 0x2000) == 0);
  CHECK(seen == "abcd");
  f.device.reset(ResetKind::System);
  CHECK(f.device.file("writable")[0] == 0);
}

TEST_CASE("fw_cfg: a file that depends on the machine is made anew when it is selected") {
  Fixture f;
  u8 value = 1;
  f.device.add_file("file", {0});
  f.device.refresh_on_select("file", [&] { return std::vector<u8>{value}; });
  const u16 key = f.key_of("file");
  f.select(key);
  CHECK(f.read(1) == "\1");
  value = 2;
  f.select(key);
  CHECK(f.read(1) == "\2");
}

TEST_CASE("fw_cfg: a loaded state reads on at the saved position") {
  Fixture f, copy;
  f.device.add_file("file", {'a', 'b', 'c'});
  copy.device.add_file("file", {'a', 'b', 'c'});
  f.select(0x20);
  f.read(1);
  REQUIRE(load(copy.device, saved(f.device)));
  CHECK(copy.read(2) == "bc");
}

TEST_CASE("e820: RAM below and above 4 GiB as packed entries of 20 bytes") {
  const auto bytes = make_e820_map(0x08000000, 0x40000000).serialise();
  REQUIRE(bytes.size() == 40);
  CHECK(bytes[11] == 0x08);
  CHECK(bytes[16] == 1);
  CHECK(bytes[24] == 1);  // 4 GiB
  CHECK(bytes[31] == 0x40);
}
