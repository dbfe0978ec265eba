// The PC speaker: a cone that follows counter 2 of the timer, gated by port 61h.
#pragma once

#include "devices/audio.h"
#include "devices/pit8254.h"

namespace vellum {

// Each edge counts at its own time, so that programs which play samples by pulse width are heard as they mean it. It has
// no state of its own: its input is the timer's output and a bit of port 61h.
class PcSpeaker {
 public:
  // `mixer` may be null. Installs itself as the timer's listener, and must outlive the timer.
  PcSpeaker(VirtualClock& clock, Pit8254& pit, AudioMixer* mixer);

  // Port 61h bit 1: lets OUT2 through.
  void set_enabled(bool enabled);

 private:
  void edge(u64 clock, bool level);
  void advance(u64 clock);  // the cone stood as it stands up to this clock of the timer

  VirtualClock& m_clock;
  Pit8254& m_pit;
  AudioStream m_stream;
  bool m_out = false, m_enabled = false;
  u64 m_position = 0;   // in clocks of the timer times kAudioRate
  u64 m_high = 0;       // of them spent high since the last frame began
  float m_mean = 0;     // what the coupling capacitor takes away
};

}  // namespace vellum
