// The 8254 programmable interval timer: three counters, exact against virtual time.
#pragma once

#include <array>
#include <functional>

#include "devices/device.h"
#include "devices/interrupt_line.h"
#include "devices/port_bus.h"
#include "devices/virtual_clock.h"

namespace vellum {

// Source: Intel 8254 datasheet (order number 231164-005). Ports 40h-43h. The gates of counters 0 and 1 are tied high.
class Pit8254 : public Device, public PortHandler {
 public:
  static constexpr u64 kFrequency = 1193182;  // Hz: 14.31818 MHz / 12

  // `irq0` follows OUT of counter 0.
  Pit8254(VirtualClock& clock, InterruptLine irq0);

  // GATE of counter 2 (port 61h bit 0).
  void set_gate2(bool level);
  // OUT of a counter, 0..2, now.
  bool output(unsigned counter);
  // For a speaker: told of each change of counter 2's OUT, in order, with the clock of kFrequency at which it came. It comes
  // late: when somebody looks at the counter.
  std::function<void(u64 clock, bool level)> listen2;

  std::string_view name() const override { return "pit8254"; }
  void reset(ResetKind kind) override;
  void visit(Archive& archive) override;
  u32 read_port(u16 port, unsigned size) override;
  void write_port(u16 port, unsigned size, u32 value) override;

 private:
  struct Counter {
    u64 clock = 0;            // the input clock up to which the fields below are true
    u8 mode = 0;              // 0..5
    u8 access = 3;            // RW1:RW0: 1 low byte, 2 high byte, 3 low then high
    bool bcd = false;
    bool gate = true;
    bool out = false;
    u16 count_register = 0;   // CR
    u8 write_low = 0;         // the low byte of a two-byte write, until the high byte comes
    bool high_byte_next_write = false;
    bool high_byte_next_read = false;
    bool count_written = false;  // a full count was written since the control word
    bool load_pending = false;   // CR goes to the counting element at the next clock
    bool null_count = true;      // CR has not reached the counting element
    bool running = false;        // the counting element holds a count
    bool expired = false;        // terminal count passed (modes 0, 1, 4, 5)
    u32 loaded = 65536;          // the count in force
    u32 element = 0;             // CE; in mode 3 the clocks left in this half of the wave
    bool count_latched = false, status_latched = false;
    u16 latched_count = 0;
    u8 latched_status = 0;
    void visit(Archive& archive);
  };

  u64 clocks_now() const;
  bool advance(Counter& counter, u64 clocks);  // true: OUT rose at least once on the way
  void sync(unsigned index);
  void rearm();
  u64 clocks_to_out_change(const Counter& counter) const;  // 0: never
  void set_gate(unsigned index, bool level);
  void write_control(u8 value);
  void write_count(unsigned index, u8 value);
  void count_complete(unsigned index);
  u8 read_count(unsigned index);
  u16 element_value(const Counter& counter) const;
  u8 status(const Counter& counter) const;
  void drive_irq0(bool rose);
  void sync_heard(u64 now);
  void report2();

  // Wiring.
  VirtualClock& m_clock;
  InterruptLine m_irq0;
  Timer m_timer;  // the next change of OUT0
  // Derived.
  bool m_irq0_level = false;
  bool m_reported2 = false;  // OUT of counter 2, as its listener knows it
  // Guest-visible state.
  struct State {
    std::array<Counter, 3> counters;
  } m_state;
};

}  // namespace vellum
