// 82093AA I/O APIC: 24 inputs redirected as messages to local APICs.
#pragma once

#include <string>

#include "devices/apic_bus.h"
#include "devices/device.h"
#include "devices/interrupt_line.h"
#include "mmu/address_space.h"

namespace vellum {

class IoApic final : public Device, public MmioHandler, public InterruptSink {
 public:
  static constexpr u64 kDefaultBase = 0xfec00000;
  static constexpr unsigned kPins = 24;

  IoApic(AddressSpace& memory, ApicBus& bus, u64 base = kDefaultBase);
  ~IoApic() override;

  void set_input(unsigned pin, bool level) override;
  void end_of_interrupt(u8 vector);

  std::string describe() const;  // lines for `info pic`

  std::string_view name() const override { return "ioapic"; }
  void reset(ResetKind kind) override;
  void visit(Archive& archive) override;

  u64 read_mmio(u64 offset, unsigned size) override;
  void write_mmio(u64 offset, unsigned size, u64 value) override;

 private:
  u32 read_register(u8 index) const;
  void write_register(u8 index, u32 value);
  void service(unsigned pin);

  // Wiring.
  AddressSpace& m_memory;
  ApicBus& m_bus;
  AddressSpace::Id m_mapping;
  // Guest-visible state.
  struct State {
    u8 select = 0;
    u8 id = 0;
    u32 inputs = 0;   // levels
    u32 pending = 0;  // edges latched and not yet delivered
    std::array<u64, kPins> redirection{};
  } m_state;
};

}  // namespace vellum
