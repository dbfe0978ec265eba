// The i8042 keyboard controller with the PS/2 auxiliary port.
#pragma once

#include <array>
#include <deque>
#include <functional>

#include "devices/device.h"
#include "devices/interrupt_line.h"
#include "devices/port_bus.h"
#include "devices/ps2_device.h"
#include "devices/ps2_scan_codes.h"
#include "devices/virtual_clock.h"

namespace vellum {

// Source: IBM PS/2 Hardware Interface Technical Reference, "Keyboard and Auxiliary Device Controller". Ports 60h (data)
// and 64h (status, command).
class I8042 : public Device, public PortHandler {
 public:
  struct Wiring {
    InterruptLine irq1, irq12;
    std::function<void(bool)> set_a20;  // to A20Gate::set_keyboard_controller
    std::function<void()> reset;        // requests a system reset (it must not reset from within the call)
  };
  // The keyboard and the mouse must outlive the controller, and are reset and visited by the board as devices.
  I8042(VirtualClock& clock, Ps2Device& keyboard, Ps2Device& mouse, Wiring wiring);
  ~I8042() override;

  std::string_view name() const override { return "i8042"; }
  void reset(ResetKind kind) override;
  void visit(Archive& archive) override;
  u32 read_port(u16 port, unsigned size) override;
  void write_port(u16 port, unsigned size, u32 value) override;

 private:
  enum class Source : u8 { None, Controller, Keyboard, Mouse };

  struct Response {
    u8 value = 0;
    Source source = Source::None;
    void visit(Archive& archive);
  };

  u8 status() const;
  u8 output_port() const;
  void write_command(u8 command);
  void write_data(u8 value);
  void write_output_port(u8 value);
  void respond(u8 value, Source source = Source::Controller);
  void next_response();
  void pull();
  bool enabled(Source source) const;
  void schedule();
  void update_interrupts();

  // Wiring.
  VirtualClock& m_clock;
  Ps2Device& m_keyboard;
  Ps2Device& m_mouse;
  Wiring m_wiring;
  Timer m_timer;  // when the next byte has come over the serial line of a device
  // Guest-visible state.
  struct State {
    std::array<u8, 32> ram{};  // byte 0 is the command byte
    u8 output = 0;             // output buffer
    Source source = Source::None;  // who filled it; None: it is empty
    bool last_was_command = false;
    u8 pending_command = 0;    // waits for its data byte; 0: none
    u8 input_poll = 0;         // the command that shows half of the input port in the status register; 0: none
    bool a20 = true;
    ScanCodeTranslator translator;
    std::deque<Response> responses;  // answers that wait for the output buffer
  } m_state;
};

}  // namespace vellum
