// A CPU's local APIC in xAPIC and x2APIC mode, SDM Vol. 3A chapter 11.
#pragma once

#include <functional>
#include <optional>

#include "devices/apic_bus.h"
#include "devices/device.h"
#include "devices/interrupt_line.h"
#include "devices/virtual_clock.h"
#include "mmu/address_space.h"

namespace vellum {

// The CPU's inputs that the local APIC drives.
class ApicCpu {
 public:
  virtual ~ApicCpu() = default;
  virtual void set_interrupt_request(bool level) = 0;  // a level: INTR, from the APIC's own vectors or the 8259
  virtual void raise_nmi() = 0;
  virtual void raise_smi() = 0;
  virtual void raise_init() = 0;
  virtual void start_up(u8 vector) = 0;  // SIPI: run at vector << 12 if waiting for it, else ignored
};

// As an InterruptSink: pin 0 is LINT0 (wired to the 8259's INTR), pin 1 is LINT1 (wired to NMI).
class LocalApic final : public Device, public MmioHandler, public InterruptSink {
 public:
  struct Callbacks {
    std::function<u8()> acknowledge_pic;  // INTA cycle of the 8259s
    std::function<u64()> read_tsc;        // the guest's time-stamp counter
    // The virtual time at which the guest's time-stamp counter reaches a value (now or earlier: already reached).
    std::function<Ticks(u64 tsc)> tsc_to_ticks;
  };
  struct Options {
    u32 id = 0;
    bool bootstrap = true;
    bool x2apic = true;               // CPUID.01H:ECX.21
    bool tsc_deadline = true;         // CPUID.01H:ECX.24
    unsigned physical_address_bits = 40;
  };

  LocalApic(AddressSpace& memory, VirtualClock& clock, ApicBus& bus, ApicCpu& cpu, Options options,
            Callbacks callbacks);
  ~LocalApic() override;

  // The CPU's side; signatures as CpuEnvironment has them. read/write_msr serve 1Bh, 6E0h and 800h-8FFh; false: #GP(0).
  std::optional<u8> acknowledge();
  u8 task_priority() const { return m_state.task_priority >> 4; }
  void set_task_priority(u8 cr8);
  bool read_msr(u32 index, u64& value);
  bool write_msr(u32 index, u64 value);
  // The time-stamp counter was written or the clock's rate changed: the deadline timer is computed anew.
  void tsc_changed() { update_timer(); }
  // INIT# reset this CPU: the APIC goes to its power-up state but keeps its id and IA32_APIC_BASE, 11.4.7.3.
  void init();

  // The bus's side.
  bool accepts(const ApicMessage& message) const;   // does the destination select this APIC?
  u8 arbitration_priority() const;                  // for lowest-priority delivery: the higher, the less wanted
  void receive(const ApicMessage& message);
  u32 id() const { return m_state.id; }
  bool enabled() const;                             // IA32_APIC_BASE.EN
  bool x2apic_mode() const;
  bool software_enabled() const;

  void set_input(unsigned pin, bool level) override;

  std::string describe() const;  // lines for `info lapic`

  std::string_view name() const override { return m_name; }
  void reset(ResetKind kind) override;
  void visit(Archive& archive) override;

  u64 read_mmio(u64 offset, unsigned size) override;
  void write_mmio(u64 offset, unsigned size, u64 value) override;

 private:
  enum Lvt : u8 { kLvtCmci, kLvtTimer, kLvtThermal, kLvtPerformance, kLvtLint0, kLvtLint1, kLvtError, kLvtCount };
  u32 read_register(unsigned index);
  bool write_register(unsigned index, u32 value);
  void write_icr(u64 value);
  void write_lvt(Lvt which, u32 value);
  void reset_registers();
  void end_of_interrupt();
  void request_vector(u8 vector, bool level_triggered);
  void trigger_lvt(Lvt which);
  void record_error(u32 bit);
  u8 processor_priority() const;
  u32 logical_id() const;
  int deliverable_vector() const;
  bool pic_passes() const;
  void update_request();
  void update_mapping();
  bool set_base(u64 value);
  void timer_expired();
  void settle_count();
  void update_timer();
  void start_count();
  u32 current_count() const;
  unsigned divider() const;

  // Configuration.
  std::string m_name;
  Options m_options;
  // Wiring.
  AddressSpace& m_memory;
  VirtualClock& m_clock;
  ApicBus& m_bus;
  ApicCpu& m_cpu;
  Callbacks m_callbacks;
  // Derived.
  Timer m_timer;
  AddressSpace::Id m_mapping = 0;
  u64 m_mapped_at = 0;
  bool m_request = false;
  // Guest-visible state.
  struct State {
    u64 base = 0;  // IA32_APIC_BASE
    u32 id = 0;
    u8 task_priority = 0;
    u32 logical_destination = 0, destination_format = 0xffffffff, spurious = 0xff;
    std::array<u32, 8> in_service{}, trigger_mode{}, requested{};
    u32 error_status = 0, error_pending = 0;
    u64 interrupt_command = 0;
    std::array<u32, kLvtCount> lvt{};
    u32 initial_count = 0, divide_configuration = 0;
    Ticks count_start = 0;   // when the count began, from initial_count
    bool counting = false;
    u64 tsc_deadline = 0;
    std::array<bool, 2> lint{};  // levels of the input pins
  } m_state;
};

}  // namespace vellum
