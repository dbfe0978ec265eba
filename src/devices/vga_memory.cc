// Display memory behind the window at A0000h.
#include "devices/vga_memory.h"

#include <algorithm>
#include <cstring>

namespace vellum {

namespace {

// Each of the four low bits becomes a byte of all-ones or zeroes: one per plane.
constexpr u32 planes(unsigned bits) {
  u32 value = 0;
  for (unsigned plane = 0; plane < 4; ++plane)
    if (bits >> plane & 1) value |= 0xffu << (8 * plane);
  return value;
}
constexpr u32 all_planes(u8 value) { return value * 0x01010101u; }

}  // namespace

bool VgaMemory::decode(u64 offset, Target& target) const {
  if (!(m_registers.miscellaneous() & 2)) return false;  // Enable RAM
  if (m_registers.dispi_enabled() && m_registers.dispi(vga::kDispiBpp) >= 8) {
    // Banks of 64 KiB of the linear frame buffer.
    if (offset >= 0x10000) return false;
    target = {true, (u32{m_registers.dispi(vga::kDispiBank)} << 16 | static_cast<u32>(offset)) & (m_vram_size - 1), 0};
    return true;
  }
  // Graphics Controller, Miscellaneous register: memory map.
  u32 address = static_cast<u32>(offset);
  const u8 map = m_registers.graphics(vga::kGfxMiscellaneous) >> 2 & 3;
  switch (map) {
    case 0: break;
    case 1:
      if (offset >= 0x10000) return false;
      break;
    case 2:
      if (offset < 0x10000 || offset >= 0x18000) return false;
      address -= 0x10000;
      break;
    default:
      if (offset < 0x18000) return false;
      address -= 0x18000;
      break;
  }
  const u8 mode = m_registers.sequencer(vga::kSeqMemoryMode);
  const u32 high = address >> 16;
  address &= 0xffff;
  if (m_registers.dispi_enabled()) {
    // A planar mode: banks of 64 KiB of each plane.
    address |= u32{m_registers.dispi(vga::kDispiBank)} << 16;
    target = {false, address & (m_vram_size / 4 - 1), 0xf};
    return true;
  }
  if (mode & vga::kMemoryChain4) {
    // A1-A0 select the plane; A15-A14 take their place in the planes' address, which is what the CRTC's doubleword
    // mode undoes.
    target = {false, (address & 0xfffc) | address >> 14, static_cast<u8>(1 << (address & 3))};
  } else if (!(mode & vga::kMemoryOddEvenOff)) {
    // A0 selects odd or even planes; A16, where the window has it, takes its place.
    target = {false, (address & 0xfffe) | high, static_cast<u8>(address & 1 ? 0xa : 0x5)};
  } else {
    target = {false, address, 0xf};
  }
  return true;
}

u8 VgaMemory::read_byte(u64 offset) {
  Target target;
  if (!decode(offset, target)) return 0xff;
  const u8* bytes = vram().data();
  if (target.linear) return bytes[target.address];
  std::memcpy(&m_latch, bytes + 4u * target.address, 4);
  if (m_registers.graphics(vga::kGfxMode) & 8) {
    // Read mode 1: bits where all planes that care equal the colour.
    const u32 color = planes(m_registers.graphics(vga::kGfxColorCompare));
    const u32 care = planes(m_registers.graphics(vga::kGfxColorDontCare));
    const u32 differing = (m_latch ^ color) & care;
    return static_cast<u8>(~(differing | differing >> 8 | differing >> 16 | differing >> 24));
  }
  unsigned plane = m_registers.graphics(vga::kGfxReadMap);
  if (m_registers.sequencer(vga::kSeqMemoryMode) & vga::kMemoryChain4) plane = offset & 3;
  else if (target.planes != 0xf) plane = (plane & 2) | (target.planes == 0xa ? 1 : 0);
  return static_cast<u8>(m_latch >> (8 * plane));
}

void VgaMemory::write_byte(u64 offset, u8 value) {
  Target target;
  if (!decode(offset, target)) return;
  u8* bytes = m_memory.ram().host(m_vram_offset);
  if (target.linear) {
    bytes[target.address] = value;
    written(target.address, 1);
    return;
  }
  const u8 rotate = m_registers.graphics(vga::kGfxRotate);
  const auto rotated = [&] {
    const unsigned count = rotate & 7;
    return static_cast<u8>(value >> count | value << (8 - count));
  };
  u32 data, mask = all_planes(m_registers.graphics(vga::kGfxBitMask));
  const u32 set_reset = planes(m_registers.graphics(vga::kGfxSetReset));
  const unsigned mode = m_registers.graphics(vga::kGfxMode) & 3;
  switch (mode) {
    case 0: {
      const u32 enable = planes(m_registers.graphics(vga::kGfxEnableSetReset));
      data = (all_planes(rotated()) & ~enable) | (set_reset & enable);
      break;
    }
    case 1: data = m_latch; break;
    case 2: data = planes(value & 0xf); break;
    default:
      mask &= all_planes(rotated());
      data = set_reset;
      break;
  }
  if (mode != 1) {
    switch (rotate >> 3 & 3) {
      case 1: data &= m_latch; break;
      case 2: data |= m_latch; break;
      case 3: data ^= m_latch; break;
      default: break;
    }
    data = (data & mask) | (m_latch & ~mask);
  }
  const u32 enabled = planes(target.planes & m_registers.sequencer(vga::kSeqMapMask));
  u32 before;
  std::memcpy(&before, bytes + 4u * target.address, 4);
  data = (data & enabled) | (before & ~enabled);
  std::memcpy(bytes + 4u * target.address, &data, 4);
  written(4 * target.address, 4);
}

u64 VgaMemory::read_mmio(u64 offset, unsigned size) {
  u64 value = 0;
  for (unsigned i = 0; i < size; ++i) value |= u64{read_byte((offset + i) & (kWindowSize - 1))} << (8 * i);
  return value;
}

void VgaMemory::write_mmio(u64 offset, unsigned size, u64 value) {
  for (unsigned i = 0; i < size; ++i) write_byte((offset + i) & (kWindowSize - 1), static_cast<u8>(value >> (8 * i)));
}

void VgaMemory::written(u32 offset, u32 size) { m_memory.ram_written(m_vram_offset + offset, size); }

void VgaMemory::clear(u32 size) {
  size = std::min(size, m_vram_size);
  const u32 whole = size & ~static_cast<u32>(kPageMask);
  // Pages go back to the host, so that clearing costs no memory.
  if (whole) m_memory.ram().discard(m_vram_offset, whole);
  std::memset(m_memory.ram().host(m_vram_offset + whole), 0, size - whole);
  written(0, size);
}

}  // namespace vellum
