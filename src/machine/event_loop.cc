// ppoll() over the registered sources and an eventfd for wake().
#include "machine/event_loop.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>

#include "state/assert.h"

namespace vellum {

EventSource::EventSource(EventLoop& loop, int descriptor, std::function<short()> interest,
                         std::function<void(short)> ready)
    : m_loop(loop), m_descriptor(descriptor), m_interest(std::move(interest)), m_ready(std::move(ready)) {
  m_loop.m_sources.push_back(this);
}

EventSource::~EventSource() { std::erase(m_loop.m_sources, this); }

EventGroup::EventGroup(EventLoop& loop, std::function<void(std::vector<pollfd>&, std::optional<u64>&)> fill,
                       std::function<void(std::span<const pollfd>)> ready)
    : m_loop(loop), m_fill(std::move(fill)), m_ready(std::move(ready)) {
  m_loop.m_groups.push_back(this);
}

EventGroup::~EventGroup() { std::erase(m_loop.m_groups, this); }

EventLoop::EventLoop() : m_wake_descriptor(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
  VELLUM_ASSERT(m_wake_descriptor >= 0);
}

EventLoop::~EventLoop() { close(m_wake_descriptor); }

void EventLoop::wake() {
  const u64 one = 1;
  // A full counter means that a wake-up is pending already.
  [[maybe_unused]] const auto written = write(m_wake_descriptor, &one, sizeof(one));
}

void EventLoop::wait(std::optional<u64> nanoseconds) {
  std::vector<pollfd> polled{{m_wake_descriptor, POLLIN, 0}};
  std::vector<EventSource*> asked;
  for (EventSource* source : m_sources) {
    const short interest = source->m_interest();
    if (!interest) continue;
    polled.push_back({source->m_descriptor, interest, 0});
    asked.push_back(source);
  }
  struct Asked {
    EventGroup* group;
    usize first, end;
  };
  std::vector<Asked> groups;
  for (EventGroup* group : m_groups) {
    const usize first = polled.size();
    group->m_fill(polled, nanoseconds);
    groups.push_back({group, first, polled.size()});
  }
  timespec timeout{};
  if (nanoseconds) {
    timeout.tv_sec = static_cast<time_t>(*nanoseconds / 1'000'000'000);
    timeout.tv_nsec = static_cast<long>(*nanoseconds % 1'000'000'000);
  }
  const int reported = ppoll(polled.data(), polled.size(), nanoseconds ? &timeout : nullptr, nullptr);
  if (reported < 0) return;
  for (const Asked& asked_group : groups)
    if (std::ranges::find(m_groups, asked_group.group) != m_groups.end())
      asked_group.group->m_ready(std::span<const pollfd>(polled).subspan(asked_group.first, asked_group.end - asked_group.first));
  if (reported == 0) return;
  if (polled[0].revents) {
    u64 count;
    [[maybe_unused]] const auto taken = read(m_wake_descriptor, &count, sizeof(count));
  }
  for (usize i = 0; i < asked.size(); ++i) {
    // An earlier source may have removed this one, and this one may remove itself while it is being served.
    if (!polled[i + 1].revents || std::ranges::find(m_sources, asked[i]) == m_sources.end()) continue;
    const auto ready = asked[i]->m_ready;
    ready(polled[i + 1].revents);
  }
}

}  // namespace vellum
