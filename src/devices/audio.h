// How devices make sound: streams of samples, mixed at one rate by virtual time, for whatever plays them.
#pragma once

#include <deque>
#include <functional>
#include <span>
#include <vector>

#include "devices/virtual_clock.h"
#include "state/archive.h"
#include "state/integers.h"

namespace vellum {

inline constexpr u32 kAudioRate = 48000;  // frames a second, of all that leaves the machine

struct AudioFrame {
  float left = 0, right = 0;  // -1 to 1
};

// Where the machine's sound goes. Called on the machine's thread, which it must not keep waiting.
class AudioSink {
 public:
  virtual ~AudioSink() = default;
  // The next piece: 16-bit samples, left and right in turn.
  virtual void play(std::span<const i16> samples) = 0;
};

class AudioMixer;

// One device's sound on its way to the mixer, at the device's own rate. Nothing of it is guest-visible state: a device
// does the same whether anybody listens or not.
class AudioStream {
 public:
  // `mixer` may be null: nobody listens. `before_mix` is called whenever samples are about to be taken.
  explicit AudioStream(AudioMixer* mixer, std::function<void()> before_mix = {});
  ~AudioStream();
  AudioStream(const AudioStream&) = delete;

  bool heard() const { return m_mixer != nullptr; }
  // What comes from now on has this rate in frames a second.
  void set_rate(double rate) { m_step = rate / kAudioRate; }
  void set_volume(float left, float right) { m_volume = {left, right}; }
  // A stream that gets its samples in pieces, behind time: so many frames of silence go ahead after a pause, so that the
  // next piece comes before the last one has been taken.
  void set_lead(usize frames) { m_lead = frames; }
  void push(AudioFrame frame);
  void clear();
  // Virtual time may have gone back, because a state was loaded.
  void notice_time();

 private:
  friend class AudioMixer;
  void mix(std::span<AudioFrame> into);

  AudioMixer* m_mixer;
  std::function<void()> m_before_mix;
  std::deque<AudioFrame> m_queue;
  AudioFrame m_last, m_volume{1, 1};
  double m_step = 1, m_position = 0;  // in frames of the stream; the position is between m_last and the queue's first
  usize m_lead = 0;
};

// Takes from all streams as many frames as virtual time has passed, ten milliseconds at a time.
class AudioMixer {
 public:
  AudioMixer(VirtualClock& clock, AudioSink& sink);

 private:
  friend class AudioStream;
  void resynchronize();
  void tick();

  VirtualClock& m_clock;
  AudioSink& m_sink;
  Timer m_timer;
  std::vector<AudioStream*> m_streams;
  Ticks m_origin = 0;
  Ticks m_last_tick = 0;
  u64 m_frames = 0;  // handed over since m_origin
  std::vector<AudioFrame> m_sum;
  std::vector<i16> m_samples;
};

// Counts samples by virtual time, without drift: what a converter's crystal does.
class SampleClock {
 public:
  void start(Ticks now, u32 rate) {
    m_origin = now;
    m_rate = rate;
    m_taken = 0;
  }
  u32 rate() const { return m_rate; }
  // Samples whose time has come and that were not taken yet. A host that was away for more than a tenth of a second does
  // not get all of them.
  u64 due(Ticks now);
  void take(u64 samples) { m_taken += samples; }
  // When `samples` more will be due.
  Ticks deadline(u64 samples) const;
  void visit(Archive& archive);

 private:
  Ticks m_origin = 0;
  u32 m_rate = kAudioRate;
  u64 m_taken = 0;
};

}  // namespace vellum
