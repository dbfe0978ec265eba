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
  return m_base + (source() - m_source_at_base);
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

void MachineClock::visit(Archive& archive) {
  Ticks ticks = now();
  archive("now", ticks);
  // Half of the range: sums of a time and an interval cannot overflow.
  archive.require(ticks < (u64{1} << 63), "virtual time");
  if (archive.loading() && !archive.failed()) rebase(ticks);
}

}  // namespace vellum
