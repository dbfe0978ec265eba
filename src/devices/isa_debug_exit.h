// isa-debug-exit: a write ends the emulator with a status, for test guests.
#pragma once

#include <functional>

#include "devices/device.h"
#include "devices/port_bus.h"

namespace vellum {

// As in QEMU (documentation of -device isa-debug-exit): the process status is (value << 1) | 1. The board maps `iosize`
// ports at `iobase` (F4h and 4 as kvm-unit-tests uses it). Reads give 0.
class IsaDebugExit : public Device, public PortHandler {
 public:
  // `exit` asks the machine to end with that status; it must not end within the call.
  explicit IsaDebugExit(std::function<void(int status)> exit);

  std::string_view name() const override { return "isa_debug_exit"; }
  void reset(ResetKind) override {}
  void visit(Archive&) override {}
  u32 read_port(u16 port, unsigned size) override;
  void write_port(u16 port, unsigned size, u32 value) override;
  unsigned max_port_size() const override { return 4; }

 private:
  // Wiring.
  std::function<void(int)> m_exit;
};

}  // namespace vellum
