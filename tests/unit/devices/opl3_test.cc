// The OPL3 against the YMF262 Application Manual: pitch, levels, envelopes, waveforms, timers.
#include <catch2/catch.hpp>

#include "devices/opl3.h"
#include "audio_fixture.h"

using namespace vellum;

namespace {

constexpr double kRate = 14318180.0 / 288;

struct Synthesizer {
  ManualClock clock;
  Ear ear;
  AudioMixer mixer{clock, ear};
  Opl3 opl{clock, &mixer};

  explicit Synthesizer(bool opl3 = true) {
    opl.reset();
    if (opl3) set(0x105, 1);
  }
  void set(unsigned index, u8 value) {
    opl.write(index & 0x100 ? 2 : 0, static_cast<u8>(index));
    opl.write(1, value);
  }
  // One sine on channel 0: the modulator is silent, the carrier at full level with fast attack and held.
  void voice(unsigned bank = 0, u8 outputs = 0x30) {
    set(bank + 0x20, 0x01);
    set(bank + 0x40, 0x3f);
    set(bank + 0x60, 0xf0);
    set(bank + 0x80, 0x0f);
    set(bank + 0x23, 0x21);
    set(bank + 0x43, 0x00);
    set(bank + 0x63, 0xf0);
    set(bank + 0x83, 0x0f);
    set(bank + 0xc0, outputs);
  }
  void note(unsigned number, unsigned block, bool on = true, unsigned channel = 0) {
    set(0xa0 + channel, static_cast<u8>(number));
    set(0xb0 + channel, static_cast<u8>((on ? 0x20 : 0) | block << 2 | number >> 8));
  }
  void listen(unsigned milliseconds) {
    clock.advance(50'000'000);
    ear.clear();
    clock.advance(Ticks{1'000'000} * milliseconds);
  }
};

}  // namespace

TEST_CASE("the pitch is F-number * rate / 2^(20 - block), times the multiple (manual, F-number)") {
  const auto [number, block, multiple] = GENERATE(table<unsigned, unsigned, u8>({{577, 4, 1}, {577, 5, 1}, {1023, 3, 1}, {300, 4, 2}, {600, 4, 0}, {345, 2, 10}}));
  Synthesizer s;
  s.voice();
  s.set(0x23, 0x20 | multiple);
  s.note(number, block);
  s.listen(500);
  const double expected = number * kRate / std::exp2(20.0 - block) * (multiple == 0 ? 0.5 : multiple);
  CHECK(crossings_per_second(s.ear.left) == Approx(expected).epsilon(0.002));
}

TEST_CASE("a total level of 0.75 dB a step attenuates the carrier") {
  Synthesizer s;
  s.voice();
  s.note(577, 4);
  s.listen(200);
  const double full = strength(s.ear.left, 577 * kRate / 65536);
  CHECK(full > 0.1);
  s.set(0x43, 16);  // 12 dB
  s.listen(200);
  CHECK(20 * std::log10(full / strength(s.ear.left, 577 * kRate / 65536)) == Approx(12).margin(0.3));
}

TEST_CASE("outputs A and B are left and right") {
  Synthesizer s;
  s.voice(0, 0x10);
  s.note(577, 4);
  s.listen(100);
  CHECK(loudest(s.ear.left) > 0.1);
  CHECK(loudest(s.ear.right) == 0);
  s.set(0xc0, 0x20);
  s.listen(100);
  CHECK(loudest(s.ear.left) < 0.001);
  CHECK(loudest(s.ear.right) > 0.1);
}

TEST_CASE("an OPL2 program that knows no outputs is heard on both") {
  Synthesizer s(false);
  s.voice(0, 0);
  s.note(577, 4);
  s.listen(100);
  CHECK(loudest(s.ear.left) > 0.1);
  CHECK(loudest(s.ear.right) > 0.1);
}

TEST_CASE("waveforms have the shapes of the manual's figure") {
  Synthesizer s;
  s.voice();
  s.note(577, 4);
  const double pitch = 577 * kRate / 65536;
  const auto set_wave = [&](u8 wave) {
    s.set(0xe3, wave);
    s.listen(200);
  };
  set_wave(1);  // half a sine: nothing below zero
  CHECK(*std::ranges::min_element(s.ear.left) > -0.001f);
  set_wave(2);  // both halves up: twice the frequency
  CHECK(*std::ranges::min_element(s.ear.left) > -0.001f);
  CHECK(strength(s.ear.left, 2 * pitch) > 5 * strength(s.ear.left, pitch));
  set_wave(4);  // a whole sine in the first half: the second harmonic
  CHECK(strength(s.ear.left, 2 * pitch) > 0.4 * loudest(s.ear.left));
  set_wave(6);  // a square has a third harmonic of a third
  CHECK(strength(s.ear.left, 3 * pitch) / strength(s.ear.left, pitch) == Approx(1.0 / 3).margin(0.03));
}

TEST_CASE("OPL2 mode knows four waveforms") {
  Synthesizer s(false);
  s.voice();
  s.set(0xe3, 6);  // 2
  s.note(577, 4);
  s.listen(100);
  CHECK(*std::ranges::min_element(s.ear.left) > -0.001f);
}

TEST_CASE("a released note decays: rate 5 takes 96 dB in 2455 ms (manual, table of rates)") {
  Synthesizer s;
  s.voice();
  s.set(0x83, 0x05);
  s.note(577, 1);  // key scaling number 2, so that nothing is added to the rate
  s.listen(100);
  const double before = loudest(s.ear.left);
  s.note(577, 1, false);
  s.clock.advance(500'000'000);
  s.ear.clear();
  s.clock.advance(100'000'000);
  const double decibels = 20 * std::log10(before / loudest(s.ear.left));
  CHECK(decibels == Approx(96 * 0.5 / 2.455).margin(2.0));
}

TEST_CASE("a percussive voice decays while its key is held, a sustained one stays at its sustain level") {
  Synthesizer s;
  s.voice();
  s.set(0x63, 0xf8);
  s.set(0x83, 0x4c);  // sustain at -12 dB
  s.note(577, 4);
  s.listen(50);
  s.clock.advance(2'000'000'000);
  s.ear.clear();
  s.clock.advance(100'000'000);
  CHECK(20 * std::log10(loudest(s.ear.left) / 0.1247) == Approx(-12).margin(0.5));  // 4084 / 32768 is full
  s.set(0x23, 0x01);
  s.clock.advance(3'000'000'000);
  s.ear.clear();
  s.clock.advance(100'000'000);
  CHECK(loudest(s.ear.left) == 0);
}

TEST_CASE("a modulator makes side bands at multiples of its frequency") {
  Synthesizer s;
  s.voice();
  s.set(0x20, 0x22);
  s.set(0x40, 0x20);
  s.note(577, 4);
  const double pitch = 577 * kRate / 65536;
  s.listen(200);
  CHECK(strength(s.ear.left, 3 * pitch) > 0.002);
  s.set(0xc0, 0x31);  // added instead: both are heard, no third harmonic
  s.listen(200);
  CHECK(strength(s.ear.left, 3 * pitch) < 0.001);
  CHECK(strength(s.ear.left, 2 * pitch) > 0.002);
}

TEST_CASE("four operators of channels 0 and 3 play one note") {
  Synthesizer s;
  s.voice();
  for (const unsigned base : {0x28u, 0x2bu}) {
    s.set(base, 0x24);
    s.set(base + 0x20, 0x00);
    s.set(base + 0x40, 0xf0);
    s.set(base + 0x60, 0x0f);
  }
  s.set(0xc3, 0x31);
  s.set(0xc0, 0x31);
  s.set(0x104, 0x01);
  s.note(577, 4);
  s.listen(200);
  const double pitch = 577 * kRate / 65536;
  CHECK(strength(s.ear.left, 4 * pitch) > 0.05);  // operators 3 and 4 follow the first channel's key
  s.note(577, 4, false);
  s.listen(200);
  CHECK(loudest(s.ear.left) < 0.01);
}

TEST_CASE("rhythm sounds: each key of register BDh is heard") {
  Synthesizer s;
  for (unsigned offset = 0x10; offset <= 0x15; ++offset) {
    s.set(0x20 + offset, 0x01);
    s.set(0x40 + offset, 0x00);
    s.set(0x60 + offset, 0xf8);
    s.set(0x80 + offset, 0x08);
  }
  for (unsigned channel = 6; channel <= 8; ++channel) s.note(400, 4, false, channel);
  for (const u8 drum : {0x10, 0x08, 0x04, 0x02, 0x01}) {
    s.set(0xbd, 0x20);
    s.listen(2000);
    s.set(0xbd, 0x20 | drum);
    s.ear.clear();
    s.clock.advance(100'000'000);
    CAPTURE(static_cast<int>(drum));
    CHECK(loudest(s.ear.left) > 0.05);
  }
}

TEST_CASE("timer 1 counts 80 us, timer 2 320 us; masks and the reset bit (manual, register 04h)") {
  Synthesizer s(false);
  CHECK(s.opl.read(0) == 0);
  s.set(0x02, 0xff);
  s.set(0x04, 0x21);  // timer 2 masked, timer 1 runs
  s.clock.advance(79'000);
  CHECK(s.opl.read(0) == 0);
  s.clock.advance(2'000);
  CHECK(s.opl.read(0) == 0xc0);
  s.set(0x04, 0x80);
  CHECK(s.opl.read(0) == 0);
  s.clock.advance(80'000);
  CHECK(s.opl.read(0) == 0xc0);
  s.set(0x04, 0x60);
  s.set(0x04, 0x80);
  s.set(0x03, 0xfe);
  s.set(0x04, 0x42);
  s.clock.advance(639'000);
  CHECK(s.opl.read(0) == 0);
  s.clock.advance(2'000);
  CHECK(s.opl.read(0) == 0xa0);
}
