// pc-testdev: the registers that kvm-unit-tests expects of `-device pc-testdev`.
#pragma once

#include <array>

#include "devices/device.h"
#include "devices/interrupt_line.h"
#include "devices/port_bus.h"
#include "mmu/address_space.h"

namespace vellum {

// Source: kvm-unit-tests, x86/README and lib/x86 (what the tests access).
// Ports: E0h-E3h a 32-bit register, readable and writable at every width; E4h-E7h "flush page", without effect on a
// machine without shadow pages; E8h-EBh the same register, byte by byte; 2000h-2017h set interrupt line 0..23 to the
// value written. Memory: 64 KiB of bytes at FF000000h. The board maps both.
class PcTestdev : public Device, public PortHandler, public MmioHandler {
 public:
  static constexpr u64 kMemoryBase = 0xff000000;
  static constexpr u64 kMemorySize = 0x10000;
  static constexpr unsigned kLines = 24;

  // `lines` has the 24 inputs of the interrupt controller as pins (global system interrupts).
  explicit PcTestdev(InterruptSink& lines);

  std::string_view name() const override { return "pc_testdev"; }
  void reset(ResetKind kind) override;
  void visit(Archive& archive) override;
  u32 read_port(u16 port, unsigned size) override;
  void write_port(u16 port, unsigned size, u32 value) override;
  unsigned max_port_size() const override { return 4; }
  u64 read_mmio(u64 offset, unsigned size) override;
  void write_mmio(u64 offset, unsigned size, u64 value) override;
  unsigned max_mmio_size() const override { return 8; }

 private:
  // Wiring.
  InterruptSink& m_lines;
  // Guest-visible state.
  struct State {
    u32 data = 0;
    u32 lines = 0;  // levels driven
    std::array<u8, kMemorySize> memory{};
  } m_state;
};

}  // namespace vellum
