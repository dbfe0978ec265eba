// A PS/2 keyboard with scan code sets 1, 2 and 3.
#pragma once

#include <array>
#include <span>

#include "devices/key_code.h"
#include "devices/ps2_device.h"
#include "devices/virtual_clock.h"

namespace vellum {

// Source: IBM PS/2 Hardware Interface Technical Reference, "Keyboard and Auxiliary Device Controller" and "101- and
// 102-Key Keyboard".
class Ps2Keyboard : public Ps2Device {
 public:
  explicit Ps2Keyboard(VirtualClock& clock);

  // A key goes down or up. Repeats are the keyboard's own (typematic): pressing a pressed key does nothing.
  void key(KeyCode code, bool down);
  // Whether it holds so little that whatever the next key sends fits.
  bool has_room() const;
  // LEDs as the guest set them: bit 0 Scroll Lock, 1 Num Lock, 2 Caps Lock.
  u8 leds() const { return m_state.leds; }
  std::function<void(u8 leds)> leds_changed;

  std::string_view name() const override { return "ps2_keyboard"; }
  void reset(ResetKind kind) override;
  void visit(Archive& archive) override;
  void receive(u8 byte) override;

 private:
  void set_defaults();
  void send_key(KeyCode code, bool down);
  void send_set2(std::span<const u8> bytes);
  bool is_pressed(KeyCode code) const;
  void handle_argument(u8 byte);
  void self_test_done();
  void repeat();
  Ticks repeat_delay() const;
  Ticks repeat_period() const;

  // Wiring.
  VirtualClock& m_clock;
  Timer m_repeat_timer;
  Timer m_self_test_timer;
  // Guest-visible state.
  struct State {
    u8 scan_set = 2;
    u8 leds = 0;
    u8 typematic = 0x2b;      // F3h's argument: 500 ms, 10.9 a second
    bool scanning = true;
    u8 pending_command = 0;   // waits for its argument; 0: none
    bool overrun = false;     // the overrun code stands in the queue
    u8 repeating = 0;         // KeyCode
    std::array<u8, 32> pressed{};      // one bit for each KeyCode
    std::array<u8, 256> key_types{};   // by set 3 code
  } m_state;
};

}  // namespace vellum
