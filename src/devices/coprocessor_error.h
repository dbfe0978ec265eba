// The coprocessor error logic of the PC: FERR# of the FPU to IRQ 13, cleared through port F0h.
#pragma once

#include "devices/device.h"
#include "devices/interrupt_line.h"
#include "devices/port_bus.h"

namespace vellum {

// Source: 82371SB PIIX3 datasheet (290550), "Coprocessor Error Register": an active FERR# asserts IRQ 13; a write
// of any value to port F0h negates it, until FERR# becomes active anew. The board maps ports F0h and F1h (the second was
// the 80287's reset).
class CoprocessorError : public Device, public PortHandler {
 public:
  explicit CoprocessorError(InterruptLine irq13) : m_irq13(irq13) {}

  // FERR#, as a level; true is active.
  void set_ferr(bool level);

  std::string_view name() const override { return "coprocessor_error"; }
  void reset(ResetKind kind) override;
  void visit(Archive& archive) override;
  u32 read_port(u16, unsigned) override { return 0xff; }
  void write_port(u16 port, unsigned size, u32 value) override;

 private:
  // Wiring.
  InterruptLine m_irq13;
  // Guest-visible state.
  struct State {
    bool ferr = false;
    bool interrupt = false;
  } m_state;
};

}  // namespace vellum
