// The 16550A UART with FIFOs.
#pragma once

#include <array>
#include <deque>
#include <string>

#include "devices/character_backend.h"
#include "devices/device.h"
#include "devices/interrupt_line.h"
#include "devices/port_bus.h"
#include "devices/virtual_clock.h"

namespace vellum {

// Source: National Semiconductor PC16550D datasheet (June 1995), section 8. Eight ports; the board maps them at 3F8h,
// 2F8h, 3E8h or 2E8h. Sent bytes leave at once; the receiver takes bytes as it has room.
class Uart16550 : public Device, public PortHandler {
 public:
  // `name` is the device's name, "uart16550.0". `irq` is a level (INTR gated by OUT2, as the PC's serial adapter wires
  // it). `backend` may be null: nothing connected. The UART sets the backend's can_receive and receive.
  Uart16550(std::string name, VirtualClock& clock, InterruptLine irq, CharacterBackend* backend);
  ~Uart16550() override;

  // A break condition arrives on the line.
  void receive_break();
  // Modem input lines as MSR bits 7:4 (DCD 80h, RI 40h, DSR 20h, CTS 10h); B0h when something is connected.
  void set_modem_inputs(u8 lines);
  // DTR and RTS as MCR bits 0 and 1, and break (LCR bit 6): called when the guest changes them.
  std::function<void(u8 modem_control, bool break_condition)> outputs_changed;

  std::string_view name() const override { return m_name; }
  void reset(ResetKind kind) override;
  void visit(Archive& archive) override;
  u32 read_port(u16 port, unsigned size) override;
  void write_port(u16 port, unsigned size, u32 value) override;

 private:
  struct Received {
    u8 data = 0;
    u8 errors = 0;  // LSR bits 4:2 that came with it
    void visit(Archive& archive) { archive("data", data)("errors", errors); }
  };
  bool fifo_enabled() const { return m_state.fifo_control & 1; }
  usize capacity() const { return fifo_enabled() ? 16 : 1; }
  usize trigger_level() const;
  bool loopback() const;
  usize room() const;
  void accept(u8 data, u8 errors);
  void transmit(u8 data);
  u8 interrupt_identification() const;
  u8 line_status() const;
  u8 modem_lines() const;
  void update_modem(u8 before);
  void update_interrupt();
  void restart_timeout();
  Ticks character_time() const;
  void tell_room();
  u8 read_data();

  // Configuration.
  std::string m_name;
  // Wiring.
  VirtualClock& m_clock;
  InterruptLine m_irq;
  CharacterBackend* m_backend;
  Timer m_timeout_timer;
  // Guest-visible state.
  struct State {
    u16 divisor = 12;
    u8 interrupt_enable = 0;
    u8 fifo_control = 0;
    u8 line_control = 0;
    u8 modem_control = 0;
    u8 line_errors = 0;       // LSR bits 4:1, until LSR is read
    u8 modem_inputs = 0;      // MSR bits 7:4 from outside
    u8 modem_deltas = 0;      // MSR bits 3:0
    u8 scratch = 0;
    bool transmitter_empty_pending = false;  // THRE interrupt not yet taken
    bool timeout_pending = false;            // character timeout
    std::deque<Received> received;
  } m_state;
};

}  // namespace vellum
