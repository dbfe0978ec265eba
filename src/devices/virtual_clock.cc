// Timers of virtual time.
#include "devices/virtual_clock.h"

#include <algorithm>

namespace vellum {

std::optional<Ticks> VirtualClock::next_deadline() const {
  if (m_armed.empty()) return std::nullopt;
  return (*std::ranges::min_element(m_armed, {}, &Timer::m_deadline))->m_deadline;
}

std::optional<Ticks> VirtualClock::next_seen_deadline() const {
  std::optional<Ticks> earliest;
  for (const Timer* timer : m_armed)
    if (timer->m_kind == Timer::Kind::Seen && (!earliest || timer->m_deadline < *earliest)) earliest = timer->m_deadline;
  return earliest;
}

void VirtualClock::run_due() {
  while (!m_armed.empty()) {
    Timer* first = *std::ranges::min_element(m_armed, [](const Timer* a, const Timer* b) {
      return std::pair(a->m_deadline, a->m_sequence) < std::pair(b->m_deadline, b->m_sequence);
    });
    if (first->m_deadline > now()) return;
    first->cancel();
    first->m_callback();
  }
}

void Timer::arm(Ticks deadline) { arm(deadline, m_kind == Kind::Seen ? m_clock.m_sequence++ : ~u64{0}); }

void Timer::arm(Ticks deadline, u64 sequence) {
  if (!m_armed) m_clock.m_armed.push_back(this);
  m_armed = true;
  m_deadline = deadline;
  m_sequence = sequence;
  if (m_clock.next_deadline() == deadline) m_clock.deadline_moved();
}

void Timer::cancel() {
  if (!m_armed) return;
  m_armed = false;
  std::erase(m_clock.m_armed, this);
}

void Timer::visit(Archive& archive) {
  bool armed = m_armed;
  Ticks deadline = m_armed ? m_deadline : 0;
  u64 sequence = m_armed ? m_sequence : 0;
  archive.begin("timer");
  archive("armed", armed)("deadline", deadline)("sequence", sequence);
  archive.end();
  if (archive.loading() && !archive.failed()) {
    cancel();
    if (armed) arm(deadline, sequence);
  }
}

void ManualClock::advance(Ticks ticks) {
  const Ticks end = m_now + ticks;
  while (true) {
    const auto deadline = next_deadline();
    if (!deadline || *deadline > end) break;
    m_now = std::max(m_now, *deadline);
    run_due();
  }
  m_now = end;
}

}  // namespace vellum
