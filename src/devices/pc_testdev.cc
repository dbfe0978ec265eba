// pc-testdev.
#include "devices/pc_testdev.h"

#include <cstring>

namespace vellum {

namespace {

// kvm-unit-tests: x86/emulator.c and lib/x86 use these.
namespace spec {
constexpr u16 kRegister = 0xe0, kRegisterBytes = 0xe8, kLines = 0x2000;
}

}  // namespace

PcTestdev::PcTestdev(InterruptSink& lines) : m_lines(lines) {}

void PcTestdev::reset(ResetKind) {
  const u32 driven = m_state.lines;
  m_state = State{};
  for (unsigned line = 0; line < kLines; ++line)
    if (driven >> line & 1) m_lines.set_input(line, false);
}

void PcTestdev::visit(Archive& archive) {
  auto& [data, lines, memory] = m_state;
  const u32 before = lines;
  archive("data", data)("lines", lines)("memory", memory);
  archive.require(lines >> kLines == 0, "test device interrupt lines");
  if (archive.loading() && !archive.failed())
    for (unsigned line = 0; line < kLines; ++line)
      if ((lines | before) >> line & 1) m_lines.set_input(line, lines >> line & 1);
}

u32 PcTestdev::read_port(u16 port, unsigned size) {
  u32 value = 0;
  for (unsigned i = 0; i < size; ++i) {
    const u16 at = static_cast<u16>(port + i);
    const u16 block = at & 0xfffc;
    const u8 byte = block == spec::kRegister || block == spec::kRegisterBytes
                        ? static_cast<u8>(m_state.data >> (8 * (at & 3)))
                        : 0;
    value |= static_cast<u32>(byte) << (8 * i);
  }
  return value;
}

void PcTestdev::write_port(u16 port, unsigned size, u32 value) {
  if (port >= spec::kLines) {
    const unsigned line = port - spec::kLines;
    if (line >= kLines) return;
    const u32 bit = 1u << line;
    m_state.lines = value ? m_state.lines | bit : m_state.lines & ~bit;
    m_lines.set_input(line, value != 0);
    return;
  }
  for (unsigned i = 0; i < size; ++i) {
    const u16 at = static_cast<u16>(port + i);
    const u16 block = at & 0xfffc;
    if (block != spec::kRegister && block != spec::kRegisterBytes) continue;
    const unsigned shift = 8 * (at & 3);
    m_state.data = (m_state.data & ~(0xffu << shift)) | (value >> (8 * i) & 0xff) << shift;
  }
}

u64 PcTestdev::read_mmio(u64 offset, unsigned size) {
  u64 value = 0;
  if (offset < kMemorySize && size <= kMemorySize - offset) std::memcpy(&value, &m_state.memory[offset], size);
  return value;
}

void PcTestdev::write_mmio(u64 offset, unsigned size, u64 value) {
  if (offset < kMemorySize && size <= kMemorySize - offset) std::memcpy(&m_state.memory[offset], &value, size);
}

}  // namespace vellum
