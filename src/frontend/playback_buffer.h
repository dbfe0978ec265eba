// Samples between the machine, which makes them by virtual time, and a sound card, which takes them by its own.
#pragma once

#include <deque>
#include <span>

#include "devices/audio.h"

namespace vellum {

// The two clocks differ a little, and the machine's thread is sometimes late. Playback runs up to one percent faster or slower
// to keep the buffer where it should be, which nobody hears; each time it runs empty it is filled more before playback
// goes on, and after a long time without that a little less. Not thread-safe.
class PlaybackBuffer {
 public:
  void put(std::span<const i16> samples);
  // Always fills `samples`, with silence where there is nothing.
  void take(std::span<i16> samples);

  usize frames() const { return m_frames.size(); }
  usize target() const { return m_target; }
  u64 dropouts() const { return m_dropouts; }

 private:
  struct Frame {
    i16 left = 0, right = 0;
  };
  static constexpr usize kLeast = kAudioRate * 40 / 1000, kMost = kAudioRate * 250 / 1000, kStep = kAudioRate * 15 / 1000;
  static constexpr u64 kCalm = u64{kAudioRate} * 30;

  std::deque<Frame> m_frames;
  Frame m_last, m_next;
  double m_position = 0;
  usize m_target = kLeast;
  bool m_filling = true;
  u64 m_calm = 0;      // frames since the last dropout
  u64 m_dropouts = 0;
  double m_level = kLeast;  // how full it is, smoothed
};

}  // namespace vellum
