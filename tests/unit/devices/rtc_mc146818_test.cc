// The MC146818A against its datasheet (MC146818A/D).
#include <catch2/catch.hpp>

#include "devices/rtc_mc146818.h"
#include "fakes.h"

using namespace vellum;

namespace {

constexpr u64 kBase = 951'782'399;  // 2000-02-28 23:59:59, a Monday

struct Rtc {
  ManualClock clock;
  FakeLines lines;
  bool nmi_masked = false;
  RtcMc146818 rtc;

  explicit Rtc(u64 base = kBase) : rtc(clock, lines.line(8), base, [this](bool masked) { nmi_masked = masked; }) {}

  u8 read(u8 index) {
    rtc.write_port(0x70, 1, index);
    return static_cast<u8>(rtc.read_port(0x71, 1));
  }
  void write(u8 index, u8 value) {
    rtc.write_port(0x70, 1, index);
    rtc.write_port(0x71, 1, value);
  }
  std::string date() {
    return fmt::format("{:02x}{:02x}-{:02x}-{:02x} {:02x}:{:02x}:{:02x} {}", read(0x32), read(9), read(8), read(7),
                       read(4), read(2), read(0), read(6));
  }
  void seconds(u64 count) { clock.advance(count * kTicksPerSecond); }
};

}  // namespace

TEST_CASE("RTC: the base time appears in BCD and 24 hours") {
  Rtc r;
  CHECK(r.date() == "2000-02-28 23:59:59 2");
}

TEST_CASE("RTC: 29 February of a leap century, and the end of it") {
  Rtc r;
  r.seconds(1);
  CHECK(r.date() == "2000-02-29 00:00:00 3");
  r.seconds(86400);
  CHECK(r.date() == "2000-03-01 00:00:00 4");
}

TEST_CASE("RTC: a year that is not a leap year, and the turn of a century") {
  Rtc r(951'782'400 - 365ull * 86400 - 1);  // 1999-02-28 23:59:59
  CHECK(r.date() == "1999-02-28 23:59:59 1");
  r.seconds(1);
  CHECK(r.date() == "1999-03-01 00:00:00 2");
  Rtc turn(946'684'799);
  turn.seconds(1);
  CHECK(turn.date() == "2000-01-01 00:00:00 7");
}

TEST_CASE("RTC: binary mode counts in binary, 12-hour mode marks the afternoon") {
  Rtc r;
  r.write(0xb, 0x04);
  r.write(0, 59);
  r.write(2, 59);
  r.write(4, 11);
  r.seconds(1);
  CHECK(r.read(0) == 0);
  CHECK(r.read(4) == (12 | 0x80));
  r.seconds(3600);
  CHECK(r.read(4) == (1 | 0x80));
}

TEST_CASE("RTC: midnight in 12-hour BCD is 12 AM and starts a new day") {
  Rtc r;
  r.write(0xb, 0x00);
  r.write(4, 0x91);  // 11 PM
  r.write(2, 0x59);
  r.write(0, 0x59);
  r.seconds(1);
  CHECK(r.read(4) == 0x12);
  CHECK(r.read(7) == 0x29);
}

TEST_CASE("RTC: SET stops updates and clears UIE") {
  Rtc r;
  r.write(0xb, 0x92);
  CHECK(r.read(0xb) == 0x82);
  r.seconds(10);
  CHECK(r.read(0) == 0x59);
  CHECK((r.read(0xa) & 0x80) == 0);
  r.write(0xb, 0x02);
  r.seconds(1);
  CHECK(r.read(0) == 0x00);
}

TEST_CASE("RTC: UIP rises 244 us before the update cycle of 1984 us and falls with its end") {
  Rtc r;
  r.clock.advance(kTicksPerSecond - 2'228'001);
  CHECK((r.read(0xa) & 0x80) == 0);
  r.clock.advance(1);
  CHECK((r.read(0xa) & 0x80) == 0x80);
  r.clock.advance(2'227'999);
  CHECK((r.read(0xa) & 0x80) == 0x80);
  CHECK(r.read(0) == 0x59);
  r.clock.advance(1);
  CHECK((r.read(0xa) & 0x80) == 0);
  CHECK(r.read(0) == 0x00);
}

TEST_CASE("RTC: the first update comes half a second after the divider leaves reset") {
  Rtc r;
  r.write(0xa, 0x76);
  r.seconds(5);
  CHECK(r.read(0) == 0x59);
  r.clock.advance(123'456'789);
  r.write(0xa, 0x26);
  r.clock.advance(499'999'999);
  CHECK(r.read(0) == 0x59);
  r.clock.advance(1);
  CHECK(r.read(0) == 0x00);
  r.clock.advance(999'999'999);
  CHECK(r.read(0) == 0x00);
  r.clock.advance(1);
  CHECK(r.read(0) == 0x01);
}

TEST_CASE("RTC: update-ended interrupt, cleared by reading C") {
  Rtc r;
  r.write(0xb, 0x12);
  r.seconds(1);
  CHECK(r.lines.level[8]);
  CHECK((r.read(0xc) & 0x90) == 0x90);
  CHECK_FALSE(r.lines.level[8]);
  CHECK(r.read(0xc) == 0x00);
}

TEST_CASE("RTC: flags are set without their enables, and IRQF is not") {
  Rtc r;
  r.write(1, 0x30);  // no alarm in this second
  r.seconds(1);
  CHECK_FALSE(r.lines.level[8]);
  CHECK(r.read(0xc) == 0x50);  // the periodic flag too: 1024 Hz is selected
}

TEST_CASE("RTC: enabling an interrupt whose flag is set asserts it at once") {
  Rtc r;
  r.seconds(1);
  r.write(0xb, 0x12);
  CHECK(r.lines.level[8]);
}

TEST_CASE("RTC: the alarm fires at its second, with don't-care bytes every hour") {
  Rtc r;
  r.write(5, 0xc0);
  r.write(3, 0x00);
  r.write(1, 0x02);
  r.write(0xb, 0x22);
  r.seconds(2);
  CHECK_FALSE(r.lines.level[8]);
  r.seconds(1);
  CHECK(r.lines.level[8]);
  CHECK((r.read(0xc) & 0xa0) == 0xa0);
  r.seconds(3599);
  CHECK_FALSE(r.lines.level[8]);
  r.seconds(1);
  CHECK(r.lines.level[8]);
}

TEST_CASE("RTC: the periodic interrupt has the rate of RS3:0") {
  struct Row {
    u8 rate;
    u64 hertz;
  };
  const auto row = GENERATE(Row{1, 256}, Row{2, 128}, Row{3, 8192}, Row{6, 1024}, Row{13, 8}, Row{15, 2});
  CAPTURE(int{row.rate});
  Rtc r;
  r.write(0xa, 0x20 | row.rate);
  r.write(0xb, 0x42);
  u64 interrupts = 0;
  const Ticks slice = kTicksPerSecond / (row.hertz * 8);
  while (r.clock.now() < kTicksPerSecond) {
    r.clock.advance(std::min(slice, kTicksPerSecond - r.clock.now()));
    if (r.lines.level[8]) {
      ++interrupts;
      r.read(0xc);
    }
  }
  CHECK(interrupts == row.hertz);
}

TEST_CASE("RTC: rate 0 gives no periodic interrupt") {
  Rtc r;
  r.write(0xa, 0x20);
  r.write(0xb, 0x42);
  r.seconds(2);
  CHECK((r.read(0xc) & 0x40) == 0);
}

TEST_CASE("RTC: register D says that time and RAM are valid, and cannot be written") {
  Rtc r;
  r.write(0xd, 0);
  CHECK(r.read(0xd) == 0x80);
}

TEST_CASE("RTC: bit 7 of port 70h masks NMI and does not belong to the index") {
  Rtc r;
  CHECK(r.nmi_masked);
  CHECK(r.read(0x0f) == 0);
  CHECK_FALSE(r.nmi_masked);
  r.write(0x8f, 0x05);
  CHECK(r.nmi_masked);
  CHECK(r.read(0x0f) == 0x05);
}

TEST_CASE("RTC: presets come back at power-on, guest writes stay over a system reset") {
  Rtc r;
  r.rtc.preset(0x15, 0x80);
  CHECK(r.read(0x15) == 0x80);
  r.write(0x15, 1);
  r.write(0x0f, 9);
  r.rtc.reset(ResetKind::System);
  CHECK(r.read(0x15) == 1);
  CHECK(r.read(0x0f) == 9);
  r.rtc.reset(ResetKind::PowerOn);
  CHECK(r.read(0x15) == 0x80);
  CHECK(r.read(0x0f) == 0);
}

TEST_CASE("RTC: reset clears enables and flags, and time goes on") {
  Rtc r;
  r.write(0xb, 0x72);
  r.seconds(1);
  CHECK(r.lines.level[8]);
  r.rtc.reset(ResetKind::System);
  CHECK_FALSE(r.lines.level[8]);
  CHECK(r.read(0xb) == 0x02);
  r.seconds(1);
  CHECK(r.read(0) == 0x01);
}

TEST_CASE("RTC: ports 72h and 73h reach the upper 128 bytes") {
  Rtc r;
  r.rtc.write_port(0x72, 1, 0x10);
  r.rtc.write_port(0x73, 1, 0x5a);
  CHECK(r.rtc.read_port(0x73, 1) == 0x5a);
  CHECK(r.rtc.cmos(0x90) == 0x5a);
  CHECK(r.read(0x10) == 0);
}

TEST_CASE("RTC: a loaded clock goes on with its time and its interrupts") {
  Rtc r;
  r.write(0xb, 0x52);
  r.clock.advance(700'000'000);
  r.read(0xc);
  Rtc copy;
  copy.clock.advance(700'000'000);
  REQUIRE(load(copy.rtc, saved(r.rtc)));
  copy.clock.advance(300'000'000);
  CHECK(copy.lines.level[8]);
  CHECK((copy.read(0xc) & 0xd0) == 0xd0);
  CHECK(copy.date() == "2000-02-29 00:00:00 3");
}
