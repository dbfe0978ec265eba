// The i8042 against the IBM PS/2 Hardware Interface Technical Reference, "Keyboard and Auxiliary Device Controller".
#include <catch2/catch.hpp>

#include "devices/a20_gate.h"
#include "devices/i8042.h"
#include "devices/ps2_keyboard.h"
#include "devices/ps2_mouse.h"
#include "fakes.h"

using namespace vellum;

namespace {

struct Controller {
  ManualClock clock;
  FakeLines lines;
  unsigned resets = 0;
  bool a20 = true;
  A20Gate gate{[this](bool enabled) { a20 = enabled; }};
  Ps2Keyboard keyboard{clock};
  Ps2Mouse mouse{clock};
  I8042 i8042{clock, keyboard, mouse,
              {lines.line(1), lines.line(12), [this](bool level) { gate.set_keyboard_controller(level); },
               [this] { ++resets; }}};

  Controller() {
    keyboard.reset(ResetKind::PowerOn);
    mouse.reset(ResetKind::PowerOn);
    i8042.reset(ResetKind::PowerOn);
  }
  u8 status() { return static_cast<u8>(i8042.read_port(0x64, 1)); }
  u8 data() { return static_cast<u8>(i8042.read_port(0x60, 1)); }
  void command(u8 value) { i8042.write_port(0x64, 1, value); }
  void command(u8 value, u8 argument) {
    command(value);
    write(argument);
  }
  void write(u8 value) { i8042.write_port(0x60, 1, value); }
  u8 answer(u8 value) {
    command(value);
    return data();
  }
  // Bytes as they come within 100 ms.
  std::vector<unsigned> bytes() {
    std::vector<unsigned> result;
    for (int i = 0; i < 1000; ++i) {
      clock.advance(100'000);
      if (status() & 1) result.push_back(data());
    }
    return result;
  }
};

using Bytes = std::vector<unsigned>;

}  // namespace

TEST_CASE("i8042: C1h and C2h show half of the input port in the status register until the next command") {
  Controller c;
  const u8 port = c.answer(0xc0);
  c.command(0xc1);
  CHECK(c.status() >> 4 == (port & 0x0f));
  CHECK(c.status() >> 4 == (port & 0x0f));
  c.command(0xc2);
  CHECK(c.status() >> 4 == port >> 4);
  CHECK((c.status() & 0x0f) == 0x08);  // the last write was a command
  c.command(0xae);
  CHECK(c.status() >> 4 == 1);  // not locked
}

TEST_CASE("i8042: the self-test answers 55h and sets the system flag") {
  Controller c;
  CHECK((c.status() & 0x04) == 0);
  c.command(0xaa);
  CHECK((c.status() & 0x0d) == 0x0d);
  CHECK(c.data() == 0x55);
  CHECK((c.status() & 0x01) == 0);
}

TEST_CASE("i8042: interface tests find no error, there is no password") {
  Controller c;
  CHECK(c.answer(0xab) == 0x00);
  CHECK(c.answer(0xa9) == 0x00);
  CHECK(c.answer(0xa4) == 0xf1);
}

TEST_CASE("i8042: the command byte and the RAM behind it are read and written by 20h-3Fh and 60h-7Fh") {
  Controller c;
  c.command(0x60, 0x65);
  CHECK(c.answer(0x20) == 0x65);
  c.command(0x7f, 0xaa);
  CHECK(c.answer(0x3f) == 0xaa);
}

TEST_CASE("i8042: A7h, A8h, ADh and AEh set and clear the disable bits") {
  Controller c;
  c.command(0x60, 0x00);
  c.command(0xa7);
  CHECK(c.answer(0x20) == 0x20);
  c.command(0xad);
  CHECK(c.answer(0x20) == 0x30);
  c.command(0xa8);
  CHECK(c.answer(0x20) == 0x10);
  c.command(0xae);
  CHECK(c.answer(0x20) == 0x00);
}

TEST_CASE("i8042: status bit 3 tells a command from data") {
  Controller c;
  c.command(0x60);
  CHECK((c.status() & 8) == 8);
  c.write(0);
  CHECK((c.status() & 8) == 0);
}

TEST_CASE("i8042: the output port holds A20; D1h sets it") {
  Controller c;
  CHECK((c.answer(0xd0) & 0x03) == 0x03);
  c.command(0xd1, 0xdd);
  CHECK_FALSE(c.a20);
  CHECK((c.answer(0xd0) & 0x03) == 0x01);
  c.command(0xd1, 0xdf);
  CHECK(c.a20);
  c.command(0xdd);
  CHECK_FALSE(c.a20);
  c.command(0xdf);
  CHECK(c.a20);
  CHECK(c.resets == 0);
}

TEST_CASE("i8042: FEh pulses reset, and so does output port bit 0; F0h-FFh with bit 0 set do not") {
  Controller c;
  c.command(0xff);
  CHECK(c.resets == 0);
  c.command(0xfe);
  CHECK(c.resets == 1);
  c.command(0xd1, 0x02);
  CHECK(c.resets == 2);
}

TEST_CASE("i8042: D2h and D3h put a byte into the output buffer as if a device had sent it") {
  Controller c;
  c.command(0x60, 0x03);
  c.command(0xd2, 0x5a);
  CHECK(c.lines.level[1]);
  CHECK((c.status() & 0x21) == 0x01);
  CHECK(c.data() == 0x5a);
  CHECK_FALSE(c.lines.level[1]);
  c.command(0xd3, 0xa5);
  CHECK(c.lines.level[12]);
  CHECK((c.status() & 0x21) == 0x21);
  CHECK(c.data() == 0xa5);
  CHECK_FALSE(c.lines.level[12]);
}

TEST_CASE("i8042: an answer waits until the output buffer is empty") {
  Controller c;
  c.command(0xd2, 0x11);
  c.command(0x20);
  CHECK(c.data() == 0x11);
  CHECK((c.status() & 1) == 1);
  CHECK(c.data() == 0x03);
}

TEST_CASE("i8042: a key comes as set 2 without translation and as set 1 with it, one interrupt for each byte") {
  Controller c;
  c.command(0x60, 0x01);
  c.keyboard.key(KeyCode::A, true);
  c.keyboard.key(KeyCode::A, false);
  CHECK(c.bytes() == Bytes{0x1c, 0xf0, 0x1c});
  CHECK(c.lines.rises[1] == 3);
  c.command(0x60, 0x41);
  c.keyboard.key(KeyCode::Right, true);
  c.keyboard.key(KeyCode::Right, false);
  CHECK(c.bytes() == Bytes{0xe0, 0x4d, 0xe0, 0xcd});
}

TEST_CASE("i8042: the keyboard's identity passes through translation as AB 41") {
  Controller c;
  c.command(0x60, 0x41);
  c.write(0xf2);
  CHECK(c.bytes() == Bytes{0xfa, 0xab, 0x41});
}

TEST_CASE("i8042: a byte needs its time on the wire, so that port 60h keeps the last one meanwhile") {
  Controller c;
  c.command(0x60, 0x01);
  c.keyboard.key(KeyCode::A, true);
  c.keyboard.key(KeyCode::B, true);
  c.clock.advance(1'000'000);
  CHECK(c.data() == 0x1c);
  CHECK((c.status() & 1) == 0);
  CHECK(c.data() == 0x1c);
  c.clock.advance(1'000'000);
  CHECK(c.data() == 0x32);
}

TEST_CASE("i8042: a disabled keyboard keeps its bytes; sending it a command enables it") {
  Controller c;
  c.command(0x60, 0x11);
  c.keyboard.key(KeyCode::A, true);
  CHECK(c.bytes().empty());
  c.write(0xee);
  CHECK(c.bytes() == Bytes{0x1c, 0xee});
}

TEST_CASE("i8042: D4h sends to the mouse, whose answer sets status bit 5 and IRQ 12") {
  Controller c;
  c.command(0x60, 0x03);
  c.command(0xd4, 0xf2);
  c.clock.advance(1'000'000);
  CHECK((c.status() & 0x21) == 0x21);
  CHECK(c.lines.level[12]);
  CHECK(c.bytes() == Bytes{0xfa, 0x00});
}

TEST_CASE("i8042: with the interrupts disabled bytes come silently") {
  Controller c;
  c.command(0x60, 0x00);
  c.keyboard.key(KeyCode::A, true);
  CHECK(c.bytes() == Bytes{0x1c});
  CHECK(c.lines.rises[1] == 0);
}

TEST_CASE("i8042: the loaded controller drives its lines as the saved one did") {
  Controller c;
  c.command(0x60, 0x43);
  c.command(0xd1, 0xdd);
  c.command(0xd2, 0x77);
  Controller copy;
  REQUIRE(load(copy.i8042, saved(c.i8042)));
  CHECK_FALSE(copy.a20);
  CHECK(copy.lines.level[1]);
  CHECK(copy.data() == 0x77);
}
