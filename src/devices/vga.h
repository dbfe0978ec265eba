// The display adapter: a VGA with the Bochs VBE extension as PCI function 1234:1111.
#pragma once

#include <string>

#include "devices/pci.h"
#include "devices/port_bus.h"
#include "devices/screen_source.h"
#include "devices/vga_memory.h"
#include "devices/vga_registers.h"
#include "devices/vga_renderer.h"
#include "devices/vga_text.h"
#include "devices/virtual_clock.h"

namespace vellum {

// Frame buffer at BAR0, registers at BAR2, VGA BIOS in the expansion ROM BAR, legacy ports 3B0h-3DFh and 1CEh-1CFh, and
// the memory window at A0000h. The frame buffer is guest RAM that the board allots; the machine saves its content.
class Vga : public PciDevice, public PortHandler, public ScreenSource {
 public:
  static constexpr u32 kDefaultVramSize = 16u << 20;

  // vram_size: a power of two of at least 256 KiB, at vram_offset of memory.ram().
  Vga(AddressSpace& memory, PortBus& ports, const VirtualClock& clock, u64 vram_offset, u32 vram_size);
  ~Vga() override;

  // The VGA BIOS: `size` bytes (a power of two) at rom_offset of memory.ram(), already filled in. Before attaching.
  void set_rom(u64 rom_offset, u32 size);

  const VgaRegisters& registers() const { return m_registers; }
  const VgaMemory& memory() const { return m_memory; }

  std::span<const ScreenRectangle> refresh() override { return m_renderer.refresh(); }
  const ScreenFrame& frame() const override { return m_renderer.frame(); }
  TextScreen text() const override { return read_text_screen(m_registers, m_memory); }
  // The rows of the text screen as UTF-8; empty in a graphics mode.
  std::string text_screen() const { return to_utf8(text()); }

  std::string_view name() const override { return "vga"; }
  void reset(ResetKind kind) override;
  void visit(Archive& archive) override;

  u32 read_port(u16 port, unsigned size) override;
  void write_port(u16 port, unsigned size, u32 value) override;

 private:
  // BAR2, as QEMU's docs/specs/standard-vga.rst describes it: VGA ports 3C0h-3DFh from 400h, DISPI registers from 500h.
  class MmioRegisters : public MmioHandler {
   public:
    explicit MmioRegisters(Vga& vga) : m_vga(vga) {}
    u64 read_mmio(u64 offset, unsigned size) override;
    void write_mmio(u64 offset, unsigned size, u64 value) override;
    unsigned max_mmio_size() const override { return 2; }

   private:
    Vga& m_vga;
  };
  // The DISPI ports: 1CEh index, 1CFh (and 1D0h) data, 16 bits wide.
  class DispiPorts : public PortHandler {
   public:
    explicit DispiPorts(Vga& vga) : m_vga(vga) {}
    u32 read_port(u16 port, unsigned size) override;
    void write_port(u16 port, unsigned size, u32 value) override;
    unsigned max_port_size() const override { return 2; }

   private:
    Vga& m_vga;
  };
  void write_dispi(u16 index, u16 value);

  // Wiring.
  AddressSpace& m_space;
  PortBus& m_ports;
  VgaRegisters m_registers;
  VgaMemory m_memory;
  VgaRenderer m_renderer;
  MmioRegisters m_mmio{*this};
  DispiPorts m_dispi{*this};
  AddressSpace::Id m_window = 0;
  PortBus::Id m_mono_ports = 0, m_color_ports = 0, m_dispi_ports = 0;
};

}  // namespace vellum
