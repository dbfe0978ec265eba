// NE2000-compatible network cards: the Realtek RTL8029 on PCI, and Novell's own on ISA.
#pragma once

#include <string>

#include "devices/dp8390.h"
#include "devices/interrupt_line.h"
#include "devices/pci.h"
#include "devices/port_bus.h"

namespace vellum {

// Source: Realtek RTL8029AS datasheet (1997). `backend` may be null: the cable is unplugged.
class Ne2000Pci final : public PciDevice, public PortHandler {
 public:
  Ne2000Pci(std::string name, VirtualClock& clock, const MacAddress& address, NetworkBackend* backend);
  // Before the machine runs: the option ROM lies at `rom_offset` in guest RAM.
  void set_rom(u64 rom_offset, u32 size);
  std::string describe() const;  // a line for `info network`

  std::string_view name() const override { return m_name; }
  void reset(ResetKind kind) override;
  void visit(Archive& archive) override;
  u32 read_port(u16 port, unsigned size) override { return m_controller.read(port, size); }
  void write_port(u16 port, unsigned size, u32 value) override { m_controller.write(port, size, value); }
  unsigned max_port_size() const override { return 4; }

 private:
  const std::string m_name;
  Dp8390 m_controller;
};

// The board maps its 32 ports.
class Ne2000Isa final : public Device, public PortHandler {
 public:
  Ne2000Isa(std::string name, VirtualClock& clock, InterruptLine irq, const MacAddress& address, NetworkBackend* backend);
  std::string describe() const;

  std::string_view name() const override { return m_name; }
  void reset(ResetKind) override { m_controller.reset(); }
  void visit(Archive& archive) override { archive("controller", m_controller); }
  u32 read_port(u16 port, unsigned size) override { return m_controller.read(port, size); }
  void write_port(u16 port, unsigned size, u32 value) override { m_controller.write(port, size, value); }
  unsigned max_port_size() const override { return 2; }

 private:
  const std::string m_name;
  Dp8390 m_controller;
};

}  // namespace vellum
