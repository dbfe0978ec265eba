// Resampling and mixing.
#include "devices/audio.h"

#include <algorithm>
#include <cmath>

namespace vellum {

namespace {

constexpr Ticks kPiece = 10'000'000;
// What a device may be ahead of the mixer, in frames: more is dropped.
constexpr usize kLongestQueue = kAudioRate;
// A stream that ends in the middle of a wave fades instead of jumping to zero, which would click.
constexpr float kFade = 0.995f;

}  // namespace

AudioStream::AudioStream(AudioMixer* mixer, std::function<void()> before_mix)
    : m_mixer(mixer), m_before_mix(std::move(before_mix)) {
  if (m_mixer) m_mixer->m_streams.push_back(this);
}

AudioStream::~AudioStream() {
  if (m_mixer) std::erase(m_mixer->m_streams, this);
}

void AudioStream::push(AudioFrame frame) {
  if (!m_mixer || m_queue.size() >= kLongestQueue) return;
  if (m_queue.empty()) m_queue.insert(m_queue.end(), m_lead, m_last);
  m_queue.push_back(frame);
}

void AudioStream::clear() {
  m_queue.clear();
  m_position = 0;
}

void AudioStream::notice_time() {
  if (m_mixer && m_mixer->m_clock.now() < m_mixer->m_last_tick) m_mixer->resynchronize();
}

void AudioStream::mix(std::span<AudioFrame> into) {
  if (m_before_mix) m_before_mix();
  for (AudioFrame& frame : into) {
    if (m_queue.empty()) {
      m_last.left *= kFade;
      m_last.right *= kFade;
      frame.left += m_last.left * m_volume.left;
      frame.right += m_last.right * m_volume.right;
      continue;
    }
    const AudioFrame& next = m_queue.front();
    const auto part = static_cast<float>(m_position);
    frame.left += (m_last.left + (next.left - m_last.left) * part) * m_volume.left;
    frame.right += (m_last.right + (next.right - m_last.right) * part) * m_volume.right;
    for (m_position += m_step; m_position >= 1 && !m_queue.empty(); m_position -= 1) {
      m_last = m_queue.front();
      m_queue.pop_front();
    }
    if (m_position >= 1) m_position = 0;
  }
}

AudioMixer::AudioMixer(VirtualClock& clock, AudioSink& sink) : m_clock(clock), m_sink(sink), m_timer(clock, [this] { tick(); }, Timer::Kind::Unseen) {
  resynchronize();
}

void AudioMixer::resynchronize() {
  for (AudioStream* stream : m_streams) stream->clear();
  m_origin = m_last_tick = m_clock.now();
  m_frames = 0;
  m_timer.arm(m_origin + kPiece);
}

void AudioMixer::tick() {
  const Ticks now = m_clock.now();
  if (now < m_last_tick) return resynchronize();
  m_last_tick = now;
  u64 count = multiply_divide(now - m_origin, kAudioRate, kTicksPerSecond) - m_frames;
  if (count > kAudioRate) {
    // A guest that sleeps may skip much time at once; nobody wants to hear all that silence later.
    m_origin = now;
    m_frames = 0;
    count = kAudioRate / 100;
  } else {
    m_frames += count;
  }
  m_timer.arm(std::max(m_timer.deadline() + kPiece, now + kPiece / 2));
  m_sum.assign(count, {});
  for (AudioStream* stream : m_streams) stream->mix(m_sum);
  m_samples.clear();
  const auto limited = [](float value) { return static_cast<i16>(std::lround(std::clamp(value, -1.0f, 1.0f) * 32767)); };
  for (const AudioFrame& frame : m_sum) {
    m_samples.push_back(limited(frame.left));
    m_samples.push_back(limited(frame.right));
  }
  m_sink.play(m_samples);
}

u64 SampleClock::due(Ticks now) {
  const u64 passed = now > m_origin ? multiply_divide(now - m_origin, m_rate, kTicksPerSecond) : 0;
  const u64 most = m_rate / 10 + 1;
  if (passed < m_taken) return 0;
  if (passed - m_taken <= most) return passed - m_taken;
  m_origin = now;
  m_taken = 0;
  return most;
}

Ticks SampleClock::deadline(u64 samples) const {
  return m_origin + multiply_divide(m_taken + samples, kTicksPerSecond, m_rate) + 1;
}

void SampleClock::visit(Archive& archive) {
  archive("origin", m_origin)("rate", m_rate)("taken", m_taken);
  archive.require(m_rate >= 1 && m_rate <= 1'000'000 && m_taken < (u64{1} << 48), "sample clock");
}

}  // namespace vellum
