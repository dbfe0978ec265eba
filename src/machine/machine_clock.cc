// Virtual time from its source.
#include "machine/machine_clock.h"

#include <ctime>

namespace vellum {

namespace {

u64 nanoseconds_of(clockid_t clock) {
  timespec now;
  clock_gettime(clock, &now);
  return static_cast<u64>(now.tv_sec) * 1'000'000'000 + static_cast<u64>(now.tv_nsec);
}

}  // namespace

u64 host_nanoseconds() { return nanoseconds_of(CLOCK_MONOTONIC); }
u64 thread_nanoseconds() { return nanoseconds_of(CLOCK_THREAD_CPUTIME_ID); }

Ticks MachineClock::now() const {
  if (m_mode == ClockMode::Realtime && !m_flowing) return m_base;
  const u64 passed = source() - m_source_at_base;
  if (m_mode != ClockMode::Paced) return m_base + passed;
  return m_base + static_cast<u64>((static_cast<u128>(passed) * m_rate) >> kRateBits);
}

void MachineClock::rebase(Ticks now) {
  m_base = now;
  m_source_at_base = source();
}

void MachineClock::start() {
  if (m_mode != ClockMode::Realtime || m_flowing) return;
  rebase(m_base);
  m_flowing = true;
}

void MachineClock::stop() {
  if (m_mode != ClockMode::Realtime || !m_flowing) return;
  m_base = now();
  m_flowing = false;
}

void MachineClock::skip_to(Ticks deadline) {
  if (m_mode == ClockMode::Instructions && deadline > now()) rebase(deadline);
}

void MachineClock::set_pace(Ticks advance, u32 rate) {
  rebase(now() + advance);
  m_rate = rate;
}

u64 MachineClock::instructions_until(Ticks deadline) const {
  if (deadline <= now()) return 1;
  if (m_mode != ClockMode::Paced) return deadline - now();
  const u64 wanted = deadline - m_base;
  const u128 total = ((static_cast<u128>(wanted) << kRateBits) + m_rate - 1) / m_rate;
  const u64 passed = source() - m_source_at_base;
  return total > ~u64{0} ? ~u64{0} : static_cast<u64>(total) - passed;
}

void MachineClock::visit(Archive& archive) {
  Ticks ticks = now();
  archive("now", ticks);
  // Half of the range: sums of a time and an interval cannot overflow.
  archive.require(ticks < (u64{1} << 63), "virtual time");
  u64 next_sequence = sequence();
  archive("sequence", next_sequence);
  // Where the next nanosecond begins depends on where the last correction was.
  u64 instructions = m_mode == ClockMode::Paced ? source() - m_source_at_base : 0;
  Ticks base = m_mode == ClockMode::Paced ? m_base : 0;
  u32 rate = m_rate;
  archive("instructions", instructions)("base", base)("rate", rate);
  archive.require(rate > 0 && base <= ticks && instructions <= source(), "the pace of time");
  if (!archive.loading() || archive.failed()) return;
  set_sequence(next_sequence);
  if (m_mode != ClockMode::Paced) return rebase(ticks);
  m_base = base;
  m_rate = rate;
  m_source_at_base = source() - instructions;
}

}  // namespace vellum
