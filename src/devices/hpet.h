// High precision event timer, IA-PC HPET specification 1.0a: three timers on a 100 MHz 64-bit counter.
#pragma once

#include "devices/device.h"
#include "devices/interrupt_line.h"
#include "devices/virtual_clock.h"
#include "mmu/address_space.h"

namespace vellum {

// As an InterruptSink it sits between the PIT (pin 0), the RTC (pin 1) and their IRQs: legacy replacement routing cuts
// them off and puts timers 0 and 1 in their place.
class Hpet final : public Device, public MmioHandler, public InterruptSink {
 public:
  static constexpr u64 kDefaultBase = 0xfed00000;
  static constexpr unsigned kTimers = 3;
  static constexpr u32 kPeriodFemtoseconds = 10'000'000;
  static constexpr unsigned kPit = 0, kRtc = 1;

  // `isa` takes IRQ 0 and IRQ 8 as the board routes ISA interrupts (8259 and IOAPIC); `io_apic` takes the timers' own
  // routes (inputs 16 to 23 only, which nothing else drives).
  Hpet(AddressSpace& memory, VirtualClock& clock, InterruptSink& isa, InterruptSink& io_apic, u64 base = kDefaultBase);
  ~Hpet() override;

  void set_input(unsigned pin, bool level) override;

  std::string_view name() const override { return "hpet"; }
  void reset(ResetKind kind) override;
  void visit(Archive& archive) override;

  u64 read_mmio(u64 offset, unsigned size) override;
  void write_mmio(u64 offset, unsigned size, u64 value) override;
  unsigned max_mmio_size() const override { return 8; }

 private:
  struct Comparator {
    u64 configuration = 0;
    u64 comparator = 0;
    u64 period = 0;
    u64 route = 0;
    bool output = false;  // level of the timer's line as last set
    unsigned output_pin = 0;
    void visit(Archive& archive);
  };
  u64 counter() const;
  u64 read_register(u64 offset) const;
  void write_register(u64 offset, u64 value, u64 mask);
  void write_timer(unsigned index, unsigned offset, u64 value, u64 mask);
  void arm(unsigned index);
  void expired(unsigned index);
  void update_output(unsigned index);
  void drive(unsigned index, bool level);
  void update_legacy();
  u64 timer_mask(unsigned index) const;
  bool legacy() const;
  bool running() const;

  // Wiring.
  AddressSpace& m_memory;
  VirtualClock& m_clock;
  InterruptSink& m_isa;
  InterruptSink& m_io_apic;
  AddressSpace::Id m_mapping;
  // Derived.
  std::array<Timer, kTimers> m_timers;
  // Guest-visible state.
  struct State {
    u64 configuration = 0;
    u64 interrupt_status = 0;
    u64 counter_base = 0;   // the counter's value at `counter_start`, or while halted
    Ticks counter_start = 0;
    std::array<Comparator, kTimers> timers{};
    std::array<bool, 2> legacy_inputs{};
  } m_state;
};

}  // namespace vellum
