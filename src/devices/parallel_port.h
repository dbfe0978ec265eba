// A parallel port in standard mode, with a printer that is always ready.
#pragma once

#include <string>

#include "devices/character_backend.h"
#include "devices/device.h"
#include "devices/interrupt_line.h"
#include "devices/port_bus.h"

namespace vellum {

// Source: IBM PC Technical Reference, "Parallel Printer Adapter"; IEEE 1284-1994 for the bidirectional bit.
// Ports: data, status, control; the board maps 3 at 378h (IRQ 7) or 278h (IRQ 5). The port number's low two bits select.
class ParallelPort : public Device, public PortHandler {
 public:
  // Each strobe sends the data byte to `backend` (null: no printer, the status shows it).
  ParallelPort(std::string name, InterruptLine irq, CharacterBackend* backend);

  std::string_view name() const override { return m_name; }
  void reset(ResetKind kind) override;
  void visit(Archive& archive) override;
  u32 read_port(u16 port, unsigned size) override;
  void write_port(u16 port, unsigned size, u32 value) override;

 private:
  // Configuration.
  std::string m_name;
  // Wiring.
  InterruptLine m_irq;
  CharacterBackend* m_backend;
  // Guest-visible state.
  struct State {
    u8 data = 0;
    u8 control = 0xc;
  } m_state;
};

}  // namespace vellum
