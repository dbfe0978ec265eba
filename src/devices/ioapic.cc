// 82093AA I/O APIC: redirection table and delivery.
#include "devices/ioapic.h"

#include <fmt/format.h>

#include <bit>

#include "state/log.h"

namespace vellum {

namespace {

// Intel 82093AA datasheet (290566), 3.0; the EOI register of version 20h as in the ICH datasheets.
namespace spec {
constexpr u64 kSelect = 0x00, kWindow = 0x10, kEoi = 0x40;
constexpr u64 kSize = 0x1000;
constexpr u8 kIdRegister = 0, kVersionRegister = 1, kArbitrationRegister = 2, kRedirection = 0x10;
constexpr u32 kVersionValue = 0x20 | (IoApic::kPins - 1) << 16;
// 3.2.4 redirection entry
constexpr u64 kVector = 0xff, kLogical = 0x800, kRemoteIrr = 0x4000, kLevel = 0x8000, kMasked = 0x10000;
constexpr u64 kWritable = 0xff0000000001afff;  // delivery status and remote IRR are read-only
}  // namespace spec

}  // namespace

IoApic::IoApic(AddressSpace& memory, ApicBus& bus, u64 base) : m_memory(memory), m_bus(bus) {
  m_mapping = memory.map_mmio("ioapic", GuestPhysAddr(base), spec::kSize, *this, 10);
  bus.attach(*this);
  reset(ResetKind::PowerOn);
}

IoApic::~IoApic() { m_memory.unmap(m_mapping); }

// The input levels are the devices' to change.
void IoApic::reset(ResetKind) {
  const u32 inputs = m_state.inputs;
  m_state = {};
  m_state.inputs = inputs;
  m_state.redirection.fill(spec::kMasked);
}

void IoApic::visit(Archive& archive) {
  auto& [select, id, inputs, pending, redirection] = m_state;
  archive("select", select)("id", id)("inputs", inputs)("pending", pending)("redirection", redirection);
  inputs &= (1u << kPins) - 1;
  pending &= (1u << kPins) - 1;
}

std::string IoApic::describe() const {
  std::string text, masked;
  for (unsigned pin = 0; pin < kPins; ++pin) {
    const u64 entry = m_state.redirection[pin];
    const char* asserted = m_state.inputs >> pin & 1 ? ", asserted" : "";
    if (entry & spec::kMasked) {
      if (*asserted) text += fmt::format("  pin {}: masked{}\n", pin, asserted);
      else masked += fmt::format(" {}", pin);
      continue;
    }
    text += fmt::format("  pin {}: vector {:#04x}, {}, {}-triggered, to {} {:#x}{}{}\n", pin, entry & spec::kVector, delivery_name(static_cast<ApicDelivery>(entry >> 8 & 7)),
                        entry & spec::kLevel ? "level" : "edge", entry & spec::kLogical ? "logical destination" : "APIC", entry >> 56, asserted,
                        entry & spec::kRemoteIrr ? ", waits for its EOI" : m_state.pending >> pin & 1 ? ", pending" : "");
  }
  if (!masked.empty()) text += fmt::format("  masked:{}\n", masked);
  return fmt::format("I/O APIC {}:\n{}", m_state.id, text);
}

void IoApic::set_input(unsigned pin, bool level) {
  if (pin >= kPins) return;
  const u32 bit = 1u << pin;
  const bool rising = level && !(m_state.inputs & bit);
  m_state.inputs = level ? m_state.inputs | bit : m_state.inputs & ~bit;
  if (!rising) return;
  // 3.2.4, interrupt mask: an edge on a masked edge-triggered input is lost, not held pending.
  const u64 entry = m_state.redirection[pin];
  if (!(entry & spec::kLevel) && !(entry & spec::kMasked)) m_state.pending |= bit;
  service(pin);
}

// Sends what an input asks for. The polarity bit is not looked at: the board's lines are all active high.
void IoApic::service(unsigned pin) {
  u64& entry = m_state.redirection[pin];
  const u32 bit = 1u << pin;
  if (entry & spec::kMasked) return;
  const bool level = entry & spec::kLevel;
  if (level ? !(m_state.inputs & bit) || (entry & spec::kRemoteIrr) : !(m_state.pending & bit)) return;
  m_state.pending &= ~bit;
  const auto delivery = static_cast<ApicDelivery>((entry >> 8) & 7);
  const bool fixed = delivery == ApicDelivery::Fixed || delivery == ApicDelivery::LowestPriority;
  if (level && fixed) entry |= spec::kRemoteIrr;  // before delivery: the EOI may come at once
  m_bus.deliver({.destination = static_cast<u32>(entry >> 56),
                 .logical = (entry & spec::kLogical) != 0,
                 .delivery = delivery,
                 .vector = static_cast<u8>(entry & spec::kVector),
                 .level_triggered = level && fixed});
}

void IoApic::end_of_interrupt(u8 vector) {
  for (unsigned pin = 0; pin < kPins; ++pin) {
    u64& entry = m_state.redirection[pin];
    if (!(entry & spec::kRemoteIrr) || (entry & spec::kVector) != vector) continue;
    entry &= ~spec::kRemoteIrr;
    service(pin);
  }
}

u32 IoApic::read_register(u8 index) const {
  switch (index) {
    case spec::kIdRegister: case spec::kArbitrationRegister: return static_cast<u32>(m_state.id) << 24;
    case spec::kVersionRegister: return spec::kVersionValue;
    default: break;
  }
  const unsigned pin = (index - spec::kRedirection) / 2u;
  if (index < spec::kRedirection || pin >= kPins) return 0xffffffff;
  return static_cast<u32>(m_state.redirection[pin] >> (index & 1 ? 32 : 0));
}

void IoApic::write_register(u8 index, u32 value) {
  if (index == spec::kIdRegister) {
    m_state.id = (value >> 24) & 15;
    return;
  }
  const unsigned pin = (index - spec::kRedirection) / 2u;
  if (index < spec::kRedirection || pin >= kPins) return;
  u64& entry = m_state.redirection[pin];
  const unsigned shift = index & 1 ? 32 : 0;
  const u64 mask = (u64{0xffffffff} << shift) & spec::kWritable;
  entry = (entry & ~mask) | ((static_cast<u64>(value) << shift) & mask);
  // Switching to edge clears the remote IRR: operating systems use it as the EOI for version 11h chips.
  if (!(entry & spec::kLevel)) entry &= ~spec::kRemoteIrr;
  if (entry & spec::kLevel) m_state.pending &= ~(1u << pin);
  service(pin);
}

u64 IoApic::read_mmio(u64 offset, unsigned size) {
  u32 value = 0;
  if ((offset & ~u64{3}) == spec::kSelect) value = m_state.select;
  else if ((offset & ~u64{3}) == spec::kWindow) value = read_register(m_state.select);
  return (value >> (8 * (offset & 3))) & (~0u >> (32 - 8 * size));
}

void IoApic::write_mmio(u64 offset, unsigned size, u64 value) {
  switch (offset) {
    case spec::kSelect: m_state.select = static_cast<u8>(value); break;
    case spec::kWindow:
      if (size == 4) write_register(m_state.select, static_cast<u32>(value));
      break;
    case spec::kEoi: end_of_interrupt(static_cast<u8>(value)); break;
    default: log(LogItem::GuestErrors, "ioapic: write of {:#x} to offset {:#x}", value, offset); break;
  }
}

}  // namespace vellum
