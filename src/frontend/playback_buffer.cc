// The playback buffer's control.
#include "frontend/playback_buffer.h"

#include <algorithm>
#include <cmath>

namespace vellum {

void PlaybackBuffer::put(std::span<const i16> samples) {
  for (usize i = 0; i + 1 < samples.size(); i += 2) m_frames.push_back({samples[i], samples[i + 1]});
  // A machine that runs ahead of real time makes more than can be heard.
  const usize most = 2 * m_target + kMost;
  if (m_frames.size() > most) m_frames.erase(m_frames.begin(), m_frames.end() - static_cast<long>(m_target));
}

void PlaybackBuffer::take(std::span<i16> samples) {
  if (m_filling && m_frames.size() >= m_target) {
    m_filling = false;
    m_level = static_cast<double>(m_frames.size());
  }
  for (usize i = 0; i + 1 < samples.size(); i += 2) {
    if (m_filling) {
      // What was heard last fades: a jump to silence would click.
      m_last.left = static_cast<i16>(m_last.left * 0.99);
      m_last.right = static_cast<i16>(m_last.right * 0.99);
      samples[i] = m_last.left;
      samples[i + 1] = m_last.right;
      continue;
    }
    m_level += (static_cast<double>(m_frames.size()) - m_level) / kAudioRate;
    const double target = static_cast<double>(m_target);
    m_position += 1 + std::clamp((m_level - target) / target, -1.0, 1.0) * 0.01;
    while (m_position >= 1) {
      if (m_frames.empty()) {
        m_filling = true;
        ++m_dropouts;
        m_calm = 0;
        m_position = 0;
        m_target = std::min(m_target + kStep, kMost);
        break;
      }
      m_last = m_next;
      m_next = m_frames.front();
      m_frames.pop_front();
      m_position -= 1;
    }
    const auto between = [this](i16 from, i16 to) { return static_cast<i16>(std::lround(from + (to - from) * m_position)); };
    samples[i] = between(m_last.left, m_next.left);
    samples[i + 1] = between(m_last.right, m_next.right);
    if (++m_calm >= kCalm) {
      m_calm = 0;
      m_target = std::max(m_target - kStep / 3, kLeast);
    }
  }
}

}  // namespace vellum
