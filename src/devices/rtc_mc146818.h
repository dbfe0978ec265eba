// The MC146818A real-time clock with 256 bytes of CMOS RAM.
#pragma once

#include <array>
#include <functional>

#include "devices/device.h"
#include "devices/interrupt_line.h"
#include "devices/port_bus.h"
#include "devices/virtual_clock.h"

namespace vellum {

// Sources: Motorola MC146818A datasheet (MC146818A/D); 82371AB PIIX4 datasheet (290562), 4.2.4 for ports 70h-73h.
// Ports: 70h index (bit 7 masks NMI), 71h data; 72h index and 73h data of the upper 128 bytes.
class RtcMc146818 : public Device, public PortHandler {
 public:
  // The clock shows `base_seconds` (seconds since 1970-01-01, in the time zone that the guest shall see) at virtual
  // time 0. `irq8` is a level, active until register C is read. `nmi_mask` is told bit 7 of port 70h at every write and
  // reset.
  RtcMc146818(VirtualClock& clock, InterruptLine irq8, u64 base_seconds,
              std::function<void(bool masked)> nmi_mask = {});

  // Presets a byte of CMOS RAM (0Eh..FFh; 32h, the century, belongs to the clock): it takes effect at once and at each
  // power-on reset. A system reset keeps what the guest wrote, as the battery does.
  void preset(u8 index, u8 value);
  u8 cmos(u8 index) const { return m_state.ram[index]; }
  // Writes CMOS RAM as firmware would (shutdown status 0Fh, for instance); not kept over a power-on reset.
  void set_cmos(u8 index, u8 value);

  std::string_view name() const override { return "rtc_mc146818"; }
  void reset(ResetKind kind) override;
  void visit(Archive& archive) override;
  u32 read_port(u16 port, unsigned size) override;
  void write_port(u16 port, unsigned size, u32 value) override;

 private:
  u8 read(u8 index);
  void write(u8 index, u8 value);
  void set_time(u64 seconds);
  void second_passed();
  void update_cycle();
  void catch_up();
  u64 elapsed() const;            // ticks since the divider chain started
  bool alarm_matches() const;
  bool dividers_running() const;
  u64 periodic_rate() const;      // Hz; 0: off
  u64 periodic_count() const;     // periods since the divider chain started
  void note_periodic();
  bool update_in_progress() const;
  void update_interrupt();
  void arm_update();
  void arm_periodic();
  u8 encode(unsigned value) const;
  unsigned decode(u8 value) const;
  u8 encode_hour(unsigned hour) const;
  unsigned decode_hour(u8 value) const;

  // Configuration.
  u64 m_base_seconds;
  std::array<u8, 256> m_preset{};
  // Wiring.
  VirtualClock& m_clock;
  InterruptLine m_irq8;
  std::function<void(bool)> m_nmi_mask;
  Timer m_update_timer;
  Timer m_periodic_timer;
  // Guest-visible state.
  struct State {
    std::array<u8, 256> ram{};  // registers 00h..0Dh among them; C holds the flags without IRQF
    u8 index = 0;
    u8 extended_index = 0;
    bool nmi_masked = true;
    // The divider chain: it started at `divider_start`, and is at a whole second each second after it.
    i64 divider_start = 0;  // ticks; before power-on (negative) if the chain was released early
    u64 periodic_seen = 0;  // periods up to this one have been turned into PF
  } m_state;
};

}  // namespace vellum
