// The MC146818A: the calendar, its alarm, and the interrupts derived from the divider chain.
#include "devices/rtc_mc146818.h"

#include <algorithm>

#include "state/log.h"

namespace vellum {

namespace {

// MC146818A datasheet, "Address Map" (figure 12) and "Registers".
namespace spec {
constexpr u8 kSeconds = 0x00, kSecondsAlarm = 0x01, kMinutes = 0x02, kMinutesAlarm = 0x03, kHours = 0x04,
             kHoursAlarm = 0x05, kDayOfWeek = 0x06, kDayOfMonth = 0x07, kMonth = 0x08, kYear = 0x09, kA = 0x0a,
             kB = 0x0b, kC = 0x0c, kD = 0x0d;
constexpr u8 kCentury = 0x32;  // where the PC's firmware keeps it
constexpr u8 kUpdateInProgress = 0x80, kDividerReset = 0x60, kRateMask = 0x0f;              // A
constexpr u8 kSet = 0x80, kPeriodicEnable = 0x40, kAlarmEnable = 0x20, kUpdateEnable = 0x10, kSquareWaveEnable = 0x08,
             kBinary = 0x04, k24Hours = 0x02, kDaylightSaving = 0x01;                       // B
constexpr u8 kInterruptRequest = 0x80, kPeriodic = 0x40, kAlarm = 0x20, kUpdateEnded = 0x10;  // C
constexpr u8 kValid = 0x80;                                                                 // D
constexpr u8 kPm = 0x80;
constexpr u8 kDontCare = 0xc0;  // an alarm byte with both bits set matches everything
constexpr u8 kNmiMask = 0x80;   // port 70h
// "Update Cycle": UIP is set 244 us before the cycle, which takes 1984 us with a 32.768 kHz time base.
constexpr Ticks kUpdateWarning = 244'000 + 1'984'000;
constexpr u64 kOscillator = 32768;  // Hz
// "Divider control": the first update comes half a second after the divider leaves reset.
constexpr Ticks kFirstUpdate = kTicksPerSecond / 2;
}  // namespace spec

bool is_leap(unsigned year) { return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0); }

unsigned days_in_month(unsigned month, unsigned year) {
  constexpr u8 kDays[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  if (month < 1 || month > 12) return 31;
  return month == 2 && is_leap(year) ? 29 : kDays[month - 1];
}

}  // namespace

RtcMc146818::RtcMc146818(VirtualClock& clock, InterruptLine irq8, u64 base_seconds,
                         std::function<void(bool)> nmi_mask)
    : m_base_seconds(base_seconds),
      m_clock(clock),
      m_irq8(irq8),
      m_nmi_mask(std::move(nmi_mask)),
      m_update_timer(clock, [this] { update_cycle(); }),
      m_periodic_timer(clock, [this] {
        note_periodic();
        update_interrupt();
        arm_periodic();
      }) {
  reset(ResetKind::PowerOn);
}

void RtcMc146818::preset(u8 index, u8 value) {
  m_preset[index] = value;
  set_cmos(index, value);
}

void RtcMc146818::set_cmos(u8 index, u8 value) {
  if (index > spec::kD) m_state.ram[index] = value;
}

void RtcMc146818::reset(ResetKind kind) {
  auto& ram = m_state.ram;
  if (kind == ResetKind::PowerOn) {
    m_state = State{};
    ram = m_preset;
    ram[spec::kA] = 0x26;  // 32.768 kHz, 1024 Hz periodic rate: as a PC's firmware expects and leaves it
    ram[spec::kB] = spec::k24Hours;
    ram[spec::kD] = spec::kValid;
    set_time(m_base_seconds + m_clock.now() / kTicksPerSecond);
    arm_update();
  }
  // "RESET": the interrupt enables and flags are cleared; clock, calendar and RAM are not affected.
  ram[spec::kB] &= static_cast<u8>(
      ~(spec::kPeriodicEnable | spec::kAlarmEnable | spec::kUpdateEnable | spec::kSquareWaveEnable));
  ram[spec::kC] = 0;
  m_state.index = m_state.extended_index = 0;
  m_state.nmi_masked = true;
  if (m_nmi_mask) m_nmi_mask(true);
  m_state.periodic_seen = periodic_count();
  update_interrupt();
  arm_periodic();
}

void RtcMc146818::visit(Archive& archive) {
  auto& [ram, index, extended_index, nmi_masked, divider_start, periodic_seen] = m_state;
  archive("ram", ram)("index", index)("extended_index", extended_index)("nmi_masked", nmi_masked);
  archive("divider_start", divider_start)("periodic_seen", periodic_seen);
  archive("update_timer", m_update_timer);
  if (!archive.loading()) return;
  const u64 now = m_clock.now();
  archive.require(index < 0x80 && extended_index < 0x80, "CMOS index");
  archive.require(divider_start <= static_cast<i64>(now) && divider_start >= -static_cast<i64>(kTicksPerSecond),
                  "RTC divider");
  if (archive.failed()) return;
  archive.require(periodic_seen <= periodic_count(), "RTC periodic count");
  // An update may be due already, but not so long ago that catching up would take noticeable time.
  const Ticks deadline = m_update_timer.deadline();
  const bool near = deadline <= now + kTicksPerSecond && deadline + 60 * kTicksPerSecond >= now;
  archive.require(!m_update_timer.armed() || near, "RTC update time");
  archive.require(m_update_timer.armed() == dividers_running(), "RTC update timer");
  if (archive.failed()) return;
  if (m_nmi_mask) m_nmi_mask(nmi_masked);
  update_interrupt();
  arm_periodic();
}

u8 RtcMc146818::encode(unsigned value) const {
  if (m_state.ram[spec::kB] & spec::kBinary) return static_cast<u8>(value);
  return static_cast<u8>(value / 10 % 10 << 4 | value % 10);
}

unsigned RtcMc146818::decode(u8 value) const {
  if (m_state.ram[spec::kB] & spec::kBinary) return value;
  return (value >> 4) * 10u + (value & 0xf);
}

u8 RtcMc146818::encode_hour(unsigned hour) const {
  if (m_state.ram[spec::kB] & spec::k24Hours) return encode(hour);
  const u8 pm = hour >= 12 ? spec::kPm : 0;
  return encode(hour % 12 == 0 ? 12 : hour % 12) | pm;
}

unsigned RtcMc146818::decode_hour(u8 value) const {
  if (m_state.ram[spec::kB] & spec::k24Hours) return decode(value);
  return decode(value & 0x7f) % 12 + (value & spec::kPm ? 12 : 0);
}

void RtcMc146818::set_time(u64 seconds) {
  auto& ram = m_state.ram;
  u64 days = seconds / 86400;
  const unsigned second_of_day = static_cast<unsigned>(seconds % 86400);
  ram[spec::kSeconds] = encode(second_of_day % 60);
  ram[spec::kMinutes] = encode(second_of_day / 60 % 60);
  ram[spec::kHours] = encode_hour(second_of_day / 3600);
  ram[spec::kDayOfWeek] = encode(static_cast<unsigned>((days + 4) % 7 + 1));  // 1970-01-01 was a Thursday; Sunday is 1
  // The calendar repeats after 400 years (146,097 days), so a far base still gives a valid date.
  unsigned year = 1970 + static_cast<unsigned>(days / 146097 % 20 * 400);
  days %= 146097;
  while (days >= (is_leap(year) ? 366u : 365u)) days -= is_leap(year++) ? 366 : 365;
  unsigned month = 1;
  while (days >= days_in_month(month, year)) days -= days_in_month(month++, year);
  ram[spec::kDayOfMonth] = encode(static_cast<unsigned>(days) + 1);
  ram[spec::kMonth] = encode(month);
  ram[spec::kYear] = encode(year % 100);
  ram[spec::kCentury] = encode(year / 100 % 100);
}

void RtcMc146818::second_passed() {
  auto& ram = m_state.ram;
  const auto count = [&](u8 index, unsigned last, unsigned first) {  // true: carry
    const unsigned value = decode(ram[index]) + 1;
    ram[index] = encode(value > last ? first : value);
    return value > last;
  };
  if (!count(spec::kSeconds, 59, 0)) return;
  if (!count(spec::kMinutes, 59, 0)) return;
  const unsigned hour = decode_hour(ram[spec::kHours]) + 1;
  ram[spec::kHours] = encode_hour(hour > 23 ? 0 : hour);
  if (hour <= 23) return;
  count(spec::kDayOfWeek, 7, 1);
  const unsigned year = decode(ram[spec::kCentury]) * 100 + decode(ram[spec::kYear]);
  if (!count(spec::kDayOfMonth, days_in_month(decode(ram[spec::kMonth]), year), 1)) return;
  if (!count(spec::kMonth, 12, 1)) return;
  if (!count(spec::kYear, 99, 0)) return;
  count(spec::kCentury, 99, 0);
}

bool RtcMc146818::alarm_matches() const {
  const auto& ram = m_state.ram;
  const auto matches = [&](u8 alarm, u8 time) {
    return (ram[alarm] & spec::kDontCare) == spec::kDontCare || ram[alarm] == ram[time];
  };
  return matches(spec::kSecondsAlarm, spec::kSeconds) && matches(spec::kMinutesAlarm, spec::kMinutes) &&
         matches(spec::kHoursAlarm, spec::kHours);
}

bool RtcMc146818::dividers_running() const {
  return (m_state.ram[spec::kA] & spec::kDividerReset) != spec::kDividerReset;
}

u64 RtcMc146818::elapsed() const { return m_clock.now() - static_cast<u64>(m_state.divider_start); }

u64 RtcMc146818::periodic_rate() const {
  const unsigned rate = m_state.ram[spec::kA] & spec::kRateMask;
  if (rate == 0 || !dividers_running()) return 0;
  return rate <= 2 ? 512 >> rate : spec::kOscillator >> (rate - 1);
}

u64 RtcMc146818::periodic_count() const { return multiply_divide(elapsed(), periodic_rate(), kTicksPerSecond); }

void RtcMc146818::note_periodic() {
  const u64 count = periodic_count();
  if (count > m_state.periodic_seen) m_state.ram[spec::kC] |= spec::kPeriodic;
  m_state.periodic_seen = count;
}

void RtcMc146818::arm_update() {
  if (!dividers_running()) return m_update_timer.cancel();
  m_update_timer.arm(m_clock.now() + kTicksPerSecond - elapsed() % kTicksPerSecond);
}

void RtcMc146818::arm_periodic() {
  const u64 rate = periodic_rate();
  // While the flag is set another period changes nothing that can be seen, so no timer is needed.
  const bool wanted = rate != 0 && (m_state.ram[spec::kB] & spec::kPeriodicEnable) &&
                      !(m_state.ram[spec::kC] & spec::kPeriodic);
  if (!wanted) return m_periodic_timer.cancel();
  const u128 since_start = (static_cast<u128>(m_state.periodic_seen + 1) * kTicksPerSecond + rate - 1) / rate;
  m_periodic_timer.arm(static_cast<Ticks>(since_start) + static_cast<u64>(m_state.divider_start));
}

void RtcMc146818::update_cycle() {
  m_update_timer.arm(m_update_timer.deadline() + kTicksPerSecond);
  if (m_state.ram[spec::kB] & spec::kSet) return;
  second_passed();
  m_state.ram[spec::kC] |= spec::kUpdateEnded;
  if (alarm_matches()) m_state.ram[spec::kC] |= spec::kAlarm;
  update_interrupt();
}

void RtcMc146818::catch_up() {
  while (m_update_timer.armed() && m_update_timer.deadline() <= m_clock.now()) update_cycle();
}

bool RtcMc146818::update_in_progress() const {
  if (!dividers_running() || (m_state.ram[spec::kB] & spec::kSet)) return false;
  return kTicksPerSecond - elapsed() % kTicksPerSecond <= spec::kUpdateWarning;
}

void RtcMc146818::update_interrupt() {
  // The flags of C and the enables of B have the same places.
  const u8 enabled = m_state.ram[spec::kB] & (spec::kPeriodicEnable | spec::kAlarmEnable | spec::kUpdateEnable);
  m_irq8.set(m_state.ram[spec::kC] & enabled);
}

u8 RtcMc146818::read(u8 index) {
  auto& ram = m_state.ram;
  if (index <= spec::kD || index == spec::kCentury) catch_up();
  switch (index) {
    case spec::kA:
      return ram[spec::kA] | (update_in_progress() ? spec::kUpdateInProgress : 0);
    case spec::kC: {
      note_periodic();
      const u8 flags = ram[spec::kC];
      const u8 enabled = flags & ram[spec::kB] & (spec::kPeriodic | spec::kAlarm | spec::kUpdateEnded);
      ram[spec::kC] = 0;
      update_interrupt();
      arm_periodic();
      return flags | (enabled ? spec::kInterruptRequest : 0);
    }
    default:
      return ram[index];
  }
}

void RtcMc146818::write(u8 index, u8 value) {
  auto& ram = m_state.ram;
  if (index <= spec::kD || index == spec::kCentury) catch_up();
  switch (index) {
    case spec::kA: {
      note_periodic();
      const bool was_running = dividers_running();
      ram[spec::kA] = value & static_cast<u8>(~spec::kUpdateInProgress);
      if (dividers_running() && !was_running)
        m_state.divider_start = static_cast<i64>(m_clock.now() + spec::kFirstUpdate - kTicksPerSecond);
      if (dividers_running() != was_running) arm_update();
      m_state.periodic_seen = periodic_count();
      break;
    }
    case spec::kB:
      note_periodic();
      if (value & ~ram[spec::kB] & spec::kDaylightSaving)
        log(LogItem::Unsupported, "RTC: automatic daylight saving time");
      if (value & spec::kSet) value &= static_cast<u8>(~spec::kUpdateEnable);  // "UIE": cleared by SET
      ram[spec::kB] = value;
      break;
    case spec::kC:
    case spec::kD:
      return;  // read-only
    default:
      ram[index] = value;
      return;
  }
  update_interrupt();
  arm_periodic();
}

u32 RtcMc146818::read_port(u16 port, unsigned) {
  switch (port & 3) {
    case 1: return read(m_state.index);
    case 3: return read(m_state.extended_index | 0x80);
    default: return 0xff;  // the index registers are write-only
  }
}

void RtcMc146818::write_port(u16 port, unsigned, u32 value) {
  const u8 byte = static_cast<u8>(value);
  switch (port & 3) {
    case 0:
      m_state.index = byte & 0x7f;
      m_state.nmi_masked = byte & spec::kNmiMask;
      if (m_nmi_mask) m_nmi_mask(m_state.nmi_masked);
      break;
    case 1: return write(m_state.index, byte);
    case 2: m_state.extended_index = byte & 0x7f; break;
    case 3: return write(m_state.extended_index | 0x80, byte);
  }
}

}  // namespace vellum
