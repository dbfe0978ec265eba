// A PS/2 mouse with the IntelliMouse extensions: wheel (ID 3), five buttons (ID 4).
#pragma once

#include <array>
#include <deque>

#include "devices/ps2_device.h"
#include "devices/virtual_clock.h"

namespace vellum {

// Sources: IBM PS/2 Hardware Interface Technical Reference, "Mouse"; Microsoft, "Five-Button and Wheel Mouse Protocol".
class Ps2Mouse : public Ps2Device {
 public:
  enum Button : u8 { kLeft = 1, kRight = 2, kMiddle = 4, kFourth = 8, kFifth = 16 };

  explicit Ps2Mouse(VirtualClock& clock);

  // The host's mouse moved by (dx right, dy down) counts, the wheel by `wheel` notches (positive: away from the user,
  // scrolling up), and `buttons` (a set of Button) are down now.
  void move(int dx, int dy, int wheel, u8 buttons);
  // Whether the guest listens (stream mode with reporting enabled).
  bool reporting() const { return m_state.reporting; }

  std::string_view name() const override { return "ps2_mouse"; }
  void reset(ResetKind kind) override;
  void visit(Archive& archive) override;
  void receive(u8 byte) override;

 private:
  enum class Mode : u8 { Stream, Remote };

  // What happened between two changes of the buttons, not yet reported.
  struct Step {
    i32 x = 0, y = 0, z = 0;
    u8 buttons = 0;  // that are down since its beginning
    void visit(Archive& archive);
  };

  void set_defaults();
  void command(u8 byte);
  void argument(u8 byte);
  void note_rate(u8 rate);
  void record(int dx, int dy, int wheel);
  bool is_news(const Step& step) const;
  bool has_news();
  void send_packet();
  void report(u8 count);
  void sample();
  Ticks period() const;
  void self_test_done();

  // Wiring.
  VirtualClock& m_clock;
  Timer m_sample_timer;
  Timer m_self_test_timer;
  // Guest-visible state.
  struct State {
    Mode mode = Mode::Stream;
    bool wrap = false;
    bool reporting = false;
    bool scaling_2_1 = false;
    u8 resolution = 2;
    u8 sample_rate = 100;
    u8 identity = 0;
    u8 pending_command = 0;
    std::array<u8, 3> last_rates{};  // of F3h, newest last: the knock that unlocks wheel and buttons
    std::deque<Step> steps;          // oldest first: a click within one sample is seen as press and release
    u8 buttons = 0;                  // down now
    u8 reported_buttons = 0;
    std::array<u8, 4> last_packet{};  // for FEh
    u8 last_length = 0;
  } m_state;
};

}  // namespace vellum
