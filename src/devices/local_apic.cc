// Local APIC: registers by MMIO and MSR, priorities, timer, interrupt command register.
#include "devices/local_apic.h"

#include <fmt/format.h>

#include <bit>

#include "devices/ioapic.h"
#include "state/log.h"

namespace vellum {

namespace {

// Intel SDM Vol. 3A, chapter 11 (APIC).
namespace spec {
constexpr u32 kMsrBase = 0x1b, kMsrTscDeadline = 0x6e0, kMsrX2apicFirst = 0x800, kMsrX2apicLast = 0x8ff;
// 11.4.4 IA32_APIC_BASE
constexpr u64 kBaseBootstrap = 1 << 8, kBaseExtended = 1 << 10, kBaseEnable = 1 << 11;
constexpr u64 kBaseAddressMask = ~u64{0xfff};
constexpr u64 kDefaultAddress = 0xfee00000;
// Register numbers: offset >> 4 in the page, MSR - 800h in x2APIC mode (tables 11-1 and 11-6).
constexpr unsigned kId = 0x02, kVersion = 0x03, kTpr = 0x08, kArbitration = 0x09, kPpr = 0x0a, kEoi = 0x0b,
                   kRemoteRead = 0x0c, kLogicalDestination = 0x0d, kDestinationFormat = 0x0e, kSpurious = 0x0f,
                   kInService = 0x10, kTriggerMode = 0x18, kRequested = 0x20, kErrorStatus = 0x28, kLvtCmciReg = 0x2f,
                   kIcrLow = 0x30, kIcrHigh = 0x31, kLvtTimerReg = 0x32, kLvtErrorReg = 0x37, kInitialCount = 0x38,
                   kCurrentCount = 0x39, kDivide = 0x3e, kSelfIpi = 0x3f;
// 11.4.8: version 14h, 7 LVT entries (6 is the highest index), EOI-broadcast suppression.
constexpr u32 kVersionValue = 0x01060014;
// 11.9, figure 11-23
constexpr u32 kSpuriousEnable = 0x100, kSpuriousSuppressEoi = 0x1000,
              kSpuriousImplemented = 0x11ff;
// 11.5.1, figure 11-8
constexpr u32 kLvtVector = 0xff, kLvtDelivery = 0x700, kLvtPending = 0x1000, kLvtRemoteIrr = 0x4000,
              kLvtLevel = 0x8000, kLvtMasked = 0x10000;
constexpr u32 kLvtTimerMode = 0x60000, kTimerPeriodic = 0x20000, kTimerDeadline = 0x40000;
// 11.5.3, figure 11-9
constexpr u32 kErrorSendIllegal = 0x20, kErrorReceiveIllegal = 0x40, kErrorRegister = 0x80;
// 11.6.1, figure 11-12
constexpr u32 kIcrLogical = 0x800, kIcrAssert = 0x4000, kIcrLevel = 0x8000, kIcrImplemented = 0x000ccfff;
constexpr u32 kFlatModel = 0xf;
}  // namespace spec

// Bits of each LVT entry that a guest can write, in the order of LocalApic::Lvt.
constexpr u32 kLvtWritable[] = {
    0x000107ff,  // CMCI
    0x000700ff,  // timer
    0x000107ff,  // thermal sensor
    0x000107ff,  // performance counters
    0x0001a7ff,  // LINT0
    0x0001a7ff,  // LINT1
    0x000100ff,  // error
};

constexpr Ticks kShortestPeriod = 1000;

constexpr bool test(const std::array<u32, 8>& bits, unsigned vector) { return (bits[vector >> 5] >> (vector & 31)) & 1; }
constexpr void set(std::array<u32, 8>& bits, unsigned vector) { bits[vector >> 5] |= 1u << (vector & 31); }
constexpr void clear(std::array<u32, 8>& bits, unsigned vector) { bits[vector >> 5] &= ~(1u << (vector & 31)); }
int highest(const std::array<u32, 8>& bits) {
  for (int word = 7; word >= 0; --word)
    if (bits[static_cast<usize>(word)]) return word * 32 + 31 - std::countl_zero(bits[static_cast<usize>(word)]);
  return -1;
}

}  // namespace

// ---- the bus ----

bool ApicBus::deliver(const ApicMessage& message) {
  if (message.delivery == ApicDelivery::LowestPriority) {
    LocalApic* chosen = nullptr;
    for (auto* apic : m_apics)
      if (apic->software_enabled() && apic->accepts(message) &&
          (!chosen || apic->arbitration_priority() < chosen->arbitration_priority()))
        chosen = apic;
    if (chosen) chosen->receive(message);
    return chosen != nullptr;
  }
  bool accepted = false;
  for (auto* apic : m_apics) {
    if (!apic->accepts(message)) continue;
    apic->receive(message);
    accepted = true;
  }
  return accepted;
}

void ApicBus::broadcast(const ApicMessage& message, const LocalApic* except) {
  for (auto* apic : m_apics)
    if (apic != except && apic->enabled()) apic->receive(message);
}

// 11.11.1 (address: destination id, redirection hint, destination mode) and 11.11.2 (data: vector, delivery, trigger).
void ApicBus::deliver_msi(u64 address, u32 data) {
  deliver({.destination = static_cast<u32>(address >> 12) & 0xff,
           .logical = (address & 4) != 0,
           .delivery = static_cast<ApicDelivery>((data >> 8) & 7),
           .vector = static_cast<u8>(data),
           .level_triggered = (data & 0x8000) != 0});
}

void ApicBus::end_of_interrupt(u8 vector) {
  for (auto* io_apic : m_io_apics) io_apic->end_of_interrupt(vector);
}

// ---- construction, modes ----

LocalApic::LocalApic(AddressSpace& memory, VirtualClock& clock, ApicBus& bus, ApicCpu& cpu, Options options,
                     Callbacks callbacks)
    : m_name(fmt::format("local-apic.{}", options.id)),
      m_options(options),
      m_memory(memory),
      m_clock(clock),
      m_bus(bus),
      m_cpu(cpu),
      m_callbacks(std::move(callbacks)),
      m_timer(clock, [this] { timer_expired(); }) {
  bus.attach(*this);
  reset(ResetKind::PowerOn);
}

LocalApic::~LocalApic() {
  if (m_mapped_at) m_memory.unmap(m_mapping);
}

bool LocalApic::enabled() const { return m_state.base & spec::kBaseEnable; }
bool LocalApic::x2apic_mode() const { return enabled() && (m_state.base & spec::kBaseExtended); }
bool LocalApic::software_enabled() const { return enabled() && (m_state.spurious & spec::kSpuriousEnable); }

// 11.4.7.1: the state after power-up and reset.
void LocalApic::reset_registers() {
  const u64 base = m_state.base;
  const u32 id = m_state.id;
  const auto lint = m_state.lint;
  m_state = {};
  m_state.base = base;
  m_state.id = id;
  m_state.lint = lint;
  m_state.lvt.fill(spec::kLvtMasked);
  // The bootstrap processor's LINT0 comes up as ExtINT, unmasked, as KVM and QEMU have it (the manual says masked):
  // firmware that knows of no APIC gets the 8259's interrupts.
  if (m_options.bootstrap) m_state.lvt[kLvtLint0] = static_cast<u32>(ApicDelivery::ExtInt) << 8;
  update_timer();
}

void LocalApic::reset(ResetKind) {
  m_state.base = spec::kDefaultAddress | spec::kBaseEnable | (m_options.bootstrap ? spec::kBaseBootstrap : 0);
  m_state.id = m_options.id;
  reset_registers();
  update_mapping();
  update_request();
}

void LocalApic::init() {
  reset_registers();
  update_request();
}

void LocalApic::update_mapping() {
  const u64 wanted = enabled() && !x2apic_mode() ? m_state.base & spec::kBaseAddressMask : 0;
  if (wanted == m_mapped_at) return;
  if (m_mapped_at) m_memory.unmap(m_mapping);
  m_mapped_at = wanted;
  if (wanted) m_mapping = m_memory.map_mmio(m_name, GuestPhysAddr(wanted), kPageSize, *this, 10);
}

// 11.12.5.1, figure 11-27: from disabled only to xAPIC mode; from x2APIC mode only to disabled.
bool LocalApic::set_base(u64 value) {
  const u64 mode_bits = spec::kBaseEnable | (m_options.x2apic ? spec::kBaseExtended : 0);
  const u64 address_bits = ((u64{1} << m_options.physical_address_bits) - 1) & spec::kBaseAddressMask;
  if (value & ~(mode_bits | spec::kBaseBootstrap | address_bits)) return false;
  const bool enable = value & spec::kBaseEnable;
  const bool extended = value & spec::kBaseExtended;
  if (extended && (!enable || !enabled())) return false;
  if (x2apic_mode() && enable && !extended) return false;
  const bool was_enabled = enabled();
  const bool was_extended = x2apic_mode();
  m_state.base = (value & ~spec::kBaseBootstrap) | (m_options.bootstrap ? spec::kBaseBootstrap : 0);
  if (was_enabled && !enable) {
    m_state.id = m_options.id;
    reset_registers();
  }
  // 11.12.5.1: going to x2APIC mode the id becomes the initial one again, and the ICR's upper half is cleared.
  if (!was_extended && extended) {
    m_state.id = m_options.id;
    m_state.interrupt_command &= 0xffffffff;
  }
  update_mapping();
  update_request();
  return true;
}

// ---- destinations ----

// 11.12.10.2: the x2APIC logical id follows from the id: cluster in bits 31:16, one of 16 in bits 15:0.
u32 LocalApic::logical_id() const {
  if (x2apic_mode()) return ((m_state.id & 0xffff0) << 12) | 1u << (m_state.id & 15);
  return m_state.logical_destination;
}

bool LocalApic::accepts(const ApicMessage& message) const {
  if (!enabled()) return false;
  const u32 destination = message.destination;
  if (destination == (message.x2apic_destination ? 0xffffffff : 0xff)) return true;
  if (!message.logical) return destination == m_state.id;
  if (x2apic_mode()) {
    return destination >> 16 == logical_id() >> 16 && (destination & logical_id() & 0xffff) != 0;
  }
  const u32 own = m_state.logical_destination >> 24;
  if (m_state.destination_format >> 28 == spec::kFlatModel) return (destination & own & 0xff) != 0;  // 11.6.2.2
  return (destination & 0xf0) == (own & 0xf0) && (destination & own & 0x0f) != 0;
}

u8 LocalApic::arbitration_priority() const {
  return std::max<u8>(processor_priority(), static_cast<u8>(std::max(highest(m_state.requested), 0) & 0xf0));
}

void LocalApic::receive(const ApicMessage& message) {
  switch (message.delivery) {
    case ApicDelivery::Fixed:
    case ApicDelivery::LowestPriority:
      if (software_enabled()) request_vector(message.vector, message.level_triggered);
      break;
    case ApicDelivery::Smi: m_cpu.raise_smi(); break;
    case ApicDelivery::Nmi: m_cpu.raise_nmi(); break;
    case ApicDelivery::Init: m_cpu.raise_init(); break;
    case ApicDelivery::StartUp: m_cpu.start_up(message.vector); break;
    case ApicDelivery::ExtInt:
    case ApicDelivery::Reserved:
      log(LogItem::Unsupported, "{}: interrupt message with delivery mode {}", m_name,
          static_cast<unsigned>(message.delivery));
      break;
  }
}

void LocalApic::request_vector(u8 vector, bool level_triggered) {
  if (vector < 16) return record_error(spec::kErrorReceiveIllegal);  // 11.5.2
  set(m_state.requested, vector);
  if (level_triggered) set(m_state.trigger_mode, vector);
  else clear(m_state.trigger_mode, vector);
  update_request();
}

void LocalApic::record_error(u32 bit) {
  const bool repeated = m_state.error_pending & bit;
  m_state.error_pending |= bit;
  const u32 entry = m_state.lvt[kLvtError];
  // A bad vector in the error entry itself must not report itself for ever.
  if (!repeated && !(entry & spec::kLvtMasked) && (entry & spec::kLvtVector) >= 16) trigger_lvt(kLvtError);
}

// ---- priorities ----

// 11.8.3.1
std::string LocalApic::describe() const {
  if (!enabled()) return fmt::format("local APIC {}: disabled in IA32_APIC_BASE\n", m_state.id);
  const auto vectors = [](const std::array<u32, 8>& bits) {
    std::string list;
    for (unsigned vector = 0; vector < 256; ++vector)
      if (test(bits, vector)) list += fmt::format("{}{:#04x}", list.empty() ? "" : " ", vector);
    return list.empty() ? std::string("none") : list;
  };
  std::string text = x2apic_mode() ? fmt::format("local APIC {}: x2APIC mode", m_state.id) : fmt::format("local APIC {}: xAPIC mode at {:#x}", m_state.id, m_state.base & spec::kBaseAddressMask);
  text += fmt::format(", {} by software, spurious vector {:#04x}\n", software_enabled() ? "enabled" : "disabled", m_state.spurious & 0xff);
  text += fmt::format("  task priority {:#04x}, processor priority {:#04x}, logical id {:#x}\n  requested: {}; in service: {}\n", m_state.task_priority, processor_priority(),
                      logical_id(), vectors(m_state.requested), vectors(m_state.in_service));
  constexpr std::string_view kLvtNames[kLvtCount] = {"CMCI", "timer", "thermal sensor", "performance counters", "LINT0", "LINT1", "error"};
  for (unsigned i = 0; i < kLvtCount; ++i) {
    const u32 entry = m_state.lvt[i];
    if (entry & spec::kLvtMasked) continue;
    const auto delivery = i == kLvtTimer || i == kLvtError ? ApicDelivery::Fixed : static_cast<ApicDelivery>(entry >> 8 & 7);
    text += fmt::format("  {}: {}", kLvtNames[i], delivery_name(delivery));
    if (delivery == ApicDelivery::Fixed) text += fmt::format(", vector {:#04x}", entry & spec::kLvtVector);
    if (i == kLvtTimer) text += entry & spec::kTimerDeadline ? ", TSC deadline" : entry & spec::kTimerPeriodic ? ", periodic" : ", one-shot";
    if ((i == kLvtLint0 && m_state.lint[0]) || (i == kLvtLint1 && m_state.lint[1])) text += ", asserted";
    text += "\n";
  }
  if ((m_state.lvt[kLvtTimer] & spec::kLvtTimerMode) == spec::kTimerDeadline) text += fmt::format("  timer: TSC deadline {}\n", m_state.tsc_deadline);
  else text += fmt::format("  timer: count {} of {}, divided by {}\n", current_count(), m_state.initial_count, divider());
  return text + fmt::format("  last interrupt command {:#x}, error status {:#x}\n", m_state.interrupt_command, m_state.error_status);
}

u8 LocalApic::processor_priority() const {
  const int in_service = std::max(highest(m_state.in_service), 0);
  if ((m_state.task_priority & 0xf0) >= (in_service & 0xf0)) return m_state.task_priority;
  return static_cast<u8>(in_service & 0xf0);
}

int LocalApic::deliverable_vector() const {
  if (!software_enabled()) return -1;
  const int vector = highest(m_state.requested);
  return vector >= 0 && (vector & 0xf0) > (processor_priority() & 0xf0) ? vector : -1;
}

// Whether the 8259's INTR reaches the CPU: by LINT0 as ExtINT, or directly while the APIC is off (11.4.3).
bool LocalApic::pic_passes() const {
  if (!enabled()) return m_options.bootstrap;
  return (m_state.lvt[kLvtLint0] & (spec::kLvtMasked | spec::kLvtDelivery)) ==
         static_cast<u32>(ApicDelivery::ExtInt) << 8;
}

void LocalApic::update_request() {
  const bool request = deliverable_vector() >= 0 || (m_state.lint[0] && pic_passes());
  if (request == m_request) return;
  m_request = request;
  m_cpu.set_interrupt_request(request);
}

std::optional<u8> LocalApic::acknowledge() {
  const int vector = deliverable_vector();
  if (vector >= 0) {
    clear(m_state.requested, static_cast<unsigned>(vector));
    set(m_state.in_service, static_cast<unsigned>(vector));
    update_request();
    return static_cast<u8>(vector);
  }
  if (m_state.lint[0] && pic_passes() && m_callbacks.acknowledge_pic) {
    const u8 pic_vector = m_callbacks.acknowledge_pic();
    update_request();
    return pic_vector;
  }
  update_request();
  return std::nullopt;
}

void LocalApic::set_task_priority(u8 cr8) {
  m_state.task_priority = static_cast<u8>(cr8 << 4);
  update_request();
}

// 11.8.5
void LocalApic::end_of_interrupt() {
  const int vector = highest(m_state.in_service);
  if (vector < 0) return;
  clear(m_state.in_service, static_cast<unsigned>(vector));
  if (test(m_state.trigger_mode, static_cast<unsigned>(vector))) {
    const u32 lint0 = m_state.lvt[kLvtLint0];
    if ((lint0 & spec::kLvtRemoteIrr) && (lint0 & spec::kLvtVector) == static_cast<u32>(vector)) {
      m_state.lvt[kLvtLint0] &= ~spec::kLvtRemoteIrr;
      if (m_state.lint[0]) trigger_lvt(kLvtLint0);
    }
    if (!(m_state.spurious & spec::kSpuriousSuppressEoi)) m_bus.end_of_interrupt(static_cast<u8>(vector));
  }
  update_request();
}

// ---- local sources ----

void LocalApic::trigger_lvt(Lvt which) {
  u32& entry = m_state.lvt[which];
  if (entry & spec::kLvtMasked) return;
  const u8 vector = entry & spec::kLvtVector;
  if (which == kLvtTimer || which == kLvtError) return request_vector(vector, false);
  switch (static_cast<ApicDelivery>((entry >> 8) & 7)) {
    case ApicDelivery::Fixed: {
      // 11.5.1: only LINT0 can be level-triggered with mode fixed; its remote IRR blocks a second request until EOI.
      const bool level = which == kLvtLint0 && (entry & spec::kLvtLevel);
      if (level && (entry & spec::kLvtRemoteIrr)) return;
      if (level) entry |= spec::kLvtRemoteIrr;
      request_vector(vector, level);
      break;
    }
    case ApicDelivery::Smi: m_cpu.raise_smi(); break;
    case ApicDelivery::Nmi: m_cpu.raise_nmi(); break;
    case ApicDelivery::Init: m_cpu.raise_init(); break;
    case ApicDelivery::ExtInt:  // a level, in update_request()
    case ApicDelivery::LowestPriority:
    case ApicDelivery::Reserved:
    case ApicDelivery::StartUp: break;
  }
}

void LocalApic::set_input(unsigned pin, bool level) {
  if (pin > 1) return;
  const bool rising = level && !m_state.lint[pin];
  m_state.lint[pin] = level;
  if (rising) {
    if (enabled()) trigger_lvt(pin == 0 ? kLvtLint0 : kLvtLint1);
    else if (pin == 1) m_cpu.raise_nmi();
  }
  update_request();
}

void LocalApic::write_lvt(Lvt which, u32 value) {
  u32 entry = (value & kLvtWritable[which]) | (m_state.lvt[which] & (spec::kLvtRemoteIrr | spec::kLvtPending));
  if (!(m_state.spurious & spec::kSpuriousEnable)) entry |= spec::kLvtMasked;  // 11.4.7.2
  const u32 old = m_state.lvt[which];
  if (which == kLvtTimer) {
    settle_count();
    if ((entry & spec::kLvtTimerMode) == spec::kLvtTimerMode) entry &= ~spec::kLvtTimerMode;  // reserved mode
    if (!m_options.tsc_deadline) entry &= ~spec::kTimerDeadline;
    m_state.lvt[which] = entry;
    // 11.5.4.1: a change between TSC-deadline and the counting modes disarms the timer.
    if ((entry ^ old) & spec::kTimerDeadline) {
      m_state.counting = false;
      m_state.initial_count = 0;
      m_state.tsc_deadline = 0;
    }
    update_timer();
    return;
  }
  m_state.lvt[which] = entry;
  if (which == kLvtLint0 && m_state.lint[0] && (entry & spec::kLvtLevel)) trigger_lvt(kLvtLint0);
  update_request();
}

// ---- timer, 11.5.4 ----

unsigned LocalApic::divider() const {
  const u32 code = (m_state.divide_configuration & 3) | (m_state.divide_configuration & 8) >> 1;
  return code == 7 ? 1 : 2u << code;
}

// The count runs with the 1 GHz bus clock, one tick of virtual time, divided.
u32 LocalApic::current_count() const {
  if (!m_state.counting) return 0;
  const u64 counted = (m_clock.now() - m_state.count_start) / divider();
  const u64 initial = m_state.initial_count;
  if (m_state.lvt[kLvtTimer] & spec::kTimerPeriodic) return static_cast<u32>(initial - counted % initial);
  return static_cast<u32>(counted >= initial ? 0 : initial - counted);
}

void LocalApic::start_count() {
  m_state.count_start = m_clock.now();
  m_state.counting = m_state.initial_count != 0;
  update_timer();
}

void LocalApic::update_timer() {
  m_timer.cancel();
  if (m_state.lvt[kLvtTimer] & spec::kTimerDeadline) {
    if (m_state.tsc_deadline && m_callbacks.tsc_to_ticks) m_timer.arm(m_callbacks.tsc_to_ticks(m_state.tsc_deadline));
    return;
  }
  if (!m_state.counting) return;
  m_timer.arm(m_state.count_start + u64{m_state.initial_count} * divider());
}

// The clock runs between the moments at which timers fire: a count that has reached zero meanwhile ends before the guest
// changes the timer.
void LocalApic::settle_count() {
  if ((m_state.lvt[kLvtTimer] & spec::kTimerDeadline) || !m_state.counting) return;
  if (m_clock.now() - m_state.count_start >= u64{m_state.initial_count} * divider()) timer_expired();
}

void LocalApic::timer_expired() {
  const u32 mode = m_state.lvt[kLvtTimer] & spec::kLvtTimerMode;
  if (mode == spec::kTimerDeadline) {
    // Rounding of the conversion must not let it fire before its time.
    if (m_callbacks.read_tsc && m_callbacks.read_tsc() < m_state.tsc_deadline) {
      const Ticks again = m_callbacks.tsc_to_ticks(m_state.tsc_deadline);
      m_timer.arm(std::max(again, m_clock.now() + 1));
      return;
    }
    m_state.tsc_deadline = 0;
  } else if (mode == spec::kTimerPeriodic && m_state.initial_count) {
    // From the last start, so as not to drift; periods that have passed unseen are one interrupt.
    const u64 period = u64{m_state.initial_count} * divider();
    const Ticks now = std::max(m_clock.now(), m_state.count_start);
    m_state.count_start += (now - m_state.count_start) / period * period;
    // A period of a few nanoseconds must not keep the emulator from running the guest.
    m_timer.arm(std::max(m_state.count_start + period, now + kShortestPeriod));
  } else {
    m_state.counting = false;
  }
  trigger_lvt(kLvtTimer);
}

// ---- interrupt command register, 11.6.1 ----

void LocalApic::write_icr(u64 value) {
  const bool extended = x2apic_mode();
  const u32 low = static_cast<u32>(value) & spec::kIcrImplemented;
  m_state.interrupt_command = (value & 0xffffffff00000000) | low;
  const u32 destination = static_cast<u32>(value >> 32);
  ApicMessage message{.destination = extended ? destination : destination >> 24,
                      .logical = (low & spec::kIcrLogical) != 0,
                      .x2apic_destination = extended,
                      .delivery = static_cast<ApicDelivery>((low >> 8) & 7),
                      .vector = static_cast<u8>(low),
                      .level_triggered = false};  // IPIs are edge-triggered, whatever the bit says
  // INIT level de-assert only synchronises arbitration ids on processors before the Pentium 4.
  if (message.delivery == ApicDelivery::Init && (low & spec::kIcrLevel) && !(low & spec::kIcrAssert)) return;
  if ((message.delivery == ApicDelivery::Fixed || message.delivery == ApicDelivery::LowestPriority) &&
      message.vector < 16) {
    return record_error(spec::kErrorSendIllegal);
  }
  switch ((low >> 18) & 3) {
    case 0: m_bus.deliver(message); break;
    case 1:
      // Only fixed is allowed with the shorthand "self" (table 11-3).
      if (message.delivery == ApicDelivery::Fixed) receive(message);
      break;
    case 2: m_bus.broadcast(message, nullptr); break;
    case 3: m_bus.broadcast(message, this); break;
  }
}

// ---- registers ----

u32 LocalApic::read_register(unsigned index) {
  switch (index) {
    case spec::kId: return x2apic_mode() ? m_state.id : m_state.id << 24;
    case spec::kVersion: return spec::kVersionValue;
    case spec::kTpr: return m_state.task_priority;
    case spec::kArbitration: return arbitration_priority();
    case spec::kPpr: return processor_priority();
    case spec::kEoi: case spec::kRemoteRead: return 0;
    case spec::kLogicalDestination: return logical_id();
    case spec::kDestinationFormat: return m_state.destination_format;
    case spec::kSpurious: return m_state.spurious;
    case spec::kErrorStatus: return m_state.error_status;
    case spec::kLvtCmciReg: return m_state.lvt[kLvtCmci];
    case spec::kIcrLow: return static_cast<u32>(m_state.interrupt_command);
    case spec::kIcrHigh: return static_cast<u32>(m_state.interrupt_command >> 32);
    case spec::kInitialCount: return m_state.initial_count;
    case spec::kCurrentCount: return current_count();
    case spec::kDivide: return m_state.divide_configuration;
    default: break;
  }
  if (index >= spec::kInService && index < spec::kInService + 8) return m_state.in_service[index & 7];
  if (index >= spec::kTriggerMode && index < spec::kTriggerMode + 8) return m_state.trigger_mode[index & 7];
  if (index >= spec::kRequested && index < spec::kRequested + 8) return m_state.requested[index & 7];
  if (index >= spec::kLvtTimerReg && index <= spec::kLvtErrorReg)
    return m_state.lvt[kLvtTimer + index - spec::kLvtTimerReg];
  record_error(spec::kErrorRegister);
  return 0;
}

// False: no such register, or a read-only one.
bool LocalApic::write_register(unsigned index, u32 value) {
  switch (index) {
    case spec::kId:
      if (x2apic_mode()) return false;
      m_state.id = value >> 24;
      return true;
    case spec::kTpr:
      m_state.task_priority = static_cast<u8>(value);
      update_request();
      return true;
    case spec::kEoi: end_of_interrupt(); return true;
    case spec::kLogicalDestination:
      if (x2apic_mode()) return false;
      m_state.logical_destination = value & 0xff000000;
      return true;
    case spec::kDestinationFormat:
      if (x2apic_mode()) return false;
      m_state.destination_format = value | 0x0fffffff;
      return true;
    case spec::kSpurious:
      m_state.spurious = value & spec::kSpuriousImplemented;
      if (!(value & spec::kSpuriousEnable))
        for (u32& entry : m_state.lvt) entry |= spec::kLvtMasked;  // 11.4.7.2
      update_request();
      return true;
    case spec::kErrorStatus:
      // 11.5.3: a write makes the errors since the last write readable.
      m_state.error_status = m_state.error_pending;
      m_state.error_pending = 0;
      return true;
    case spec::kLvtCmciReg: write_lvt(kLvtCmci, value); return true;
    case spec::kIcrLow: write_icr((m_state.interrupt_command & 0xffffffff00000000) | value); return true;
    case spec::kIcrHigh:
      m_state.interrupt_command = (m_state.interrupt_command & 0xffffffff) | static_cast<u64>(value & 0xff000000) << 32;
      return true;
    case spec::kInitialCount:
      if (m_state.lvt[kLvtTimer] & spec::kTimerDeadline) return true;  // 11.5.4.1: ignored in this mode
      settle_count();
      m_state.initial_count = value;
      start_count();
      return true;
    case spec::kDivide:
      settle_count();
      m_state.divide_configuration = value & 0xb;
      if (m_state.counting) start_count();
      return true;
    default: break;
  }
  if (index >= spec::kLvtTimerReg && index <= spec::kLvtErrorReg) {
    write_lvt(static_cast<Lvt>(kLvtTimer + index - spec::kLvtTimerReg), value);
    return true;
  }
  return false;
}

// 11.4.1: registers are 32 bits wide, 16 bytes apart. Narrower accesses, undefined on hardware, see the right bytes.
u64 LocalApic::read_mmio(u64 offset, unsigned size) {
  LocalApic& apic = m_bus.running(*this);
  const unsigned within = offset & 15;
  if (within >= 4) return 0;
  return (apic.read_register(static_cast<unsigned>(offset >> 4) & 0xff) >> (8 * within)) & (~0u >> (32 - 8 * size));
}

void LocalApic::write_mmio(u64 offset, unsigned size, u64 value) {
  LocalApic& apic = m_bus.running(*this);
  if ((offset & 15) != 0 || size != 4) return;
  const unsigned index = static_cast<unsigned>(offset >> 4) & 0xff;
  if (index == spec::kSelfIpi || !apic.write_register(index, static_cast<u32>(value)))
    apic.record_error(spec::kErrorRegister);
}

bool LocalApic::read_msr(u32 index, u64& value) {
  if (index == spec::kMsrBase) {
    value = m_state.base;
    return true;
  }
  if (index == spec::kMsrTscDeadline) {
    value = (m_state.lvt[kLvtTimer] & spec::kTimerDeadline) ? m_state.tsc_deadline : 0;
    return m_options.tsc_deadline;
  }
  if (index < spec::kMsrX2apicFirst || index > spec::kMsrX2apicLast || !x2apic_mode()) return false;
  const unsigned number = index - spec::kMsrX2apicFirst;
  switch (number) {
    case spec::kIcrLow: value = m_state.interrupt_command; return true;
    // Table 11-6: not there, or write-only.
    case spec::kArbitration: case spec::kEoi: case spec::kRemoteRead: case spec::kDestinationFormat:
    case spec::kIcrHigh: case spec::kSelfIpi: return false;
    default: break;
  }
  // An address without a register raises #GP here instead of recording an error.
  const bool implemented = number == spec::kId || number == spec::kVersion || number == spec::kTpr ||
                           number == spec::kPpr || number == spec::kLogicalDestination || number == spec::kSpurious ||
                           (number >= spec::kInService && number <= spec::kErrorStatus) ||
                           number == spec::kLvtCmciReg || number == spec::kDivide ||
                           (number >= spec::kLvtTimerReg && number <= spec::kCurrentCount);
  if (implemented) value = read_register(number);
  return implemented;
}

bool LocalApic::write_msr(u32 index, u64 value) {
  if (index == spec::kMsrBase) return set_base(value);
  if (index == spec::kMsrTscDeadline) {
    if (!m_options.tsc_deadline) return false;
    if (m_state.lvt[kLvtTimer] & spec::kTimerDeadline) {
      m_state.tsc_deadline = value;
      update_timer();
    }
    return true;
  }
  if (index < spec::kMsrX2apicFirst || index > spec::kMsrX2apicLast || !x2apic_mode()) return false;
  const unsigned number = index - spec::kMsrX2apicFirst;
  const u32 low = static_cast<u32>(value);
  // 11.12.1.2: reserved bits raise #GP.
  if (number == spec::kIcrLow) {
    if (low & ~(spec::kIcrImplemented & ~0x1000u)) return false;
    write_icr(value);
    return true;
  }
  if (value >> 32) return false;
  switch (number) {
    case spec::kSelfIpi:
      if (low & ~0xffu) return false;
      if (low < 16) record_error(spec::kErrorSendIllegal);
      else if (software_enabled()) request_vector(static_cast<u8>(low), false);
      return true;
    case spec::kTpr:
      if (low & ~0xffu) return false;
      break;
    case spec::kEoi: case spec::kErrorStatus:
      if (low) return false;
      break;
    case spec::kSpurious:
      if (low & ~spec::kSpuriousImplemented) return false;
      break;
    case spec::kDivide:
      if (low & ~0xbu) return false;
      break;
    case spec::kIcrHigh: return false;
    default: break;
  }
  if (number == spec::kLvtCmciReg || (number >= spec::kLvtTimerReg && number <= spec::kLvtErrorReg)) {
    const unsigned which = number == spec::kLvtCmciReg ? unsigned{kLvtCmci} : kLvtTimer + number - spec::kLvtTimerReg;
    if (low & ~(kLvtWritable[which] | spec::kLvtPending | spec::kLvtRemoteIrr)) return false;
  }
  return write_register(number, low);
}

void LocalApic::visit(Archive& archive) {
  auto& [base, id, task_priority, logical_destination, destination_format, spurious, in_service, trigger_mode,
         requested, error_status, error_pending, interrupt_command, lvt, initial_count, divide_configuration, count_start,
         counting, tsc_deadline, lint] = m_state;
  archive("base", base)("id", id)("task_priority", task_priority)("logical_destination", logical_destination)(
      "destination_format", destination_format)("spurious", spurious)("in_service", in_service)(
      "trigger_mode", trigger_mode)("requested", requested)("error_status", error_status)("error_pending", error_pending)(
      "interrupt_command", interrupt_command)("lvt", lvt)("initial_count", initial_count)(
      "divide_configuration", divide_configuration)("count_start", count_start)("counting", counting)(
      "tsc_deadline", tsc_deadline)("lint", lint);
  m_timer.visit(archive);
  archive.require((base & ~(spec::kBaseAddressMask | spec::kBaseBootstrap | spec::kBaseExtended | spec::kBaseEnable)) == 0 &&
                      base >> m_options.physical_address_bits == 0,
                  "local APIC base");
  archive.require(!counting || initial_count != 0, "local APIC timer count");
  archive.require(count_start <= m_clock.now(), "local APIC timer start");
  if (!archive.loading() || archive.failed()) return;
  update_mapping();
  m_request = deliverable_vector() >= 0 || (m_state.lint[0] && pic_passes());
  m_cpu.set_interrupt_request(m_request);
}

}  // namespace vellum
