// HPET (IA-PC HPET specification 1.0a, 2.3).
#include <catch2/catch.hpp>

#include "bench.h"
#include "devices/hpet.h"

using namespace vellum;

namespace {

struct Fixture {
  Bench bench;
  FakeLines io_apic;
  Hpet hpet{bench.memory, bench.clock, bench.lines, io_apic};
  u64 read(u64 offset, unsigned size = 8) { return bench.memory.read_slow(GuestPhysAddr(0xfed00000 + offset), size); }
  void write(u64 offset, u64 value, unsigned size = 8) {
    bench.memory.write_slow(GuestPhysAddr(0xfed00000 + offset), size, value);
  }
};

constexpr u64 kEnable = 1, kLegacy = 2;
constexpr u64 kLevel = 2, kInterrupt = 4, kPeriodic = 8, kSetValue = 0x40, k32Bits = 0x100;

}  // namespace

TEST_CASE("hpet: capabilities name a 100 MHz 64-bit counter with three timers and legacy routing (2.3.4)") {
  Fixture f;
  const u64 capabilities = f.read(0);
  CHECK(capabilities >> 32 == 10'000'000);
  CHECK((capabilities >> 8 & 0x1f) == 2);
  CHECK((capabilities & (1 << 13 | 1 << 15)) == (1 << 13 | 1 << 15));
  CHECK(f.read(4, 4) == 10'000'000);
}

TEST_CASE("hpet: the counter counts while enabled, keeps its value when halted and can then be written (2.3.7)") {
  Fixture f;
  f.bench.clock.advance(1000);
  CHECK(f.read(0xf0) == 0);
  f.write(0x10, kEnable);
  f.bench.clock.advance(1000);
  CHECK(f.read(0xf0) == 100);
  f.write(0x10, 0);
  f.bench.clock.advance(1000);
  CHECK(f.read(0xf0) == 100);
  f.write(0xf0, 0xfffffff0, 4);
  f.write(0xf4, 1, 4);
  f.write(0x10, kEnable);
  f.bench.clock.advance(320);
  CHECK(f.read(0xf0) == 0x200000010);
}

TEST_CASE("hpet: a one-shot edge timer with legacy routing pulses IRQ 0 once (2.3.5)") {
  Fixture f;
  f.write(0x108, 50);
  f.write(0x100, kInterrupt);
  f.write(0x10, kEnable | kLegacy);
  f.bench.clock.advance(499);
  CHECK(f.bench.lines.rises[0] == 0);
  f.bench.clock.advance(1);
  CHECK(f.bench.lines.rises[0] == 1);
  CHECK_FALSE(f.bench.lines.level[0]);
  f.bench.clock.advance(100'000);
  CHECK(f.bench.lines.rises[0] == 1);
}

TEST_CASE("hpet: timer 1 with legacy routing is IRQ 8") {
  Fixture f;
  f.write(0x128, 50);
  f.write(0x120, kInterrupt);
  f.write(0x10, kEnable | kLegacy);
  f.bench.clock.advance(500);
  CHECK(f.bench.lines.rises[8] == 1);
}

TEST_CASE("hpet: a timer without interrupt enable stays silent") {
  Fixture f;
  f.write(0x108, 50);
  f.write(0x10, kEnable | kLegacy);
  f.bench.clock.advance(100'000);
  CHECK(f.bench.lines.rises[0] == 0);
}

TEST_CASE("hpet: a periodic timer repeats from its comparator without drifting (2.3.9.2.2)") {
  Fixture f;
  f.write(0x100, kInterrupt | kPeriodic | kSetValue);
  f.write(0x108, 1000);  // first match
  f.write(0x108, 200);   // period
  f.write(0x10, kEnable | kLegacy);
  f.bench.clock.advance(10'000);
  CHECK(f.bench.lines.rises[0] == 1);
  CHECK(f.read(0x108) == 1200);
  f.bench.clock.advance(2'000);
  CHECK(f.bench.lines.rises[0] == 2);
  f.bench.clock.advance(20'000);
  CHECK(f.bench.lines.rises[0] == 12);
}

TEST_CASE("hpet: one write with the set-value bit gives first match and period alike (2.3.9.2.2)") {
  Fixture f;
  f.write(0x100, kInterrupt | kPeriodic | kSetValue);
  f.write(0x108, 300);
  CHECK((f.read(0x100) & kSetValue) == 0);
  f.write(0x10, kEnable | kLegacy);
  f.bench.clock.advance(9'000);
  CHECK(f.bench.lines.rises[0] == 3);
}

TEST_CASE("hpet: a level-triggered timer holds its line until its status is cleared (2.3.6)") {
  Fixture f;
  f.write(0x148, 50);
  f.write(0x140, kInterrupt | kLevel | 20 << 9);
  f.write(0x10, kEnable);
  f.bench.clock.advance(500);
  CHECK(f.io_apic.level[20]);
  CHECK(f.read(0x20) == 4);
  f.write(0x20, 4);
  CHECK_FALSE(f.io_apic.level[20]);
}

TEST_CASE("hpet: a route that is not in the capability field is not taken (2.3.8)") {
  Fixture f;
  f.write(0x140, 20 << 9);
  CHECK((f.read(0x140) >> 9 & 0x1f) == 20);
  f.write(0x140, 5 << 9);
  CHECK((f.read(0x140) >> 9 & 0x1f) == 0);
  CHECK(f.read(0x140) >> 32 == 0x00ff0000);
}

TEST_CASE("hpet: a timer forced to 32 bits matches the low half of the counter (2.3.8)") {
  Fixture f;
  f.write(0xf0, 0x1'0000'0000);
  f.write(0x100, kInterrupt | k32Bits);
  f.write(0x108, 100);
  f.write(0x10, kEnable | kLegacy);
  f.bench.clock.advance(1000);
  CHECK(f.bench.lines.rises[0] == 1);
}

TEST_CASE("hpet: legacy routing cuts off the PIT and the RTC, and gives them back (2.3.5)") {
  Fixture f;
  f.hpet.set_input(Hpet::kPit, true);
  CHECK(f.bench.lines.level[0]);
  f.write(0x10, kLegacy);
  CHECK_FALSE(f.bench.lines.level[0]);
  f.hpet.set_input(Hpet::kRtc, true);
  CHECK_FALSE(f.bench.lines.level[8]);
  f.write(0x10, 0);
  CHECK(f.bench.lines.level[0]);
  CHECK(f.bench.lines.level[8]);
}

TEST_CASE("hpet: a loaded state goes on where the saved one stood") {
  Fixture f, copy;
  f.write(0x108, 50);
  f.write(0x100, kInterrupt);
  f.write(0x10, kEnable | kLegacy);
  f.bench.clock.advance(200);
  copy.bench.clock.advance(200);
  REQUIRE(load(copy.hpet, saved(f.hpet)));
  CHECK(copy.read(0xf0) == 20);
  copy.bench.clock.advance(300);
  CHECK(copy.bench.lines.rises[0] == 1);
}
