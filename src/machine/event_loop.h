// Waits for host file descriptors on the machine's thread, between slices of guest work.
#pragma once

#include <poll.h>

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "state/error.h"
#include "state/integers.h"

namespace vellum {

// One descriptor, registered with the loop as long as it lives.
class EventLoop;
class EventSource {
 public:
  // `interest` says which of POLLIN and POLLOUT matter now (asked before each wait; 0: not even errors are reported);
  // `ready` gets the events that poll() reported.
  EventSource(EventLoop& loop, int descriptor, std::function<short()> interest, std::function<void(short)> ready);
  ~EventSource();
  EventSource(const EventSource&) = delete;

  int descriptor() const { return m_descriptor; }

 private:
  friend class EventLoop;
  EventLoop& m_loop;
  int m_descriptor;
  std::function<short()> m_interest;
  std::function<void(short)> m_ready;
};

// Descriptors that come and go, of a library that has them: it says before each wait which there are.
class EventGroup {
 public:
  // `fill` adds what is to be polled, and may shorten the time that is waited (nanoseconds; empty: forever). `ready` gets the same
  // descriptors behind the wait, with what poll() reported, also when it reported nothing.
  EventGroup(EventLoop& loop, std::function<void(std::vector<pollfd>&, std::optional<u64>&)> fill, std::function<void(std::span<const pollfd>)> ready);
  ~EventGroup();
  EventGroup(const EventGroup&) = delete;

 private:
  friend class EventLoop;
  EventLoop& m_loop;
  std::function<void(std::vector<pollfd>&, std::optional<u64>&)> m_fill;
  std::function<void(std::span<const pollfd>)> m_ready;
};

class EventLoop {
 public:
  EventLoop();
  ~EventLoop();
  EventLoop(const EventLoop&) = delete;

  // Waits at most `nanoseconds` (forever when empty, not at all when 0), and serves what became ready. Returns early
  // after wake() and after signals. A source may remove itself and others while it is served.
  void wait(std::optional<u64> nanoseconds);

  // Ends the present or the next wait(). Async-signal-safe, from any thread.
  void wake();

 private:
  friend class EventSource;
  friend class EventGroup;
  std::vector<EventGroup*> m_groups;
  std::vector<EventSource*> m_sources;
  int m_wake_descriptor;
};

}  // namespace vellum
