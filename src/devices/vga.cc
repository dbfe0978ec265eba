// The display adapter's bus side.
#include "devices/vga.h"

#include <bit>

#include "state/assert.h"

namespace vellum {

namespace spec {
namespace {
// Identity that Linux's bochs driver and OVMF's QemuVideoDxe look for.
constexpr PciIdentity kIdentity = {.vendor = 0x1234,
                                   .device = 0x1111,
                                   .revision = 2,
                                   .class_code = 0x030000,
                                   .subsystem_vendor = 0x1af4,
                                   .subsystem = 0x1100};
constexpr unsigned kFrameBufferBar = 0, kRegisterBar = 2, kRegisterSize = 0x1000;
constexpr u64 kMmioVga = 0x400, kMmioVgaSize = 0x20, kMmioDispi = 0x500;
constexpr u16 kMonoPorts = 0x3b0, kMonoCount = 12, kColorPorts = 0x3c0, kColorCount = 32;
constexpr u16 kDispiIndexPort = 0x1ce;
}  // namespace
}  // namespace spec

Vga::Vga(AddressSpace& memory, PortBus& ports, const VirtualClock& clock, u64 vram_offset, u32 vram_size)
    : PciDevice(spec::kIdentity),
      m_space(memory),
      m_ports(ports),
      m_registers(clock, vram_size),
      m_memory(m_registers, memory, vram_offset, vram_size),
      m_renderer(m_registers, m_memory, memory, vram_offset, clock) {
  VELLUM_ASSERT(std::has_single_bit(vram_size) && vram_size >= 256 * 1024);
  declare_ram_bar(spec::kFrameBufferBar, vram_size, vram_offset, "vga frame buffer");
  declare_memory_bar(spec::kRegisterBar, spec::kRegisterSize, m_mmio, "vga registers");
  m_window = memory.map_mmio("vga window", GuestPhysAddr(VgaMemory::kWindowBase), VgaMemory::kWindowSize, m_memory);
  m_mono_ports = ports.map("vga", spec::kMonoPorts, spec::kMonoCount, *this);
  m_color_ports = ports.map("vga", spec::kColorPorts, spec::kColorCount, *this);
  m_dispi_ports = ports.map("vga dispi", spec::kDispiIndexPort, 3, m_dispi);
  m_registers.reset();
}

Vga::~Vga() {
  m_space.unmap(m_window);
  m_ports.unmap(m_mono_ports);
  m_ports.unmap(m_color_ports);
  m_ports.unmap(m_dispi_ports);
}

void Vga::set_rom(u64 rom_offset, u32 size) { declare_rom_bar(size, rom_offset, "vga rom"); }

void Vga::reset(ResetKind) {
  reset_config();
  m_registers.reset();
  m_memory.reset();
}

void Vga::visit(Archive& archive) {
  archive.begin("config");
  visit_config(archive);
  archive.end();
  archive("registers", m_registers)("memory", m_memory);
}

u32 Vga::read_port(u16 port, unsigned) { return m_registers.read(port); }

void Vga::write_port(u16 port, unsigned, u32 value) { m_registers.write(port, static_cast<u8>(value)); }

void Vga::write_dispi(u16 index, u16 value) {
  if (!m_registers.write_dispi(index, value)) return;
  const u32 depth = m_registers.dispi(vga::kDispiBpp) == 15 ? 16u : m_registers.dispi(vga::kDispiBpp);
  // A 4-bit mode uses all four planes of the same bytes.
  const u64 bits = u64{m_registers.dispi(vga::kDispiXres)} * m_registers.dispi(vga::kDispiYres) * depth;
  m_memory.clear(static_cast<u32>((bits + 7) / 8));
}

u64 Vga::MmioRegisters::read_mmio(u64 offset, unsigned size) {
  if (offset >= spec::kMmioVga && offset < spec::kMmioVga + spec::kMmioVgaSize) {
    u64 value = 0;
    for (unsigned i = 0; i < size; ++i)
      value |= u64{m_vga.m_registers.read(static_cast<u16>(spec::kColorPorts + offset - spec::kMmioVga + i))}
               << (8 * i);
    return value;
  }
  if (offset >= spec::kMmioDispi && offset < spec::kMmioDispi + 2 * vga::kDispiCount) {
    const u16 value = m_vga.m_registers.read_dispi(static_cast<u16>((offset - spec::kMmioDispi) / 2));
    return size == 1 ? value >> (8 * (offset & 1)) & 0xff : value;
  }
  return 0;
}

void Vga::MmioRegisters::write_mmio(u64 offset, unsigned size, u64 value) {
  if (offset >= spec::kMmioVga && offset < spec::kMmioVga + spec::kMmioVgaSize) {
    for (unsigned i = 0; i < size; ++i)
      m_vga.m_registers.write(static_cast<u16>(spec::kColorPorts + offset - spec::kMmioVga + i),
                              static_cast<u8>(value >> (8 * i)));
  } else if (size == 2 && offset >= spec::kMmioDispi && offset < spec::kMmioDispi + 2 * vga::kDispiCount) {
    m_vga.write_dispi(static_cast<u16>((offset - spec::kMmioDispi) / 2), static_cast<u16>(value));
  }
}

u32 Vga::DispiPorts::read_port(u16 port, unsigned size) {
  const u16 value = port == spec::kDispiIndexPort ? m_vga.m_registers.dispi_index()
                                                  : m_vga.m_registers.read_dispi(m_vga.m_registers.dispi_index());
  return size == 1 ? value & 0xff : value;
}

void Vga::DispiPorts::write_port(u16 port, unsigned size, u32 value) {
  if (size == 1) return;  // the registers are 16 bits wide
  if (port == spec::kDispiIndexPort) m_vga.m_registers.set_dispi_index(static_cast<u16>(value));
  else m_vga.write_dispi(m_vga.m_registers.dispi_index(), static_cast<u16>(value));
}

}  // namespace vellum
