// PIIX3 ISA bridge: interrupt routing and the reset control register.
#include "devices/piix3.h"

#include <bit>

namespace vellum {

namespace {

namespace spec {
// Intel 82371FB/82371SB (PIIX/PIIX3) datasheet (290550), 2.2.
constexpr unsigned kIoRecovery = 0x4c, kXBusSelect = 0x4e, kPirqRoute = 0x60;  // 2.2.7
constexpr u8 kRouteDisabled = 0x80, kRouteMask = 0x8f;
constexpr unsigned kTopOfMemory = 0x69, kMotherboardRoute = 0x70, kMotherboardDma = 0x76,
                   kChipSelect = 0x78, kApicBase = 0x80, kDeterministicLatency = 0x82, kSmiControl = 0xa0;
// Which IRQs a PIRQ can be steered to: not 0, 1, 2, 8 and 13.
constexpr u16 kRoutable = 0xdef8;
// 2.5.4.1 RC: reset control, port CF9h.
constexpr u16 kResetControl = 0xcf9;
constexpr u8 kResetCpu = 0x04, kSystemReset = 0x02;
}  // namespace spec

constexpr unsigned kAcpiIrq = 9;

}  // namespace

Piix3::Piix3(PciBus& bus, InterruptSink& interrupts, std::function<void(ResetRequest)> on_reset)
    : PciDevice({.vendor = 0x8086,
                 .device = 0x7000,
                 .revision = 0,
                 .class_code = 0x060100,
                 .subsystem_vendor = 0x1af4,
                 .subsystem = 0x1100,
                 .multifunction = true}),
      m_ports(bus.ports()),
      m_interrupts(interrupts),
      m_on_reset(std::move(on_reset)) {
  set_config(pci::kCommand, 2, 0x0007);  // 2.2.3: fixed
  set_config(pci::kStatus, 2, 0x0200);
  set_config(spec::kIoRecovery, 1, 0x4d);
  set_config(spec::kXBusSelect, 2, 0x0003);
  for (unsigned i = 0; i < 4; ++i) {
    set_config(spec::kPirqRoute + i, 1, spec::kRouteDisabled);
    make_writable(spec::kPirqRoute + i, 1, spec::kRouteMask);
  }
  set_config(spec::kTopOfMemory, 1, 0x02);
  set_config(spec::kMotherboardRoute, 2, 0x8080);
  set_config(spec::kMotherboardDma, 2, 0x0c0c);
  set_config(spec::kChipSelect, 2, 0x0002);
  set_config(spec::kSmiControl, 1, 0x08);
  set_config(0xa8, 1, 0x0f);
  make_writable(spec::kIoRecovery, 1, 0x7f);
  make_writable(spec::kXBusSelect, 2, 0x01ff);
  make_writable(spec::kTopOfMemory, 2, 0xfffe);
  make_writable(spec::kMotherboardRoute, 2, 0xffff);
  make_writable(spec::kMotherboardDma, 4, 0xffff8f8f);
  make_writable(spec::kApicBase, 1, 0x7f);
  make_writable(spec::kDeterministicLatency, 1, 0x0f);
  make_writable(spec::kSmiControl, 1, 0x1f);
  m_mapping = m_ports.map("reset-control", spec::kResetControl, 1, *this);
  bus.set_interrupt_router([this](u8 slot, u8 pin, bool level) { route(slot, pin, level); });
}

Piix3::~Piix3() { m_ports.unmap(m_mapping); }

void Piix3::route(u8 slot, u8 pin, bool level) {
  u64& sources = m_state.pirq_sources[pirq_of(slot, pin)][slot >> 6];
  const u64 bit = u64{1} << (slot & 63);
  sources = level ? sources | bit : sources & ~bit;
  update(Drive::Changed);
}

void Piix3::set_input(unsigned pin, bool level) {
  if (pin > kSci) return;
  const u32 bit = 1u << pin;
  m_state.isa_inputs = level ? m_state.isa_inputs | bit : m_state.isa_inputs & ~bit;
  update(Drive::Changed);
}

void Piix3::update(Drive drive) {
  u16 levels = static_cast<u16>(m_state.isa_inputs);
  if (m_state.isa_inputs & (1u << kSci)) levels |= 1u << kAcpiIrq;
  for (unsigned pirq = 0; pirq < 4; ++pirq) {
    const u8 routing = static_cast<u8>(read_config(spec::kPirqRoute + pirq, 1));
    if (routing & spec::kRouteDisabled) continue;
    u64 any = 0;
    for (u64 sources : m_state.pirq_sources[pirq]) any |= sources;
    if (any) levels |= (1u << (routing & 15)) & spec::kRoutable;
  }
  u16 changed = drive == Drive::All ? 0xffff : static_cast<u16>(levels ^ m_levels);
  m_levels = levels;
  for (; changed; changed &= changed - 1) {
    const int irq = std::countr_zero(changed);
    m_interrupts.set_input(static_cast<unsigned>(irq), (levels >> irq) & 1);
  }
}

void Piix3::config_written(unsigned offset, unsigned size) {
  set_config(pci::kCommand, 2, 0x0007);
  if (offset < spec::kPirqRoute + 4 && offset + size > spec::kPirqRoute) update(Drive::Changed);
}

// The inputs are the devices' to change; a reset of this chip takes away only the routing.
void Piix3::reset(ResetKind) {
  reset_config();
  m_state.reset_control = 0;
  update(Drive::Changed);
}

void Piix3::visit(Archive& archive) {
  auto& [isa_inputs, pirq_sources, reset_control] = m_state;
  visit_config(archive);
  archive("isa_inputs", isa_inputs)("pirq_sources", pirq_sources)("reset_control", reset_control);
  if (archive.loading()) update(Drive::All);
}

u32 Piix3::read_port(u16, unsigned) { return m_state.reset_control; }

// 2.5.4.1: a 0 to 1 transition of RCPU starts the reset that SRST selects.
void Piix3::write_port(u16, unsigned, u32 value) {
  const bool start = (value & spec::kResetCpu) && !(m_state.reset_control & spec::kResetCpu);
  m_state.reset_control = value & (spec::kSystemReset | spec::kResetCpu);
  if (!start) return;
  const bool hard = value & spec::kSystemReset;
  m_state.reset_control &= ~spec::kResetCpu;
  if (m_on_reset) m_on_reset(hard ? ResetRequest::Hard : ResetRequest::Soft);
}

}  // namespace vellum
