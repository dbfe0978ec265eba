// The WAV file, and the buffer between the machine's time and a sound card's.
#include <catch2/catch.hpp>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <numbers>
#include <unistd.h>

#include "frontend/audio_sinks.h"
#include "frontend/playback_buffer.h"

using namespace vellum;

TEST_CASE("a WAV file has the header that its samples need") {
  const auto path = std::filesystem::temp_directory_path() / fmt::format("vellum-{}.wav", getpid());
  {
    auto sink = make_wav_sink(path);
    REQUIRE(sink);
    const i16 samples[] = {1, -2, 3, -4};
    (*sink)->play(samples);
  }
  std::ifstream file(path, std::ios::binary);
  const std::string content((std::istreambuf_iterator<char>(file)), {});
  std::filesystem::remove(path);
  REQUIRE(content.size() == 44 + 8);
  const auto number = [&](usize at, unsigned bytes) {
    u32 value = 0;
    std::memcpy(&value, content.data() + at, bytes);
    return value;
  };
  CHECK(content.substr(0, 4) == "RIFF");
  CHECK(number(4, 4) == 36 + 8);
  CHECK(content.substr(8, 8) == "WAVEfmt ");
  CHECK(number(20, 2) == 1);
  CHECK(number(22, 2) == 2);
  CHECK(number(24, 4) == 48000);
  CHECK(number(28, 4) == 192000);
  CHECK(number(34, 2) == 16);
  CHECK(number(40, 4) == 8);
  CHECK(static_cast<i16>(number(46, 2)) == -2);
}

TEST_CASE("a WAV file that cannot be made is an error with its name") {
  const auto sink = make_wav_sink("/nonexistent/x.wav");
  REQUIRE_FALSE(sink);
  CHECK(sink.error().message.find("/nonexistent/x.wav") != std::string::npos);
}

namespace {

// Plays `seconds` of a sine: the machine makes pieces of 10 ms that come up to `jitter` ms late, the card takes 512 at a time,
// faster than the machine by `drift`. Returns dropouts; `jump`: the greatest step between neighbouring samples behind the start.
u64 play(double seconds, double drift, double jitter, int& jump) {
  PlaybackBuffer buffer;
  double made_until = 0, taken = 0, phase = 0;
  u32 random = 1;
  std::vector<i16> out(1024);
  int last = 0;
  jump = 0;
  for (u64 piece = 0; made_until < seconds; ++piece) {
    random = random * 1664525 + 1013904223;
    const double arrival = static_cast<double>(piece + 1) * 0.01 + jitter / 1000 * (random >> 8) / double{1 << 24};
    while (taken / (kAudioRate * (1 + drift)) < arrival) {
      buffer.take(out);
      taken += 512;
      for (usize i = 0; i < out.size(); i += 2) {
        if (taken > kAudioRate) jump = std::max(jump, std::abs(out[i] - last));
        last = out[i];
      }
    }
    std::vector<i16> samples;
    for (unsigned i = 0; i < 480; ++i) {
      const auto value = static_cast<i16>(std::lround(10000 * std::sin(phase)));
      samples.insert(samples.end(), {value, value});
      phase += 2 * std::numbers::pi * 300 / kAudioRate;
    }
    buffer.put(samples);
    made_until += 0.01;
  }
  return buffer.dropouts();
}

}  // namespace

TEST_CASE("a card whose clock is half a percent off plays without a gap or a step") {
  const double drift = GENERATE(-0.005, 0.0, 0.005);
  int jump = 0;
  CHECK(play(120, drift, 5, jump) == 0);
  CHECK(jump < 450);  // a sine of 300 Hz and this amplitude changes by 393 a sample
}

TEST_CASE("a machine that is often late makes the buffer grow until it suffices") {
  int jump = 0;
  const u64 early = play(20, 0, 80, jump), late = play(120, 0, 80, jump);
  CHECK(early <= 10);
  CHECK(late <= early + 3);
}

TEST_CASE("an empty buffer gives silence, and a machine that runs ahead does not fill memory") {
  PlaybackBuffer buffer;
  std::vector<i16> out(1024, 77);
  buffer.take(out);
  CHECK(std::ranges::all_of(out, [](i16 sample) { return sample == 0; }));
  const std::vector<i16> much(2 * kAudioRate);
  for (int i = 0; i < 100; ++i) buffer.put(much);
  CHECK(buffer.frames() < kAudioRate);
}
