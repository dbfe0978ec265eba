// PC speaker, Sound Blaster 16 and AC'97: what a driver does, and what is heard then.
#include <catch2/catch.hpp>

#include "devices/ac97.h"
#include "devices/pc_speaker.h"
#include "devices/sb16.h"
#include "devices/system_control_port.h"
#include "audio_fixture.h"
#include "fakes.h"

using namespace vellum;

namespace {

struct SpeakerBench {
  ManualClock clock;
  FakeLines lines;
  Ear ear;
  AudioMixer mixer{clock, ear};
  Pit8254 pit{clock, lines.line(0)};
  PcSpeaker speaker{clock, pit, &mixer};
  SystemControlPort port61{clock, pit, lines.line(1)};
  SpeakerBench() {
    port61.enable_speaker = [this](bool enabled) { speaker.set_enabled(enabled); };
    pit.reset(ResetKind::PowerOn);
    port61.reset(ResetKind::PowerOn);
  }
  ~SpeakerBench() { pit.listen2 = nullptr; }
  void tone(u16 divisor, u8 mode = 0xb6) {
    pit.write_port(0x43, 1, mode);
    pit.write_port(0x42, 1, divisor & 0xff);
    pit.write_port(0x42, 1, divisor >> 8);
  }
};

// A card with its 8237, and memory for what it plays.
struct CardBench {
  ManualClock clock;
  std::unique_ptr<GuestRam> ram = std::move(*GuestRam::create(4 << 20));
  AddressSpace memory{*ram};
  PortBus ports;
  PciBus pci{memory, ports};
  Ear ear;
  AudioMixer mixer{clock, ear};
  CardBench() { memory.map_ram("ram", GuestPhysAddr(0), 4 << 20, 0); }
  void out(unsigned port, u32 value, unsigned size = 1) { ports.write(static_cast<u16>(port), size, value); }
  u32 in(unsigned port, unsigned size = 1) { return ports.read(static_cast<u16>(port), size); }
  void listen(unsigned milliseconds) {
    clock.advance(50'000'000);
    ear.clear();
    clock.advance(Ticks{1'000'000} * milliseconds);
  }
};

struct Blaster : CardBench {
  Dma8237Pair dma{memory};
  std::array<unsigned, 16> interrupts{};
  std::array<bool, 16> level{};
  Sb16 card{ports, clock, dma, [this](unsigned irq, bool now) {
              if (now && !level[irq]) ++interrupts[irq];
              level[irq] = now;
            }, &mixer};
  Blaster() {
    ports.map("dma", 0, 16, dma);
    ports.map("dma high", 0xc0, 32, dma);
    ports.map("pages", 0x80, 16, dma);
    dma.reset(ResetKind::PowerOn);
    card.reset(ResetKind::PowerOn);
    out(0xd6, 0xc0);  // the cascade
    out(0xd4, 0x00);
    out(0x224, 0x81);
    out(0x225, 0x22);  // DMA 1 and 5
    for (const u8 volume : {0x30, 0x31, 0x32, 0x33}) {
      out(0x224, volume);
      out(0x225, 0xf8);
    }
  }
  void command(std::initializer_list<u8> bytes) {
    for (const u8 byte : bytes) {
      CHECK((in(0x22c) & 0x80) == 0);
      out(0x22c, byte);
    }
  }
  u8 answer() {
    CHECK((in(0x22e) & 0x80) != 0);
    return static_cast<u8>(in(0x22a));
  }
  void reset_dsp() {
    out(0x226, 1);
    clock.advance(10'000);
    out(0x226, 0);
    clock.advance(100'000);
    CHECK(answer() == 0xaa);
  }
  // Channel 1, bytes, auto-initialize or single, memory to device.
  void dma8(u32 address, u32 bytes, bool automatic) {
    out(0x0a, 0x05);
    out(0x0c, 0);
    out(0x0b, automatic ? 0x59 : 0x49);
    out(0x02, address & 0xff);
    out(0x02, address >> 8 & 0xff);
    out(0x83, address >> 16);
    out(0x03, (bytes - 1) & 0xff);
    out(0x03, (bytes - 1) >> 8);
    out(0x0a, 0x01);
  }
  // Channel 5, words.
  void dma16(u32 address, u32 words, bool automatic) {
    out(0xd4, 0x05);
    out(0xd8, 0);
    out(0xd6, automatic ? 0x59 : 0x49);
    out(0xc4, address >> 1 & 0xff);
    out(0xc4, address >> 9 & 0xff);
    out(0x8b, address >> 16);
    out(0xc6, (words - 1) & 0xff);
    out(0xc6, (words - 1) >> 8);
    out(0xd4, 0x01);
  }
};

struct Codec : CardBench {
  static constexpr unsigned kMixer = 0xc400, kMaster = 0xc000;
  Ac97 card{clock, &mixer};
  bool interrupt = false;
  Codec() {
    pci.attach(card, 4, 0);
    pci.set_interrupt_router([this](u8, u8, bool now) { interrupt = now; });
    card.reset(ResetKind::PowerOn);
    card.write_config(0x10, 4, kMixer);
    card.write_config(0x14, 4, kMaster);
    card.write_config(0x04, 2, 5);
    out(kMaster + 0x2c, 2, 4);  // out of the cold reset
    out(kMixer + 0x02, 0x0000, 2);
    out(kMixer + 0x18, 0x0808, 2);
  }
  void descriptor(unsigned index, u32 address, u16 samples, bool interrupt_on_done) {
    memory.write_value<u32>(GuestPhysAddr(0x1000 + 8 * index), address);
    memory.write_value<u32>(GuestPhysAddr(0x1004 + 8 * index), samples | (interrupt_on_done ? 0x80000000u : 0));
  }
  void sine(u32 address, unsigned frames, double frequency, double rate) {
    for (unsigned i = 0; i < frames; ++i) {
      const auto value = static_cast<i16>(std::lround(16000 * std::sin(2 * std::numbers::pi * frequency * i / rate)));
      memory.write_value<u16>(GuestPhysAddr(address + 4 * i), static_cast<u16>(value));
      memory.write_value<u16>(GuestPhysAddr(address + 4 * i + 2), static_cast<u16>(-value));
    }
  }
};

}  // namespace

TEST_CASE("the speaker sounds at the timer's frequency while port 61h lets it") {
  SpeakerBench b;
  b.tone(1193);  // 1000.15 Hz
  b.clock.advance(100'000'000);
  CHECK(loudest(b.ear.left) == 0);
  b.port61.write_port(0x61, 1, 3);
  b.clock.advance(50'000'000);
  b.ear.clear();
  b.clock.advance(1'000'000'000);
  CHECK(crossings_per_second(b.ear.left) == Approx(1193182.0 / 1193).epsilon(0.0005));
  CHECK(b.ear.left.size() == Approx(48000).margin(960));
  // A square wave: odd harmonics of a third and a fifth.
  const double pitch = 1193182.0 / 1193, first = strength(b.ear.left, pitch);
  CHECK(strength(b.ear.left, 3 * pitch) / first == Approx(1.0 / 3).margin(0.02));
  CHECK(strength(b.ear.left, 2 * pitch) < 0.01 * first);
  b.port61.write_port(0x61, 1, 0);
  b.clock.advance(500'000'000);
  b.ear.clear();
  b.clock.advance(100'000'000);
  CHECK(loudest(b.ear.left) < 0.001);
}

TEST_CASE("port 61h bit 1 alone makes sound, as programs do that count delays") {
  SpeakerBench b;
  b.clock.advance(10'000'000);
  // OUT2 is high in mode 3 with the gate closed; the program moves the cone itself: 500 Hz.
  b.tone(1000);
  for (int i = 0; i < 1000; ++i) {
    b.port61.write_port(0x61, 1, i % 2 ? 2 : 0);
    b.clock.advance(1'000'000);
  }
  CHECK(strength(b.ear.left, 500) > 0.1);
}

TEST_CASE("samples by pulse width are heard as their mean: one-shots of counter 2 every 62.5 us") {
  SpeakerBench b;
  b.port61.write_port(0x61, 1, 3);
  // 16 kHz carrier; the width follows a sine of 440 Hz. In mode 0 OUT is low while it counts.
  b.pit.write_port(0x43, 1, 0x90);
  for (int i = 0; i < 8000; ++i) {
    const double value = std::sin(2 * std::numbers::pi * 440 * i / 16000.0);
    b.pit.write_port(0x42, 1, static_cast<u32>(36 + 30 * value));
    b.clock.advance(62'500);
  }
  CHECK(strength(b.ear.left, 440) > 0.04);
  CHECK(strength(b.ear.left, 440) > 10 * strength(b.ear.left, 1000));
}

TEST_CASE("what the timer counts does not depend on a listener") {
  SpeakerBench heard;
  ManualClock clock;
  FakeLines lines;
  Pit8254 alone(clock, lines.line(0));
  alone.reset(ResetKind::PowerOn);
  const auto both = [&](auto&& action) { action(heard.pit), action(alone); };
  for (const u8 mode : {0xb0, 0xb2, 0xb4, 0xb6, 0xb8, 0xba}) {
    both([&](Pit8254& pit) {
      pit.set_gate2(true);
      pit.write_port(0x43, 1, mode);
      pit.write_port(0x42, 1, 0x39);
      pit.write_port(0x42, 1, 0x02);
    });
    heard.clock.advance(123'456'789);
    clock.advance(123'456'789);
    both([](Pit8254& pit) { pit.set_gate2(false); });
    heard.clock.advance(777'777);
    clock.advance(777'777);
    both([](Pit8254& pit) { pit.set_gate2(true); });
    heard.clock.advance(10'000'001);
    clock.advance(10'000'001);
    CAPTURE(static_cast<int>(mode));
    CHECK(described(heard.pit) == described(alone));
  }
}

TEST_CASE("a timer of the mixer is no part of the machine: it takes no number, and no time jumps to it") {
  ManualClock clock;
  Ear ear;
  AudioMixer mixer(clock, ear);
  CHECK(clock.next_deadline());
  CHECK_FALSE(clock.next_seen_deadline());
  Timer timer(clock, [] {});
  timer.arm(5);
  CHECK(clock.next_seen_deadline() == 5);
  ManualClock other;
  Timer alone(other, [] {});
  alone.arm(5);
  CHECK(described(timer) == described(alone));
}

TEST_CASE("the DSP resets to AAh, says version 4.05, and inverts for its identification") {
  Blaster b;
  b.reset_dsp();
  b.command({0xe1});
  CHECK(b.answer() == 4);
  CHECK(b.answer() == 5);
  b.command({0xe0, 0x5a});
  CHECK(b.answer() == 0xa5);
  b.command({0xe4, 0x77, 0xe8});
  CHECK(b.answer() == 0x77);
}

TEST_CASE("command F2h raises the interrupt that mixer register 80h names; reading 22Eh lowers it") {
  Blaster b;
  b.reset_dsp();
  b.command({0xf2});
  CHECK(b.level[5]);
  b.out(0x224, 0x82);
  CHECK(b.in(0x225) == 1);
  b.in(0x22e);
  CHECK_FALSE(b.level[5]);
  b.out(0x224, 0x80);
  b.out(0x225, 0x08);
  b.command({0xf3});
  CHECK(b.level[10]);
  CHECK_FALSE(b.level[5]);
  b.in(0x22f);
  CHECK_FALSE(b.level[10]);
}

TEST_CASE("8-bit auto-initialized DMA: sound of the buffer's frequency, an interrupt for each block") {
  Blaster b;
  b.reset_dsp();
  for (unsigned i = 0; i < 1000; ++i)  // 20 periods in 1000 samples at 22222 Hz: 444.4 Hz
    b.memory.write_value<u8>(GuestPhysAddr(0x20000 + i), static_cast<u8>(128 + std::lround(100 * std::sin(2 * std::numbers::pi * i / 50))));
  b.dma8(0x20000, 1000, true);
  b.command({0x40, 211, 0x48, 0xf3, 0x01, 0x1c});  // 1 MHz / 45, blocks of 500
  b.clock.advance(1'000'000'000);
  // 22222 samples: 44 blocks of 500. Nobody acknowledges, so the line rises once.
  CHECK(b.interrupts[5] == 1);
  b.in(0x22e);
  unsigned count = 0;
  for (int i = 0; i < 1000; ++i) {
    b.clock.advance(1'000'000);
    if (b.level[5]) ++count, b.in(0x22e);
  }
  CHECK(count == Approx(44).margin(1));
  b.listen(500);
  CHECK(crossings_per_second(b.ear.left) == Approx(22222.0 / 50).epsilon(0.001));
  CHECK(strength(b.ear.left, 22222.0 / 50) == Approx(100.0 / 128).margin(0.03));
  // DAh ends behind the block at hand, with its interrupt.
  b.in(0x22e);
  b.command({0xda});
  b.clock.advance(100'000'000);
  CHECK(b.level[5]);
  b.listen(200);
  CHECK(loudest(b.ear.left) < 0.01);
}

TEST_CASE("16-bit single DMA, stereo and signed: both sides, one interrupt at the exact end") {
  Blaster b;
  b.reset_dsp();
  constexpr unsigned kFrames = 8000;
  for (unsigned i = 0; i < kFrames; ++i) {
    b.memory.write_value<u16>(GuestPhysAddr(0x40000 + 4 * i), static_cast<u16>(std::lround(20000 * std::sin(2 * std::numbers::pi * 1000 * i / 32000))));
    b.memory.write_value<u16>(GuestPhysAddr(0x40002 + 4 * i), static_cast<u16>(std::lround(10000 * std::sin(2 * std::numbers::pi * 500 * i / 32000))));
  }
  b.dma16(0x40000, 2 * kFrames, false);
  b.command({0x41, 0x7d, 0x00, 0xb0, 0x30, 0x7f, 0x3e});  // 32000 Hz; 16000 samples
  b.clock.advance(20'000'000);
  b.ear.clear();
  b.clock.advance(229'900'000);
  CHECK_FALSE(b.level[5]);
  b.clock.advance(200'000);
  CHECK(b.level[5]);
  b.in(0x22f);
  CHECK_FALSE(b.level[5]);
  CHECK(crossings_per_second(b.ear.left) == Approx(1000).epsilon(0.001));
  CHECK(crossings_per_second(b.ear.right) == Approx(500).epsilon(0.001));
  CHECK(loudest(b.ear.left) == Approx(20000.0 / 32768).margin(0.02));
  CHECK(loudest(b.ear.right) == Approx(10000.0 / 32768).margin(0.02));
}

TEST_CASE("D0h pauses and D4h goes on where it was") {
  Blaster b;
  b.reset_dsp();
  b.dma8(0x20000, 1000, false);
  b.command({0x41, 0x27, 0x10, 0x14, 0xe7, 0x03});  // 10000 Hz, 1000 samples: 100 ms
  b.clock.advance(50'000'000);
  b.command({0xd0});
  b.clock.advance(200'000'000);
  CHECK_FALSE(b.level[5]);
  b.command({0xd4});
  b.clock.advance(49'000'000);
  CHECK_FALSE(b.level[5]);
  b.clock.advance(2'000'000);
  CHECK(b.level[5]);
}

TEST_CASE("ADPCM: the reference byte, steps by magnitude, and a scale that widens and narrows") {
  // One code of the greatest magnitude and then zeroes: the step itself, one more at the wider scale, then nothing.
  const auto [command, first, plateau] = GENERATE(table<u8, u8, int>({{0x75, 0x70, 8}, {0x77, 0x60, 4}, {0x17, 0x40, 2}}));
  Blaster b;
  b.reset_dsp();
  b.memory.write_value<u8>(GuestPhysAddr(0x20000), 0x80);
  b.memory.write_value<u8>(GuestPhysAddr(0x20001), first);
  b.dma8(0x20000, 1000, false);
  b.command({0x41, 0x1f, 0x40, command, 0xe7, 0x03});  // 8000 Hz
  b.clock.advance(50'000'000);
  b.ear.clear();
  b.clock.advance(50'000'000);
  CHECK(b.ear.left.back() == Approx(plateau / 128.0).margin(0.001));
  b.clock.advance(450'000'000);  // 1000 bytes of 2, 3 or 4 samples
  CHECK(b.level[5]);
}

TEST_CASE("80h is silent for so many samples, and interrupts") {
  Blaster b;
  b.reset_dsp();
  b.command({0x41, 0x27, 0x10, 0x80, 0xe7, 0x03});
  b.clock.advance(99'000'000);
  CHECK_FALSE(b.level[5]);
  b.clock.advance(2'000'000);
  CHECK(b.level[5]);
}

TEST_CASE("samples written by 10h are heard at the pace at which they come") {
  Blaster b;
  b.reset_dsp();
  for (int i = 0; i < 4000; ++i) {
    b.command({0x10, static_cast<u8>(128 + std::lround(100 * std::sin(2 * std::numbers::pi * 400 * i / 8000)))});
    b.clock.advance(125'000);
  }
  CHECK(strength(b.ear.left, 400) > 0.6);
}

TEST_CASE("the mixer: old registers show the new ones' upper bits; a reset brings the defaults back") {
  Blaster b;
  b.out(0x224, 0x22);
  b.out(0x225, 0xa5);
  b.out(0x224, 0x30);
  CHECK(b.in(0x225) == 0xa8);
  b.out(0x224, 0x31);
  CHECK(b.in(0x225) == 0x58);
  b.out(0x224, 0x00);
  b.out(0x225, 0x00);
  b.out(0x224, 0x30);
  CHECK(b.in(0x225) == 0xc0);
  b.out(0x224, 0x81);
  CHECK(b.in(0x225) == 0x22);
}

TEST_CASE("the MPU-401 acknowledges reset and UART mode") {
  Blaster b;
  CHECK(b.in(0x331) & 0x80);
  b.out(0x331, 0xff);
  CHECK((b.in(0x331) & 0x80) == 0);
  CHECK(b.in(0x330) == 0xfe);
  b.out(0x331, 0x3f);
  CHECK(b.in(0x330) == 0xfe);
  b.out(0x331, 0xff);  // in UART mode: no acknowledgement
  CHECK(b.in(0x331) & 0x80);
}

TEST_CASE("the synthesizer answers at 388h and at the card's base") {
  Blaster b;
  for (const unsigned base : {0x388u, 0x220u, 0x228u}) {
    b.out(base, 4);
    b.out(base + 1, 0x60);
    b.out(base + 1, 0x80);
    CHECK((b.in(base) & 0xe0) == 0);
    b.out(base, 2);
    b.out(base + 1, 0xff);
    b.out(base, 4);
    b.out(base + 1, 0x21);
    b.clock.advance(100'000);
    CHECK((b.in(base) & 0xe0) == 0xc0);
  }
}

TEST_CASE("AC'97: buffers are played one after the other, with interrupts, and the last one halts (82801AA, 13.2)") {
  Codec c;
  CHECK(c.in(Codec::kMaster + 0x30, 4) & 0x100);  // the codec is ready
  c.sine(0x100000, 4800, 1000, 48000);
  c.sine(0x200000, 4800, 1000, 48000);
  c.descriptor(0, 0x100000, 9600, false);
  c.descriptor(1, 0x200000, 9600, true);
  c.out(Codec::kMaster + 0x10, 0x1000, 4);
  c.out(Codec::kMaster + 0x15, 1);
  c.out(Codec::kMaster + 0x1b, 0x1d);
  c.clock.advance(20'000'000);
  c.ear.clear();
  c.clock.advance(75'000'000);
  CHECK(c.in(Codec::kMaster + 0x14) == 0);
  CHECK(c.in(Codec::kMaster + 0x18, 2) == Approx(9600 - 2 * 95 * 48).margin(4));
  c.clock.advance(100'000'000);
  CHECK(c.in(Codec::kMaster + 0x14) == 1);
  CHECK_FALSE(c.interrupt);
  c.clock.advance(10'000'000);
  CHECK(c.interrupt);
  CHECK(c.in(Codec::kMaster + 0x16, 2) == 0x0f);  // done, last valid, halted
  CHECK(c.in(Codec::kMaster + 0x30, 4) & 0x40);
  c.out(Codec::kMaster + 0x16, 0x1c, 2);
  CHECK_FALSE(c.interrupt);
  CHECK(crossings_per_second(c.ear.left) == Approx(1000).epsilon(0.001));
  // Another buffer is offered: it goes on.
  c.descriptor(2, 0x100000, 9600, true);
  c.out(Codec::kMaster + 0x15, 2);
  c.clock.advance(50'000'000);
  CHECK(c.in(Codec::kMaster + 0x14) == 2);
  CHECK((c.in(Codec::kMaster + 0x16, 2) & 1) == 0);
}

TEST_CASE("AC'97: the access semaphore is taken by reading it and given back by an access to the codec (82801AA, 13.2.9)") {
  Codec c;
  CHECK(c.in(Codec::kMaster + 0x34) == 0);
  CHECK(c.in(Codec::kMaster + 0x34) == 1);
  c.in(Codec::kMixer + 0x26, 2);
  CHECK(c.in(Codec::kMaster + 0x34) == 0);
  c.out(Codec::kMixer + 0x02, 0, 2);
  CHECK(c.in(Codec::kMaster + 0x34) == 0);
}

TEST_CASE("AC'97: the rate is 48 kHz until variable rates are switched on (AC'97 2.1, 5.7.9)") {
  Codec c;
  c.out(Codec::kMixer + 0x2c, 22050, 2);
  CHECK(c.in(Codec::kMixer + 0x2c, 2) == 48000);
  c.out(Codec::kMixer + 0x2a, 1, 2);
  c.out(Codec::kMixer + 0x2c, 22050, 2);
  CHECK(c.in(Codec::kMixer + 0x2c, 2) == 22050);
  c.sine(0x100000, 16000, 700, 22050);
  c.descriptor(0, 0x100000, 32000, false);
  c.out(Codec::kMaster + 0x10, 0x1000, 4);
  c.out(Codec::kMaster + 0x15, 0);
  c.out(Codec::kMaster + 0x1b, 0x01);
  c.listen(500);
  CHECK(crossings_per_second(c.ear.left) == Approx(700).epsilon(0.001));
  CHECK(strength(c.ear.right, 700) == Approx(strength(c.ear.left, 700)).epsilon(0.01));
  c.out(Codec::kMixer + 0x02, 0x8000, 2);  // muted
  c.listen(100);
  CHECK(loudest(c.ear.left) == 0);
}

TEST_CASE("AC'97: a list of empty buffers neither hangs nor plays") {
  Codec c;
  for (unsigned i = 0; i < 32; ++i) c.descriptor(i, 0x100000, 0, false);
  c.out(Codec::kMaster + 0x10, 0x1000, 4);
  c.out(Codec::kMaster + 0x15, 31);
  c.out(Codec::kMaster + 0x1b, 0x1d);
  c.clock.advance(1'000'000'000);
  CHECK(c.in(Codec::kMaster + 0x16, 2) & 1);
}

TEST_CASE("AC'97: recording gives silence at the pace of its rate") {
  Codec c;
  c.memory.write_value<u32>(GuestPhysAddr(0x100000), 0xdeadbeef);
  c.descriptor(0, 0x100000, 960, true);
  c.out(Codec::kMaster + 0x00, 0x1000, 4);
  c.out(Codec::kMaster + 0x05, 0);
  c.out(Codec::kMaster + 0x0b, 0x11);
  c.clock.advance(9'000'000);
  CHECK_FALSE(c.interrupt);
  c.clock.advance(2'000'000);
  CHECK(c.interrupt);
  CHECK(c.memory.read_value<u32>(GuestPhysAddr(0x100000)) == 0);
}

TEST_CASE("a sound that is played in pieces has no holes") {
  Codec c;
  c.sine(0x100000, 4800, 440, 48000);
  for (unsigned i = 0; i < 32; ++i) c.descriptor(i, 0x100000, 9600, false);
  c.out(Codec::kMaster + 0x10, 0x1000, 4);
  c.out(Codec::kMaster + 0x15, 31);
  c.out(Codec::kMaster + 0x1b, 0x01);
  c.listen(2000);
  // 440 Hz in pieces of 100 ms fit without a step; neighbouring samples of such a sine differ by less than 3 %.
  float step = 0;
  for (usize i = 1; i < c.ear.left.size(); ++i) step = std::max(step, std::abs(c.ear.left[i] - c.ear.left[i - 1]));
  CHECK(step < 0.03f);
}
