// Virtual time and the timers on it. Devices know no other clock.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "state/archive.h"
#include "state/integers.h"

namespace vellum {

// Virtual nanoseconds since power-on. It never runs backwards, and stands still while the machine is stopped.
using Ticks = u64;
inline constexpr Ticks kTicksPerSecond = 1'000'000'000;

// a * b / c without overflow: conversions between ticks and a device's own frequency.
constexpr u64 multiply_divide(u64 a, u64 b, u64 c) { return static_cast<u64>(static_cast<u128>(a) * b / c); }

class Timer;

// The queue of armed timers. Whoever owns it (the machine, or a test) moves time by a source and run_due().
class VirtualClock {
 public:
  virtual ~VirtualClock() = default;
  virtual Ticks now() const = 0;

  // The earliest deadline, if any timer is armed.
  std::optional<Ticks> next_deadline() const;
  // The same of Timer::Kind::Seen alone: to where time may jump when every CPU waits.
  std::optional<Ticks> next_seen_deadline() const;
  // Fires every timer whose deadline has been reached, in order of deadline, then of arming.
  void run_due();

 protected:
  // Called when a timer was armed that is due before all others (a running CPU must be told).
  virtual void deadline_moved() {}
  // The number that the next timer to be armed gets. Timers of one deadline fire in the order of their numbers, so a machine
  // that goes on like the one that was saved needs it.
  u64 sequence() const { return m_sequence; }
  void set_sequence(u64 sequence) { m_sequence = sequence; }

 private:
  friend class Timer;
  std::vector<Timer*> m_armed;  // few: a linear scan beats a heap
  u64 m_sequence = 0;
};

// A one-shot timer; rearm it in the callback for a periodic one, from the previous deadline so as not to drift.
class Timer {
 public:
  // Seen: what it does is part of the guest's world. Unseen: it serves the host (sound), may be there or not, and leaves no trace in
  // the clock's state; it fires behind the others of its deadline.
  enum class Kind : u8 { Seen, Unseen };
  Timer(VirtualClock& clock, std::function<void()> callback, Kind kind = Kind::Seen) : m_clock(clock), m_callback(std::move(callback)), m_kind(kind) {}
  ~Timer() { cancel(); }
  Timer(const Timer&) = delete;

  void arm(Ticks deadline);
  void cancel();
  bool armed() const { return m_armed; }
  Ticks deadline() const { return m_deadline; }
  // State: whether it is armed, for when, and before which others. Loading re-arms it.
  void visit(Archive& archive);

 private:
  friend class VirtualClock;
  void arm(Ticks deadline, u64 sequence);
  VirtualClock& m_clock;
  std::function<void()> m_callback;
  Kind m_kind;
  bool m_armed = false;
  Ticks m_deadline = 0;
  u64 m_sequence = 0;
};

// A clock that a test (or any owner) moves by hand.
class ManualClock : public VirtualClock {
 public:
  Ticks now() const override { return m_now; }
  // Moves time on by `ticks`, firing each timer at its own deadline.
  void advance(Ticks ticks);

 private:
  Ticks m_now = 0;
};

}  // namespace vellum
