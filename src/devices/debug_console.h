// A debug console: one port that writes bytes to a character backend (Bochs's port E9h, SeaBIOS's and OVMF's 402h).
#pragma once

#include <string>

#include "devices/character_backend.h"
#include "devices/device.h"
#include "devices/port_bus.h"

namespace vellum {

// A read gives E9h, by which firmware finds the port (QEMU documentation, "isa-debugcon", property readback).
class DebugConsole : public Device, public PortHandler {
 public:
  // `backend` may be null: bytes are dropped.
  DebugConsole(std::string name, CharacterBackend* backend);

  std::string_view name() const override { return m_name; }
  void reset(ResetKind) override {}
  void visit(Archive&) override {}
  u32 read_port(u16 port, unsigned size) override;
  void write_port(u16 port, unsigned size, u32 value) override;

 private:
  // Configuration.
  std::string m_name;
  // Wiring.
  CharacterBackend* m_backend;
};

}  // namespace vellum
