// The 8254 against the Intel 8254 datasheet (231164), "Mode Definitions" and "Read Operations".
#include <catch2/catch.hpp>

#include <random>

#include "devices/pit8254.h"
#include "fakes.h"

using namespace vellum;

namespace {

struct Pit {
  ManualClock clock;
  FakeLines lines;
  Pit8254 pit{clock, lines.line()};

  void out(u16 port, u8 value) { pit.write_port(port, 1, value); }
  u8 in(u16 port) { return static_cast<u8>(pit.read_port(port, 1)); }

  // Moves to the instant of input clock `m_clocks + count`.
  void clocks(u64 count) {
    m_clocks += count;
    const u64 ticks = static_cast<u64>((static_cast<u128>(m_clocks) * 1'000'000'000 + 1193181) / 1193182);
    clock.advance(ticks - clock.now());
  }
  void program(u8 control, u16 count) {
    const unsigned counter = control >> 6;
    out(0x43, control);
    out(static_cast<u16>(0x40 + counter), static_cast<u8>(count));
    out(static_cast<u16>(0x40 + counter), static_cast<u8>(count >> 8));
  }
  u16 latched(unsigned counter) {
    out(0x43, static_cast<u8>(counter << 6));
    const u8 low = in(static_cast<u16>(0x40 + counter));
    return static_cast<u16>(low | in(static_cast<u16>(0x40 + counter)) << 8);
  }
  u8 status(unsigned counter) {
    out(0x43, static_cast<u8>(0xe0 | 2 << counter));
    return in(static_cast<u16>(0x40 + counter));
  }
  // OUT of a counter over the next clocks, one character each: before the first, then after each.
  std::string wave(unsigned counter, unsigned count) {
    std::string text;
    for (unsigned i = 0; i < count; ++i) {
      clocks(1);
      text += pit.output(counter) ? 'H' : 'l';
    }
    return text;
  }

 private:
  u64 m_clocks = 0;
};

}  // namespace

TEST_CASE("8254 mode 0: OUT rises N + 1 clocks after the count was written") {
  Pit p;
  p.program(0x30, 4);
  CHECK(p.wave(0, 7) == "llllHHH");
}

TEST_CASE("8254 mode 0: the first byte of a new count stops counting and sets OUT low") {
  Pit p;
  p.program(0x30, 2);
  CHECK(p.wave(0, 4) == "llHH");
  p.out(0x40, 3);
  CHECK_FALSE(p.pit.output(0));
  p.clocks(10);
  CHECK_FALSE(p.pit.output(0));
  p.out(0x40, 0);
  CHECK(p.wave(0, 5) == "lllHH");
}

TEST_CASE("8254 mode 0: the gate stops counting but not loading") {
  Pit p;
  p.program(0xb0, 3);  // counter 2, gate low
  p.clocks(5);
  CHECK(p.latched(2) == 3);
  p.pit.set_gate2(true);
  CHECK(p.wave(2, 4) == "llHH");
}

TEST_CASE("8254 mode 0: counting goes on after terminal count, from FFFFh") {
  Pit p;
  p.program(0x30, 2);
  p.clocks(4);
  CHECK(p.latched(0) == 0xffff);
}

TEST_CASE("8254 mode 1: a trigger gives one low pulse of N clocks, a second one restarts it") {
  Pit p;
  p.program(0xb2, 3);
  CHECK(p.wave(2, 3) == "HHH");
  p.pit.set_gate2(true);
  CHECK(p.wave(2, 5) == "lllHH");
  p.pit.set_gate2(false);
  p.pit.set_gate2(true);
  CHECK(p.wave(2, 2) == "ll");
  p.pit.set_gate2(false);
  p.pit.set_gate2(true);
  CHECK(p.wave(2, 5) == "lllHH");
}

TEST_CASE("8254 mode 2: OUT is low for the last clock of each N") {
  Pit p;
  p.program(0x34, 3);
  CHECK(p.wave(0, 9) == "HHlHHlHHl");
}

TEST_CASE("8254 mode 2: a new count takes effect after the current period") {
  Pit p;
  p.program(0x34, 4);
  p.clocks(2);
  p.out(0x40, 2);
  p.out(0x40, 0);
  CHECK(p.wave(0, 7) == "HlHlHlH");
}

TEST_CASE("8254 mode 2: a low gate forces OUT high, its rise restarts the period") {
  Pit p;
  p.pit.set_gate2(true);
  p.program(0xb4, 3);
  CHECK(p.wave(2, 3) == "HHl");
  p.pit.set_gate2(false);
  CHECK(p.pit.output(2));
  p.clocks(7);
  p.pit.set_gate2(true);
  CHECK(p.wave(2, 4) == "HHlH");
}

TEST_CASE("8254 mode 3: an even count gives equal halves, an odd one a longer high half") {
  Pit p;
  p.program(0x36, 4);
  CHECK(p.wave(0, 9) == "HHllHHllH");
  p.program(0x36, 5);
  CHECK(p.wave(0, 11) == "HHHllHHHllH");
}

TEST_CASE("8254 mode 3: the count runs down by two in each half") {
  Pit p;
  p.program(0x36, 6);
  p.clocks(1);
  CHECK(p.latched(0) == 6);
  p.clocks(1);
  CHECK(p.latched(0) == 4);
  p.clocks(2);
  CHECK(p.latched(0) == 6);
  CHECK_FALSE(p.pit.output(0));
}

TEST_CASE("8254 mode 3: an odd count shows even values") {
  Pit p;
  p.program(0x36, 5);
  p.clocks(1);
  CHECK(p.latched(0) == 4);
  p.clocks(2);
  CHECK(p.latched(0) == 0);
  p.clocks(1);
  CHECK(p.latched(0) == 4);
  CHECK_FALSE(p.pit.output(0));
}

TEST_CASE("8254 mode 4: one low clock, N + 1 clocks after the count was written") {
  Pit p;
  p.program(0x38, 3);
  CHECK(p.wave(0, 7) == "HHHlHHH");
  p.clocks(200'000);
  CHECK(p.pit.output(0));
}

TEST_CASE("8254 mode 5: one low clock, N + 1 clocks after the trigger") {
  Pit p;
  p.program(0xba, 3);
  CHECK(p.wave(2, 6) == "HHHHHH");
  p.pit.set_gate2(true);
  CHECK(p.wave(2, 6) == "HHHlHH");
}

TEST_CASE("8254: a count of 0 is 65536, and 10000 in BCD") {
  Pit p;
  p.program(0x34, 0);
  p.clocks(1);
  CHECK(p.latched(0) == 0);
  p.clocks(1);
  CHECK(p.latched(0) == 0xffff);
  p.clocks(65535);
  CHECK(p.latched(0) == 0);
  p.program(0x35, 0);
  p.clocks(2);
  CHECK(p.latched(0) == 0x9999);
}

TEST_CASE("8254: BCD counts read back as BCD") {
  Pit p;
  p.program(0x35, 0x1234);
  p.clocks(1 + 35);
  CHECK(p.latched(0) == 0x1199);
}

TEST_CASE("8254: a latched count holds until it is read, whatever comes between") {
  Pit p;
  p.program(0x34, 1000);
  p.clocks(1 + 100);
  p.out(0x43, 0x00);
  p.clocks(50);
  p.out(0x43, 0x00);  // a second latch command is ignored
  CHECK(p.in(0x40) == (900 & 0xff));
  CHECK(p.in(0x40) == 900 >> 8);
  CHECK(p.in(0x40) == (850 & 0xff));
}

TEST_CASE("8254: unlatched reads alternate between low and high byte") {
  Pit p;
  p.program(0x34, 0x1234);
  p.clocks(1);
  CHECK(p.in(0x40) == 0x34);
  CHECK(p.in(0x40) == 0x12);
}

TEST_CASE("8254: one-byte access modes leave the other byte zero") {
  Pit p;
  p.out(0x43, 0x14);  // counter 0, low byte only, mode 2
  p.out(0x40, 0x50);
  p.clocks(1);
  CHECK(p.in(0x40) == 0x50);
  p.out(0x43, 0x24);  // high byte only
  p.out(0x40, 0x50);
  p.clocks(1);
  CHECK(p.in(0x40) == 0x50);
  p.clocks(1);
  CHECK(p.in(0x40) == 0x4f);
}

TEST_CASE("8254: the status byte holds OUT, null count, access, mode and BCD") {
  Pit p;
  p.out(0x43, 0x34);
  CHECK(p.status(0) == 0xf4);  // OUT high, no count yet
  p.out(0x40, 10);
  p.out(0x40, 0);
  CHECK(p.status(0) == 0xf4);  // not loaded before the next clock
  p.clocks(1);
  CHECK(p.status(0) == 0xb4);
  p.clocks(9);
  CHECK(p.status(0) == 0x34);
}

TEST_CASE("8254: read-back latches status and count of several counters; status is read first") {
  Pit p;
  p.program(0x34, 100);
  p.program(0x74, 200);
  p.clocks(1 + 10);
  p.out(0x43, 0xc6);  // count and status of counters 0 and 1
  p.clocks(10);
  CHECK(p.in(0x40) == 0xb4);
  CHECK(p.in(0x40) == 90);
  CHECK(p.in(0x40) == 0);
  CHECK(p.in(0x41) == 0xb4);
  CHECK(p.in(0x41) == 190);
}

TEST_CASE("8254: counter 0 interrupts at its exact rate, without drift over an hour") {
  Pit p;
  p.program(0x34, 11932);  // Linux with HZ=100
  p.clock.advance(3600 * kTicksPerSecond);
  // A pulse each 11932 clocks; the first ends 1 + 11932 clocks after the count was written.
  CHECK(p.lines.rises[0] == 1 + (3600ull * 1193182 - 1) / 11932);
}

TEST_CASE("8254: the interrupt comes at the tick of its clock, not before") {
  Pit p;
  p.program(0x30, 1193);
  const Ticks due = (1194ull * 1'000'000'000 + 1193181) / 1193182;
  p.clock.advance(due - 1);
  CHECK_FALSE(p.lines.level[0]);
  p.clock.advance(1);
  CHECK(p.lines.level[0]);
}

TEST_CASE("8254: Linux's calibration sees counter 2 run through 50 ms") {
  Pit p;
  p.pit.set_gate2(true);
  const u16 latch = 1193182 / 20;
  p.program(0xb0, latch);
  p.clock.advance(49'999'000);
  CHECK_FALSE(p.pit.output(2));
  p.clock.advance(2'000);
  CHECK(p.pit.output(2));
}

TEST_CASE("8254: looking at a counter at every clock or only now and then gives the same") {
  const auto mode = GENERATE(0, 1, 2, 3, 4, 5);
  const auto bcd = GENERATE(0, 1);
  CAPTURE(mode, bcd);
  std::mt19937 random(static_cast<unsigned>(2 * mode + bcd));
  Pit watched, left_alone;
  for (int i = 0; i < 300; ++i) {
    const unsigned action = random() % 8;
    const u8 count = static_cast<u8>(random() % 40);
    for (Pit* p : {&watched, &left_alone}) {
      if (action == 0) p->out(0x43, static_cast<u8>(0x90 | mode << 1 | bcd));
      if (action <= 2) p->out(0x42, count);
      if (action == 3) p->pit.set_gate2(false);
      if (action >= 3 && action <= 5) p->pit.set_gate2(true);
    }
    const unsigned clocks = random() % 200;
    for (unsigned j = 0; j < clocks; ++j) {
      watched.clocks(1);
      watched.pit.output(2);
    }
    left_alone.clocks(clocks);
    for (Pit* p : {&watched, &left_alone})
      for (unsigned counter = 0; counter < 3; ++counter) p->pit.output(counter);
    REQUIRE(described(left_alone.pit) == described(watched.pit));
  }
}

TEST_CASE("8254: a loaded timer goes on where the saved one was") {
  Pit p;
  p.program(0x36, 1000);
  p.clocks(1 + 700);
  Pit copy;
  copy.clocks(701);
  REQUIRE(load(copy.pit, saved(p.pit)));
  CHECK(copy.latched(0) == p.latched(0));
  CHECK(copy.wave(0, 400) == p.wave(0, 400));
  CHECK(copy.lines.level[0] == p.lines.level[0]);
}

TEST_CASE("8254: a state from the future is refused") {
  Pit p;
  p.clocks(1000);
  p.out(0x43, 0x34);
  Pit copy;
  CHECK_FALSE(load(copy.pit, saved(p.pit)));
}
