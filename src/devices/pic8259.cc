// The 8259A pair: requests, priorities, the initialization and operation command words.
#include "devices/pic8259.h"

#include <fmt/format.h>

#include "state/log.h"

namespace vellum {

namespace {

// 8259A datasheet, "Programming the 8259A", figures 7 (ICWs) and 8 (OCWs).
namespace spec {
constexpr u8 kIcw1 = 0x10, kIcw1NeedsIcw4 = 0x01, kIcw1Single = 0x02, kIcw1LevelTriggered = 0x08;
constexpr u8 kIcw4Mode8086 = 0x01, kIcw4AutoEoi = 0x02, kIcw4SpecialFullyNested = 0x10;
constexpr u8 kOcw3 = 0x08, kOcw3ReadService = 0x01, kOcw3Read = 0x02, kOcw3Poll = 0x04, kOcw3SpecialMask = 0x20,
             kOcw3EnableSpecialMask = 0x40;
constexpr u8 kOcw2Rotate = 0x80, kOcw2Specific = 0x40, kOcw2Eoi = 0x20;
// PIIX3, 4.1.4: IRQ0, 1, 2, 8 and 13 are always edge triggered.
constexpr u8 kLevelWritableMaster = 0xf8, kLevelWritableSlave = 0xde;
}  // namespace spec

constexpr unsigned kTimer = 0;    // IR0 of both: the 8254 or the HPET's timer 0, the RTC or the HPET's timer 1
constexpr unsigned kCascade = 2;  // the slave's INT is the master's IR2

constexpr u8 bit(unsigned ir) { return static_cast<u8>(1u << ir); }

}  // namespace

Pic8259Pair::Pic8259Pair(InterruptLine intr) : m_intr(intr) { reset(ResetKind::PowerOn); }

void Pic8259Pair::reset(ResetKind) {
  // The pins belong to the devices that drive them; everything else is forgotten.
  for (Chip* chip : {&m_state.master, &m_state.slave}) {
    const u8 pins = chip->pins;
    *chip = Chip{};
    chip->pins = pins;
  }
  update();
}

void Pic8259Pair::Chip::visit(Archive& archive) {
  auto& [pins_, request_, service_, mask_, level_, base_, icw1_, icw3_, icw4_, lowest_, expects_, read_service_, poll_,
         special_, rotate_] = *this;
  archive("pins", pins_)("request", request_)("service", service_)("mask", mask_)("level_triggered", level_);
  archive("vector_base", base_)("icw1", icw1_)("icw3", icw3_)("icw4", icw4_)("lowest_priority", lowest_);
  archive("expects", expects_)("read_service", read_service_)("poll", poll_)("special_mask", special_);
  archive("rotate_on_auto_eoi", rotate_);
  archive.require(lowest_ <= 7, "8259 priority");
  archive.require(expects_ <= Expects::Icw4, "8259 initialization step");
}

void Pic8259Pair::visit(Archive& archive) {
  auto& [master, slave] = m_state;
  archive("master", master)("slave", slave);
  if (archive.loading() && !archive.failed()) {
    m_intr_level = highest_request(master, true).has_value();
    m_intr.set(m_intr_level);
  }
}

std::string Pic8259Pair::describe() const {
  std::string text;
  for (const auto& [name, chip, first] : {std::tuple("master", &m_state.master, 0u), std::tuple("slave", &m_state.slave, 8u)}) {
    const auto irqs = [base = first](u8 set) {
      std::string list;
      for (unsigned ir = 0; ir < 8; ++ir)
        if (set & bit(ir)) list += fmt::format("{}IRQ{}", list.empty() ? "" : " ", base + ir);
      return list.empty() ? std::string("none") : list;
    };
    text += fmt::format("8259 {}: IRQ{}-{} at vectors {:#04x}-{:#04x}{}\n", name, first, first + 7, chip->vector_base, chip->vector_base + 7,
                        chip->expects == Expects::Ocw1 ? "" : ", being initialized");
    text += fmt::format("  requested: {}; in service: {}; masked: {}\n  inputs asserted: {}; level-triggered: {}\n", irqs(chip->request), irqs(chip->service),
                        irqs(chip->mask), irqs(chip->pins), irqs(chip->level_triggered));
  }
  return text;
}

bool Pic8259Pair::is_level(const Chip& chip, unsigned ir) const {
  return (chip.icw1 & spec::kIcw1LevelTriggered) || (chip.level_triggered & bit(ir));
}

std::optional<unsigned> Pic8259Pair::highest_request(const Chip& chip, bool is_master) const {
  // A chip inside its initialization sequence does not request ("Initialization", figure 6).
  if (chip.expects != Expects::Ocw1) return std::nullopt;
  const u8 requests = chip.request & static_cast<u8>(~chip.mask);
  // "Special Mask Mode": levels in service that are masked do not hold up others.
  const u8 blocking = chip.special_mask ? chip.service & static_cast<u8>(~chip.mask) : chip.service;
  const bool nested = is_master && (chip.icw4 & spec::kIcw4SpecialFullyNested);
  for (unsigned i = 1; i <= 8; ++i) {
    const unsigned ir = (chip.lowest_priority + i) & 7;
    // "Special Fully Nested Mode": a slave in service is not locked out from the master's priority logic.
    if (nested && ir == kCascade && (requests & bit(ir))) return ir;
    if (blocking & bit(ir)) return std::nullopt;
    if (requests & bit(ir)) return ir;
  }
  return std::nullopt;
}

void Pic8259Pair::set_pin(Chip& chip, unsigned ir, bool level) {
  const bool was = chip.pins & bit(ir);
  chip.pins = level ? chip.pins | bit(ir) : chip.pins & static_cast<u8>(~bit(ir));
  if (is_level(chip, ir)) {
    chip.request = level ? chip.request | bit(ir) : chip.request & static_cast<u8>(~bit(ir));
  } else if (level && !was) {
    chip.request |= bit(ir);
  } else if (!level && ir != kTimer) {
    // "Edge and Level Triggered Modes": an input must stay high until INTA. A driver that disables interrupts and polls a device is not
    // interrupted for what it has read already.
    chip.request &= static_cast<u8>(~bit(ir));
  }
  // A timer's edge stays latched: virtual time can pass a whole pulse or half-wave of its output between two guest instructions, and
  // no guest may lose ticks by that.
}

void Pic8259Pair::set_input(unsigned pin, bool level) {
  if (pin >= 16 || pin == kCascade) return;
  Chip& chip = pin < 8 ? m_state.master : m_state.slave;
  set_pin(chip, pin & 7, level);
  update();
}

void Pic8259Pair::update() {
  const bool cascade = highest_request(m_state.slave, false).has_value();
  if (!cascade) m_state.master.request &= static_cast<u8>(~bit(kCascade));
  set_pin(m_state.master, kCascade, cascade);
  m_intr_level = highest_request(m_state.master, true).has_value();
  m_intr.set(m_intr_level);
}

void Pic8259Pair::put_in_service(Chip& chip, unsigned ir) {
  if (!is_level(chip, ir)) chip.request &= static_cast<u8>(~bit(ir));
  if (!(chip.icw4 & spec::kIcw4AutoEoi)) {
    chip.service |= bit(ir);
  } else if (chip.rotate_on_auto_eoi) {
    chip.lowest_priority = static_cast<u8>(ir);
  }
  // The slave's INT falls with INTA, so that a further request of the slave is a new edge at the master.
  if (&chip == &m_state.slave) set_pin(m_state.master, kCascade, false);
}

u8 Pic8259Pair::acknowledge() {
  Chip& master = m_state.master;
  Chip& slave = m_state.slave;
  u8 vector;
  const auto ir = highest_request(master, true);
  if (!ir) {
    vector = master.vector_base | 7;
  } else if (put_in_service(master, *ir); *ir != kCascade) {
    vector = static_cast<u8>(master.vector_base | *ir);
  } else if (const auto slave_ir = highest_request(slave, false)) {
    put_in_service(slave, *slave_ir);
    vector = static_cast<u8>(slave.vector_base | *slave_ir);
  } else {
    vector = slave.vector_base | 7;
  }
  update();
  return vector;
}

void Pic8259Pair::clear_for_icw1(Chip& chip) {
  // "ICW1 and ICW2": edge sense, mask, priorities, special mask and status read are reset.
  chip.mask = 0;
  chip.service = 0;
  chip.request = 0;
  chip.lowest_priority = 7;
  chip.special_mask = chip.read_service = chip.poll = chip.rotate_on_auto_eoi = false;
  chip.icw4 = 0;
}

void Pic8259Pair::end_of_interrupt(Chip& chip, u8 ocw2) {
  const unsigned level = ocw2 & 7;
  const bool rotate = ocw2 & spec::kOcw2Rotate;
  const bool specific = ocw2 & spec::kOcw2Specific;
  if (!(ocw2 & spec::kOcw2Eoi)) {
    if (rotate && specific) chip.lowest_priority = static_cast<u8>(level);  // set priority
    if (!specific) chip.rotate_on_auto_eoi = rotate;
    return;
  }
  if (specific) {
    chip.service &= static_cast<u8>(~bit(level));
    if (rotate) chip.lowest_priority = static_cast<u8>(level);
    return;
  }
  // "Special Mask Mode": a non-specific EOI does not clear an in-service bit that is masked.
  const u8 candidates = chip.special_mask ? chip.service & static_cast<u8>(~chip.mask) : chip.service;
  for (unsigned i = 1; i <= 8; ++i) {
    const unsigned ir = (chip.lowest_priority + i) & 7;
    if (!(candidates & bit(ir))) continue;
    chip.service &= static_cast<u8>(~bit(ir));
    if (rotate) chip.lowest_priority = static_cast<u8>(ir);
    return;
  }
}

void Pic8259Pair::write_command(Chip& chip, bool is_master, u8 value) {
  if (value & spec::kIcw1) {
    clear_for_icw1(chip);
    chip.icw1 = value;
    chip.expects = Expects::Icw2;
    for (unsigned ir = 0; ir < 8; ++ir)
      if (is_level(chip, ir)) chip.request |= chip.pins & bit(ir);
  } else if (value & spec::kOcw3) {
    if (value & spec::kOcw3EnableSpecialMask) chip.special_mask = value & spec::kOcw3SpecialMask;
    if (value & spec::kOcw3Read) chip.read_service = value & spec::kOcw3ReadService;
    chip.poll = value & spec::kOcw3Poll;
  } else {
    end_of_interrupt(chip, value);
  }
}

void Pic8259Pair::write_data(Chip& chip, u8 value) {
  switch (chip.expects) {
    case Expects::Ocw1:
      chip.mask = value;
      return;
    case Expects::Icw2:
      chip.vector_base = value & 0xf8;
      if (!(chip.icw1 & spec::kIcw1Single)) chip.expects = Expects::Icw3;
      else chip.expects = chip.icw1 & spec::kIcw1NeedsIcw4 ? Expects::Icw4 : Expects::Ocw1;
      return;
    case Expects::Icw3:
      chip.icw3 = value;
      chip.expects = chip.icw1 & spec::kIcw1NeedsIcw4 ? Expects::Icw4 : Expects::Ocw1;
      return;
    case Expects::Icw4:
      chip.icw4 = value;
      if (!(value & spec::kIcw4Mode8086)) log(LogItem::Unsupported, "8259: MCS-80/85 mode (ICW4 {:#x})", value);
      chip.expects = Expects::Ocw1;
      return;
  }
}

u8 Pic8259Pair::poll(Chip& chip, bool is_master) {
  chip.poll = false;
  const auto ir = highest_request(chip, is_master);
  if (!ir) return 0;
  put_in_service(chip, *ir);
  return static_cast<u8>(0x80 | *ir);
}

u8 Pic8259Pair::read_command(Chip& chip, bool is_master) {
  if (chip.poll) return poll(chip, is_master);
  return chip.read_service ? chip.service : chip.request;
}

u32 Pic8259Pair::read_port(u16 port, unsigned) {
  if (port == 0x4d0) return m_state.master.level_triggered;
  if (port == 0x4d1) return m_state.slave.level_triggered;
  const bool is_master = (port & 0x80) == 0;
  Chip& chip = is_master ? m_state.master : m_state.slave;
  u8 value;
  if (port & 1) value = chip.poll ? poll(chip, is_master) : chip.mask;
  else value = read_command(chip, is_master);
  update();
  return value;
}

void Pic8259Pair::write_port(u16 port, unsigned, u32 value) {
  const u8 byte = static_cast<u8>(value);
  if (port == 0x4d0 || port == 0x4d1) {
    Chip& chip = port == 0x4d0 ? m_state.master : m_state.slave;
    chip.level_triggered = byte & (port == 0x4d0 ? spec::kLevelWritableMaster : spec::kLevelWritableSlave);
    for (unsigned ir = 0; ir < 8; ++ir)
      if (is_level(chip, ir)) chip.request = (chip.request & static_cast<u8>(~bit(ir))) | (chip.pins & bit(ir));
  } else {
    const bool is_master = (port & 0x80) == 0;
    Chip& chip = is_master ? m_state.master : m_state.slave;
    if (port & 1) write_data(chip, byte);
    else write_command(chip, is_master, byte);
  }
  update();
}

}  // namespace vellum
