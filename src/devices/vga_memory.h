// The VGA's display memory as the CPU sees it through the window at A0000h: planes, latches, write and read modes.
#pragma once

#include <array>
#include <span>

#include "devices/vga_registers.h"
#include "mmu/address_space.h"

namespace vellum {

// Plane p's byte at address a stands at vram[4 * a + p] for a below 64 KiB; linear modes use the same memory byte by
// byte.
class VgaMemory : public MmioHandler {
 public:
  static constexpr u64 kWindowBase = 0xa0000, kWindowSize = 0x20000;

  VgaMemory(VgaRegisters& registers, AddressSpace& memory, u64 vram_offset, u32 vram_size)
      : m_registers(registers), m_memory(memory), m_vram_offset(vram_offset), m_vram_size(vram_size) {}

  void reset() { m_latch = 0; }
  void visit(Archive& archive) { archive("latch", m_latch); }

  // offset counts from A0000h.
  u64 read_mmio(u64 offset, unsigned size) override;
  void write_mmio(u64 offset, unsigned size, u64 value) override;

  std::span<const u8> vram() const { return {m_memory.ram().host(m_vram_offset), m_vram_size}; }
  u8 plane_byte(unsigned plane, u16 address) const { return vram()[4u * address + plane]; }
  // Zeroes the first `size` bytes of display memory.
  void clear(u32 size);

 private:
  struct Target {  // what a window address selects
    bool linear;
    u32 address;   // linear: in vram; else: in each plane
    u8 planes;     // planes that the address itself selects
  };
  bool decode(u64 offset, Target& target) const;
  u8 read_byte(u64 offset);
  void write_byte(u64 offset, u8 value);
  void written(u32 offset, u32 size);

  // Wiring.
  VgaRegisters& m_registers;
  AddressSpace& m_memory;
  u64 m_vram_offset;
  u32 m_vram_size;
  // Guest-visible state.
  u32 m_latch = 0;  // plane p in bits 8p+7..8p
};

}  // namespace vellum
