// HPET: main counter, comparators, legacy replacement.
#include "devices/hpet.h"

#include <algorithm>

namespace vellum {

namespace {

// IA-PC HPET specification 1.0a, 2.3.
namespace spec {
constexpr u64 kCapabilities = 0x00, kConfiguration = 0x10, kStatus = 0x20, kCounter = 0xf0, kTimer0 = 0x100,
              kTimerStride = 0x20, kSize = 0x400;
constexpr u64 kEnable = 1, kLegacyRoute = 2;  // 2.3.5
// 2.3.4: period in femtoseconds, vendor, legacy routing, 64-bit counter, number of timers - 1, revision.
constexpr u64 kCapabilityValue = static_cast<u64>(Hpet::kPeriodFemtoseconds) << 32 | 0x8086u << 16 | 1 << 15 | 1 << 13 |
                                 (Hpet::kTimers - 1) << 8 | 1;
// 2.3.8
constexpr u64 kLevel = 1 << 1, kInterruptEnable = 1 << 2, kPeriodic = 1 << 3, kPeriodicCapable = 1 << 4,
              kWide = 1 << 5, kSetValue = 1 << 6, kForce32 = 1 << 8, kRoute = 0x1f << 9;
constexpr u64 kTimerWritable = kLevel | kInterruptEnable | kPeriodic | kSetValue | kForce32 | kRoute;
constexpr u64 kTimerFixed = kPeriodicCapable | kWide | u64{0x00ff0000} << 32;  // routes: IOAPIC inputs 16 to 23
}  // namespace spec

constexpr Ticks kTicksPerCount = Hpet::kPeriodFemtoseconds / 1'000'000;
constexpr unsigned kLegacyIrq[2] = {0, 8};
constexpr u64 kFurthest = u64{1} << 58;  // counts; what lies further off is armed anew when reached

}  // namespace

void Hpet::Comparator::visit(Archive& archive) {
  archive("configuration", configuration)("comparator", comparator)("period", period)("route", route)("output", output)(
      "output_pin", output_pin);
}

Hpet::Hpet(AddressSpace& memory, VirtualClock& clock, InterruptSink& isa, InterruptSink& io_apic, u64 base)
    : m_memory(memory),
      m_clock(clock),
      m_isa(isa),
      m_io_apic(io_apic),
      m_timers{Timer(clock, [this] { expired(0); }), Timer(clock, [this] { expired(1); }),
               Timer(clock, [this] { expired(2); })} {
  m_mapping = memory.map_mmio("hpet", GuestPhysAddr(base), spec::kSize, *this, 10);
  reset(ResetKind::PowerOn);
}

Hpet::~Hpet() { m_memory.unmap(m_mapping); }

bool Hpet::legacy() const { return m_state.configuration & spec::kLegacyRoute; }
bool Hpet::running() const { return m_state.configuration & spec::kEnable; }

u64 Hpet::counter() const {
  return running() ? m_state.counter_base + (m_clock.now() - m_state.counter_start) / kTicksPerCount
                   : m_state.counter_base;
}

u64 Hpet::timer_mask(unsigned index) const {
  return m_state.timers[index].configuration & spec::kForce32 ? 0xffffffff : ~u64{0};
}

void Hpet::reset(ResetKind) {
  for (unsigned index = 0; index < kTimers; ++index) {
    m_timers[index].cancel();
    drive(index, false);
  }
  const bool was_legacy = legacy();
  const auto legacy_inputs = m_state.legacy_inputs;
  m_state = {};
  m_state.legacy_inputs = legacy_inputs;
  for (auto& timer : m_state.timers) {
    timer.configuration = spec::kTimerFixed;
    timer.comparator = ~u64{0};
  }
  if (was_legacy) update_legacy();
}

void Hpet::set_input(unsigned pin, bool level) {
  if (pin > kRtc) return;
  m_state.legacy_inputs[pin] = level;
  if (!legacy()) m_isa.set_input(kLegacyIrq[pin], level);
}

// 2.3.5: with legacy replacement the PIT and the RTC cause no interrupts.
void Hpet::update_legacy() {
  for (unsigned pin = 0; pin < 2; ++pin) m_isa.set_input(kLegacyIrq[pin], legacy() ? false : m_state.legacy_inputs[pin]);
}

void Hpet::drive(unsigned index, bool level) {
  Comparator& timer = m_state.timers[index];
  const bool replaced = legacy() && index < 2;
  const unsigned pin = replaced ? kLegacyIrq[index] : static_cast<unsigned>((timer.configuration & spec::kRoute) >> 9);
  const unsigned wanted = pin | (replaced ? 0x100 : 0);
  const auto set = [this](unsigned output_pin, bool value) {
    if (output_pin & 0x100) m_isa.set_input(output_pin & 0xff, value);
    else if (output_pin >= 16) m_io_apic.set_input(output_pin, value);
  };
  if (timer.output && (!level || timer.output_pin != wanted)) set(timer.output_pin, false);
  if (level && (!timer.output || timer.output_pin != wanted)) set(wanted, true);
  timer.output = level;
  timer.output_pin = wanted;
}

// Level: the line follows the status bit. Edge: a pulse when the timer expires.
void Hpet::update_output(unsigned index) {
  const Comparator& timer = m_state.timers[index];
  drive(index, (timer.configuration & spec::kLevel) && (timer.configuration & spec::kInterruptEnable) &&
                   (m_state.interrupt_status >> index & 1));
}

void Hpet::arm(unsigned index) {
  m_timers[index].cancel();
  const Comparator& timer = m_state.timers[index];
  if (!running()) return;
  const u64 mask = timer_mask(index);
  u64 distance = (timer.comparator - counter()) & mask;
  if (distance == 0) distance = mask;  // it has just matched: a full turn
  distance = std::min(distance, kFurthest);
  // The tick at which the counter takes its next value, plus whole counts.
  const Ticks into_count = (m_clock.now() - m_state.counter_start) % kTicksPerCount;
  m_timers[index].arm(m_clock.now() - into_count + distance * kTicksPerCount);
}

void Hpet::expired(unsigned index) {
  Comparator& timer = m_state.timers[index];
  const u64 mask = timer_mask(index);
  const u64 passed = (counter() - timer.comparator) & mask;
  if (passed > mask / 2 && mask == ~u64{0}) return arm(index);  // only kFurthest was reached
  if ((timer.configuration & spec::kPeriodic) && timer.period) {
    // 2.3.9.2.2: the comparator moves on by the period; periods that went by unseen are one interrupt. A period of a
    // few counts must not keep the emulator from running the guest: it is stretched to a microsecond.
    const u64 period = std::max<u64>(timer.period & mask, 1);
    timer.comparator = (timer.comparator + (passed / period + 1) * period) & mask;
    arm(index);
    m_timers[index].arm(std::max(m_timers[index].deadline(), m_clock.now() + 1000));
  } else {
    arm(index);
  }
  if (timer.configuration & spec::kLevel) {
    m_state.interrupt_status |= u64{1} << index;
    update_output(index);
  } else if (timer.configuration & spec::kInterruptEnable) {
    drive(index, true);
    drive(index, false);
  }
}

u64 Hpet::read_register(u64 offset) const {
  switch (offset) {
    case spec::kCapabilities: return spec::kCapabilityValue;
    case spec::kConfiguration: return m_state.configuration;
    case spec::kStatus: return m_state.interrupt_status;
    case spec::kCounter: return counter();
    default: break;
  }
  if (offset < spec::kTimer0 || offset >= spec::kTimer0 + kTimers * spec::kTimerStride) return 0;
  const Comparator& timer = m_state.timers[(offset - spec::kTimer0) / spec::kTimerStride];
  switch (offset % spec::kTimerStride) {
    case 0x00: return timer.configuration;
    case 0x08: return timer.comparator;
    case 0x10: return timer.route;
    default: return 0;
  }
}

void Hpet::write_register(u64 offset, u64 value, u64 mask) {
  switch (offset) {
    case spec::kConfiguration: {
      const u64 old = m_state.configuration;
      const u64 count = counter();
      const u64 wanted = ((old & ~mask) | (value & mask)) & (spec::kEnable | spec::kLegacyRoute);
      if ((old ^ wanted) & spec::kLegacyRoute)
        for (unsigned index = 0; index < 2; ++index) drive(index, false);
      m_state.configuration = wanted;
      if ((old ^ wanted) & spec::kEnable) {
        m_state.counter_base = count;
        m_state.counter_start = m_clock.now();
        for (unsigned index = 0; index < kTimers; ++index) arm(index);
      }
      if ((old ^ wanted) & spec::kLegacyRoute) {
        update_legacy();
        for (unsigned index = 0; index < 2; ++index) update_output(index);
      }
      return;
    }
    case spec::kStatus:  // 2.3.6: write 1 to clear, level-triggered timers only
      m_state.interrupt_status &= ~(value & mask);
      for (unsigned index = 0; index < kTimers; ++index) update_output(index);
      return;
    case spec::kCounter:  // 2.3.7: to be written while halted; a running counter takes the value too
      m_state.counter_base = (counter() & ~mask) | (value & mask);
      m_state.counter_start = m_clock.now();
      for (unsigned index = 0; index < kTimers; ++index) arm(index);
      return;
    default: break;
  }
  if (offset < spec::kTimer0 || offset >= spec::kTimer0 + kTimers * spec::kTimerStride) return;
  write_timer(static_cast<unsigned>((offset - spec::kTimer0) / spec::kTimerStride), offset % spec::kTimerStride, value,
              mask);
}

void Hpet::write_timer(unsigned index, unsigned offset, u64 value, u64 mask) {
  Comparator& timer = m_state.timers[index];
  switch (offset) {
    case 0x00: {
      const u64 writable = mask & spec::kTimerWritable;
      u64 configuration = (timer.configuration & ~writable) | (value & writable);
      // 2.3.8: a route that the capability field does not allow is not taken.
      const u64 route = (configuration & spec::kRoute) >> 9;
      if (route && !(spec::kTimerFixed >> 32 >> route & 1)) configuration &= ~spec::kRoute;
      timer.configuration = configuration;
      if (timer.configuration & spec::kForce32) {
        timer.comparator &= 0xffffffff;
        timer.period &= 0xffffffff;
      }
      if (!(timer.configuration & spec::kLevel)) m_state.interrupt_status &= ~(u64{1} << index);
      update_output(index);
      arm(index);
      return;
    }
    case 0x08: {
      // 2.3.9.2.2: in periodic mode a write sets the period, and with Tn_VAL_SET_CNF (which then clears) the
      // comparator, too.
      const bool periodic = timer.configuration & spec::kPeriodic;
      const u64 width = timer_mask(index);
      if (!periodic || (timer.configuration & spec::kSetValue))
        timer.comparator = ((timer.comparator & ~mask) | (value & mask)) & width;
      if (periodic) timer.period = ((timer.period & ~mask) | (value & mask)) & width;
      timer.configuration &= ~spec::kSetValue;
      arm(index);
      return;
    }
    case 0x10: timer.route = (timer.route & ~mask) | (value & mask); return;
    default: return;
  }
}

u64 Hpet::read_mmio(u64 offset, unsigned size) {
  return read_register(offset & ~u64{7}) >> (8 * (offset & 7)) & (~u64{0} >> (64 - 8 * size));
}

void Hpet::write_mmio(u64 offset, unsigned size, u64 value) {
  const unsigned shift = 8 * (offset & 7);
  write_register(offset & ~u64{7}, value << shift, (~u64{0} >> (64 - 8 * size)) << shift);
}

void Hpet::visit(Archive& archive) {
  auto& [configuration, interrupt_status, counter_base, counter_start, timers, legacy_inputs] = m_state;
  archive("configuration", configuration)("interrupt_status", interrupt_status)("counter_base", counter_base)(
      "counter_start", counter_start)("timers", timers)("legacy_inputs", legacy_inputs);
  for (auto& timer : m_timers) timer.visit(archive);
  archive.require((configuration & ~(spec::kEnable | spec::kLegacyRoute)) == 0, "HPET configuration");
  archive.require(counter_start <= m_clock.now(), "HPET counter start");
}

}  // namespace vellum
