// 82371AB (PIIX4) function 3: ACPI power management (PM1, PM timer, GPE0, SMI command port) and the SMBus host.
#pragma once

#include <functional>

#include "devices/pci.h"
#include "devices/virtual_clock.h"

namespace vellum {

class Piix4Pm final : public PciDevice, public PortHandler {
 public:
  struct Callbacks {
    std::function<void()> power_off;  // the guest entered S5
    std::function<void()> raise_smi;  // the CPU's SMI# input
  };
  static constexpr u16 kGpe0Base = 0xafe0;    // as the DSDT and FADT say
  static constexpr u8 kAcpiEnable = 0xf1, kAcpiDisable = 0xf0;  // values for the SMI command port B2h
  static constexpr u8 kSleepTypeS5 = 0;

  // `sci` is active high here; the board wires it to Piix3's kSci pin.
  Piix4Pm(PciBus& bus, VirtualClock& clock, InterruptLine sci, Callbacks callbacks);
  ~Piix4Pm() override;

  // Where the firmware has placed the power management ports; 0 while they are off.
  u16 pm_base() const { return m_pm_base; }
  // The user pressed the power button (system_powerdown).
  void press_power_button();
  // The RTC's alarm output, seen as a wake event.
  void set_rtc_alarm();

  std::string_view name() const override { return "piix4-pm"; }
  void reset(ResetKind kind) override;
  void visit(Archive& archive) override;

  u32 read_port(u16 port, unsigned size) override;
  void write_port(u16 port, unsigned size, u32 value) override;
  unsigned max_port_size() const override { return 4; }

 protected:
  void config_written(unsigned offset, unsigned size) override;

 private:
  u32 read_pm(unsigned offset);  // the aligned doubleword
  void write_pm(unsigned offset, u8 value);
  u8 read_smbus(unsigned offset);
  void write_smbus(unsigned offset, u8 value);
  void write_smi_command(u8 value);
  void enter_sleep_state();
  u64 timer_count() const;
  void catch_up_timer();
  void update_timer();
  bool sci_level() const;
  void update_sci();
  void update_mappings();

  // Wiring.
  PortBus& m_ports;
  VirtualClock& m_clock;
  InterruptLine m_sci;
  Callbacks m_callbacks;
  // Derived.
  Timer m_overflow_timer;
  PortBus::Id m_pm_mapping = 0, m_smbus_mapping = 0;
  std::array<PortBus::Id, 2> m_fixed_mappings;
  u16 m_pm_base = 0, m_smbus_base = 0;
  // Guest-visible state, beside the configuration space.
  struct State {
    u16 pm1_status = 0, pm1_enable = 0, pm1_control = 0;
    u64 timer_half_periods = 0;  // how often the timer's top bit has toggled, as far as the status bit knows
    u16 gpe0_status = 0, gpe0_enable = 0;
    u16 general_status = 0, general_enable = 0;
    u32 processor_control = 0;
    u16 global_status = 0, global_enable = 0;
    u32 device_status = 0, global_control = 0, device_control = 0;
    u32 general_outputs = 0;
    u8 smi_command = 0, smi_status = 0;
    u8 smbus_host_status = 0, smbus_slave_status = 0, smbus_control = 0, smbus_command = 0, smbus_address = 0;
    u8 smbus_data0 = 0, smbus_data1 = 0, smbus_slave_control = 0, smbus_shadow_command = 0;
    u16 smbus_slave_event = 0, smbus_slave_data = 0;
    u8 smbus_block_index = 0;
    std::array<u8, 32> smbus_block{};
  } m_state;
};

}  // namespace vellum
