// Listens to sound devices: collects what the mixer plays, and measures it.
#pragma once

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "devices/audio.h"

namespace vellum {

struct Ear : AudioSink {
  std::vector<float> left, right;
  void play(std::span<const i16> samples) override {
    for (usize i = 0; i + 1 < samples.size(); i += 2) {
      left.push_back(static_cast<float>(samples[i]) / 32768);
      right.push_back(static_cast<float>(samples[i + 1]) / 32768);
    }
  }
  void clear() {
    left.clear();
    right.clear();
  }
};

// The strength of one frequency in Hz, as the amplitude of a sine (the Goertzel algorithm with a Hann window).
inline double strength(const std::vector<float>& samples, double frequency) {
  double real = 0, imaginary = 0, weight = 0;
  const double turn = 2 * std::numbers::pi;
  for (usize i = 0; i < samples.size(); ++i) {
    const double window = 0.5 - 0.5 * std::cos(turn * static_cast<double>(i) / static_cast<double>(samples.size()));
    real += samples[i] * window * std::cos(turn * frequency * static_cast<double>(i) / kAudioRate);
    imaginary += samples[i] * window * std::sin(turn * frequency * static_cast<double>(i) / kAudioRate);
    weight += window;
  }
  return 2 * std::hypot(real, imaginary) / weight;
}

inline float loudest(const std::vector<float>& samples) {
  float value = 0;
  for (const float sample : samples) value = std::max(value, std::abs(sample));
  return value;
}

// The frequency of rising zero crossings, by the first and the last of them.
inline double crossings_per_second(const std::vector<float>& samples) {
  double first = -1, last = -1;
  int count = 0;
  for (usize i = 1; i < samples.size(); ++i) {
    if (!(samples[i - 1] < 0 && samples[i] >= 0)) continue;
    const double at = static_cast<double>(i - 1) + static_cast<double>(samples[i - 1]) / (samples[i - 1] - samples[i]);
    if (first < 0) first = at;
    last = at;
    ++count;
  }
  return count < 2 ? 0 : (count - 1) * double{kAudioRate} / (last - first);
}

}  // namespace vellum
