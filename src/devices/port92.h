// Port 92h: fast A20 and fast reset.
#pragma once

#include <functional>

#include "devices/device.h"
#include "devices/port_bus.h"

namespace vellum {

// IBM PS/2 Technical Reference, "System Control Port A": bit 0 resets the CPU on its rising edge, bit 1 lets A20 pass.
class Port92 : public Device, public PortHandler {
 public:
  // `set_a20`: to A20Gate::set_port92. `reset`: requests a system reset (it must not reset from within the call).
  Port92(std::function<void(bool)> set_a20, std::function<void()> reset);

  std::string_view name() const override { return "port92"; }
  void reset(ResetKind kind) override;
  void visit(Archive& archive) override;
  u32 read_port(u16 port, unsigned size) override;
  void write_port(u16 port, unsigned size, u32 value) override;

 private:
  // Wiring.
  std::function<void(bool)> m_set_a20;
  std::function<void()> m_reset;
  // Guest-visible state.
  struct State {
    u8 value = 0;
  } m_state;
};

}  // namespace vellum
