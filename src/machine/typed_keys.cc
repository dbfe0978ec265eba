// When keys are handed on, and when they are given up.
#include "machine/typed_keys.h"

#include <bitset>

namespace vellum {

namespace {

constexpr Ticks kPeriod = 5'000'000;
// A guest that has not read the keyboard for so long shall not find later what was typed meanwhile.
constexpr Ticks kPatience = kTicksPerSecond;
constexpr usize kMostWaiting = 4096;  // while the machine is stopped, no time passes

}  // namespace

TypedKeys::TypedKeys(VirtualClock& clock, std::function<bool()> ready, std::function<void(KeyCode, bool)> press)
    : m_clock(clock), m_ready(std::move(ready)), m_press(std::move(press)), m_timer(clock, [this] { feed(); }, Timer::Kind::Unseen) {}

void TypedKeys::key(KeyCode code, bool down) {
  if (m_waiting.empty()) m_progress = m_clock.now();
  if (m_waiting.size() >= kMostWaiting) forget_presses();
  m_waiting.push_back({code, down});
  feed();
}

void TypedKeys::forget_presses() {
  // Of each key the last event counts: when that is its release, the guest may have seen the press.
  std::bitset<256> known;
  std::deque<Event> releases;
  for (auto at = m_waiting.rbegin(); at != m_waiting.rend(); ++at) {
    const auto index = static_cast<u8>(at->code);
    if (!known[index] && !at->down) releases.push_front(*at);
    known[index] = true;
  }
  m_waiting.swap(releases);
}

void TypedKeys::feed() {
  // A loaded state may be of an earlier time.
  const Ticks now = m_clock.now();
  if (m_progress > now) m_progress = now;
  while (!m_waiting.empty() && m_ready()) {
    const Event event = m_waiting.front();
    m_waiting.pop_front();
    m_progress = now;
    m_press(event.code, event.down);
  }
  if (m_waiting.empty()) return m_timer.cancel();
  if (now - m_progress >= kPatience) forget_presses();
  if (!m_timer.armed() || m_timer.deadline() > now + kPeriod) m_timer.arm(now + kPeriod);
}

}  // namespace vellum
