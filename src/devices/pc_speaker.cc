// The PC speaker: edges to samples.
#include "devices/pc_speaker.h"

namespace vellum {

namespace {

// One frame lasts Pit8254::kFrequency of the units in which a clock of the timer lasts kAudioRate.
constexpr u64 kFrame = Pit8254::kFrequency;
constexpr float kVolume = 0.25f;
constexpr float kCoupling = 0.003f;  // a high pass at about 20 Hz

}  // namespace

PcSpeaker::PcSpeaker(VirtualClock& clock, Pit8254& pit, AudioMixer* mixer)
    : m_clock(clock), m_pit(pit), m_stream(mixer, [this] {
        m_pit.output(2);  // brings the timer up to date, and so all its edges
        advance(multiply_divide(m_clock.now(), Pit8254::kFrequency, kTicksPerSecond));
      }) {
  if (mixer) pit.listen2 = [this](u64 at, bool level) { edge(at, level); };
  m_stream.set_volume(kVolume, kVolume);
}

void PcSpeaker::set_enabled(bool enabled) {
  if (!m_stream.heard()) return;
  m_stream.notice_time();  // a state may have been loaded
  if (enabled == m_enabled) return;
  m_out = m_pit.output(2);
  advance(multiply_divide(m_clock.now(), Pit8254::kFrequency, kTicksPerSecond));
  m_enabled = enabled;
}

void PcSpeaker::edge(u64 clock, bool level) {
  advance(clock);
  m_out = level;
}

void PcSpeaker::advance(u64 clock) {
  const u64 end = clock * kAudioRate;
  // Time has jumped, by a loaded state or a long sleep: what was in between is not heard.
  if (end < m_position || end - m_position > kFrame * kAudioRate) {
    m_position = end / kFrame * kFrame;
    m_high = 0;
  }
  const bool high = m_out && m_enabled;
  while (m_position < end) {
    const u64 frame_end = (m_position / kFrame + 1) * kFrame;
    const u64 until = frame_end < end ? frame_end : end;
    if (high) m_high += until - m_position;
    m_position = until;
    if (until != frame_end) break;
    const float level = static_cast<float>(m_high) / kFrame;
    m_mean += (level - m_mean) * kCoupling;
    m_stream.push({level - m_mean, level - m_mean});
    m_high = 0;
  }
}

}  // namespace vellum
