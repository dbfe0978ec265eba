// Keys on their way to the keyboard: they wait while it has no room, as a person who types does.
#pragma once

#include <deque>
#include <functional>

#include "devices/key_code.h"
#include "devices/virtual_clock.h"

namespace vellum {

// A keyboard holds sixteen bytes and gives out one in 0.7 ms. Text that is pasted, a script, or a window that releases all keys at
// once are faster than any hand; without a queue the keyboard would lose some of it, and a lost release is a key that is stuck.
// Nothing of it is state of the guest. On the machine's thread.
class TypedKeys {
 public:
  // `ready`: whether the keyboard takes one more key now. `press`: hands one to it.
  TypedKeys(VirtualClock& clock, std::function<bool()> ready, std::function<void(KeyCode, bool)> press);

  void key(KeyCode code, bool down);
  // What was pressed and waits is of no interest any more; what was released is released all the same.
  void forget_presses();

 private:
  struct Event {
    KeyCode code;
    bool down;
  };
  void feed();

  // Wiring.
  VirtualClock& m_clock;
  std::function<bool()> m_ready;
  std::function<void(KeyCode, bool)> m_press;
  Timer m_timer;
  // State.
  std::deque<Event> m_waiting;
  Ticks m_progress = 0;  // when a key was taken last, or the first began to wait
};

}  // namespace vellum
