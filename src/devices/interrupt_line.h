// A wire from a device's output to an input pin of another part.
#pragma once

#include "state/integers.h"

namespace vellum {

// A part with numbered input pins. Setting a pin to the level it already has must change nothing.
class InterruptSink {
 public:
  virtual ~InterruptSink() = default;
  virtual void set_input(unsigned pin, bool level) = 0;
};

// An unconnected line swallows everything.
class InterruptLine {
 public:
  InterruptLine() = default;
  InterruptLine(InterruptSink& sink, unsigned pin) : m_sink(&sink), m_pin(pin) {}
  void set(bool level) const {
    if (m_sink) m_sink->set_input(m_pin, level);
  }
  void raise() const { set(true); }
  void lower() const { set(false); }

 private:
  InterruptSink* m_sink = nullptr;
  unsigned m_pin = 0;
};

}  // namespace vellum
