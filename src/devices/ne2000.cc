// The buses around the DP8390.
#include "devices/ne2000.h"

#include <fmt/format.h>

namespace vellum {

namespace {

// RTL8029AS datasheet, 5.2.1: registers 0Ah and 0Bh of page 0 say "PC". A DP8390's read as nothing in particular.
constexpr std::array<u8, 2> kRealtek = {0x50, 0x43}, kNovell = {0xff, 0xff};

}  // namespace

Ne2000Pci::Ne2000Pci(std::string name, VirtualClock& clock, const MacAddress& address, NetworkBackend* backend)
    : PciDevice({.vendor = 0x10ec,
                 .device = 0x8029,
                 .revision = 0,
                 .class_code = 0x020000,
                 .subsystem_vendor = 0x10ec,
                 .subsystem = 0x8029,
                 .interrupt_pin = 1}),
      m_name(std::move(name)),
      m_controller(clock, address, backend, [this](bool level) { set_interrupt(level); }, kRealtek) {
  declare_io_bar(0, Dp8390::kPorts, *this, "ne2000");
}

void Ne2000Pci::set_rom(u64 rom_offset, u32 size) { declare_rom_bar(size, rom_offset, "ne2000 rom"); }

std::string Ne2000Pci::describe() const { return fmt::format("{}: {}, RTL8029", m_name, m_controller.describe()); }

void Ne2000Pci::reset(ResetKind) {
  reset_config();
  m_controller.reset();
}

void Ne2000Pci::visit(Archive& archive) {
  visit_config(archive);
  archive("controller", m_controller);
}

Ne2000Isa::Ne2000Isa(std::string name, VirtualClock& clock, InterruptLine irq, const MacAddress& address, NetworkBackend* backend)
    : m_name(std::move(name)), m_controller(clock, address, backend, [irq](bool level) { irq.set(level); }, kNovell) {}

std::string Ne2000Isa::describe() const { return fmt::format("{}: {}, NE2000 on ISA", m_name, m_controller.describe()); }

}  // namespace vellum
