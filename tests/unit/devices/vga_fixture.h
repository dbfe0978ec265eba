// A VGA on a bus of its own, and the register tables of the standard modes.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "devices/vga.h"

namespace vellum::test {

inline constexpr u64 kVramOffset = 1 << 20;

struct VgaFixture {
  std::unique_ptr<GuestRam> ram = std::move(*GuestRam::create(32 << 20));
  AddressSpace memory{*ram};
  PortBus ports;
  PciBus pci{memory, ports};
  ManualClock clock;
  Vga vga{memory, ports, clock, kVramOffset, Vga::kDefaultVramSize};

  VgaFixture() {
    memory.map_ram("ram", GuestPhysAddr(0), 1 << 20, 0);
    pci.attach(vga, 2, 0);
    vga.reset(ResetKind::PowerOn);
  }
  void out(u16 port, u8 value) { ports.write(port, 1, value); }
  u8 in(u16 port) { return static_cast<u8>(ports.read(port, 1)); }
  void indexed(u16 port, u8 index, u8 value) { ports.write(port, 2, index | value << 8); }
  void poke(u32 address, u8 value) { memory.write_value<u8>(GuestPhysAddr(address), value); }
  u8 peek(u32 address) { return memory.read_value<u8>(GuestPhysAddr(address)); }
  u8 plane(unsigned number, u16 address) { return vga.memory().plane_byte(number, address); }
  void dispi(u16 index, u16 value) {
    ports.write(0x1ce, 2, index);
    ports.write(0x1cf, 2, value);
  }
  u16 dispi(u16 index) {
    ports.write(0x1ce, 2, index);
    return static_cast<u16>(ports.read(0x1cf, 2));
  }

  // The BIOS's register tables for the standard modes.
  void mode(u8 misc, std::vector<u8> sequencer, std::vector<u8> crtc, std::vector<u8> graphics) {
    out(0x3c2, misc);
    indexed(0x3d4, 0x11, 0);
    for (u8 i = 0; i < sequencer.size(); ++i) indexed(0x3c4, i, sequencer[i]);
    for (u8 i = 0; i < crtc.size(); ++i) indexed(0x3d4, i, crtc[i]);
    for (u8 i = 0; i < graphics.size(); ++i) indexed(0x3ce, i, graphics[i]);
  }
  void text_80x25() {
    mode(0x67, {3, 0, 3, 0, 2},
         {0x5f, 0x4f, 0x50, 0x82, 0x55, 0x81, 0xbf, 0x1f, 0x00, 0x4f, 0x0d, 0x0e, 0, 0, 0, 0, 0x9c, 0x8e, 0x8f, 0x28,
          0x1f, 0x96, 0xb9, 0xa3, 0xff},
         {0, 0, 0, 0, 0, 0x10, 0x0e, 0, 0xff});
  }
  void planar_12h() {
    mode(0xe3, {3, 1, 0xf, 0, 6},
         {0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0x0b, 0x3e, 0x00, 0x40, 0, 0, 0, 0, 0, 0, 0xea, 0x8c, 0xdf, 0x28, 0x00,
          0xe7, 0x04, 0xe3, 0xff},
         {0, 0, 0, 0, 0, 0x00, 0x05, 0x0f, 0xff});
  }
  void print(u32 address, std::string_view text) {
    for (const char character : text) {
      poke(address++, static_cast<u8>(character));
      poke(address++, 0x07);
    }
  }
  void attributes(std::vector<u8> values) {
    in(0x3da);
    for (u8 i = 0; i < values.size(); ++i) {
      out(0x3c0, i);
      out(0x3c0, values[i]);
    }
    out(0x3c0, 0x20);
  }
  void attribute(u8 index, u8 value) {
    in(0x3da);
    out(0x3c0, index);
    out(0x3c0, value);
    out(0x3c0, 0x20);
  }
};

}  // namespace vellum::test
