// The 16550A against the National PC16550D datasheet (June 1995), section 8.
#include <catch2/catch.hpp>

#include "devices/uart16550.h"
#include "fakes.h"

using namespace vellum;

namespace {

struct Uart {
  ManualClock clock;
  FakeLines lines;
  FakeBackend backend;
  Uart16550 uart{"uart16550.0", clock, lines.line(4), &backend};

  Uart() { uart.reset(ResetKind::PowerOn); }
  u8 in(unsigned index) { return static_cast<u8>(uart.read_port(static_cast<u16>(0x3f8 + index), 1)); }
  void out(unsigned index, u8 value) { uart.write_port(static_cast<u16>(0x3f8 + index), 1, value); }
  // 115200 baud, 8N1, OUT2 set, FIFOs with trigger level 8.
  void open(u8 fifo_control = 0x87) {
    out(3, 0x83);
    out(0, 1);
    out(1, 0);
    out(3, 0x03);
    out(2, fifo_control);
    out(4, 0x0b);
  }
  bool interrupt() { return lines.level[4]; }
};

constexpr Ticks kCharacter = 10 * kTicksPerSecond / 115200;

}  // namespace

TEST_CASE("UART: reset values") {
  Uart u;
  CHECK(u.in(1) == 0x00);
  CHECK(u.in(2) == 0x01);
  CHECK(u.in(3) == 0x00);
  CHECK(u.in(4) == 0x00);
  CHECK(u.in(5) == 0x60);
  CHECK((u.in(6) & 0x0f) == 0x00);
}

TEST_CASE("UART: the divisor latch hides behind DLAB") {
  Uart u;
  u.out(3, 0x80);
  u.out(0, 0x34);
  u.out(1, 0x12);
  CHECK(u.in(0) == 0x34);
  CHECK(u.in(1) == 0x12);
  u.out(3, 0x03);
  CHECK(u.in(1) == 0x00);
}

TEST_CASE("UART: bytes go out, and the transmitter is empty again") {
  Uart u;
  u.open();
  u.out(0, 'h');
  u.out(0, 'i');
  CHECK(u.backend.sent == "hi");
  CHECK((u.in(5) & 0x60) == 0x60);
}

TEST_CASE("UART: enabling THRE interrupts at once; reading IIR or writing THR clears it") {
  Uart u;
  u.open();
  u.out(1, 0x02);
  REQUIRE(u.interrupt());
  CHECK(u.in(2) == 0xc2);
  CHECK_FALSE(u.interrupt());
  CHECK(u.in(2) == 0xc1);
  u.out(0, 'x');  // the byte leaves: empty again
  CHECK(u.interrupt());
  CHECK(u.in(2) == 0xc2);
  u.out(1, 0x00);
  u.out(1, 0x02);
  CHECK(u.interrupt());
}

TEST_CASE("UART: each byte written while THRE interrupts gives a new edge") {
  Uart u;
  u.open();
  u.out(1, 0x02);
  const auto before = u.lines.rises[4];
  u.out(0, 'x');
  CHECK(u.lines.rises[4] == before + 1);
}

TEST_CASE("UART: without FIFO one character is held, and can_receive says so") {
  Uart u;
  u.open(0);
  CHECK(u.backend.can_receive() == 1);
  u.backend.type("a");
  CHECK(u.backend.can_receive() == 0);
  CHECK((u.in(5) & 0x01) == 0x01);
  CHECK(u.in(0) == 'a');
  CHECK(u.backend.can_receive() == 1);
  CHECK(u.backend.room_calls > 0);
}

TEST_CASE("UART: an overrun replaces the character without FIFO") {
  Uart u;
  u.open(0);
  u.backend.type("ab");
  CHECK((u.in(5) & 0x03) == 0x03);
  CHECK((u.in(5) & 0x02) == 0x00);
  CHECK(u.in(0) == 'b');
}

TEST_CASE("UART: an overrun keeps the FIFO") {
  Uart u;
  u.open();
  u.backend.type("0123456789abcdefX");
  CHECK((u.in(5) & 0x02) == 0x02);
  std::string got;
  while (u.in(5) & 1) got += static_cast<char>(u.in(0));
  CHECK(got == "0123456789abcdef");
}

TEST_CASE("UART: the FIFO interrupts at its trigger level and falls below it") {
  struct Row {
    u8 control;
    usize level;
  };
  const auto row = GENERATE(Row{0x07, 1}, Row{0x47, 4}, Row{0x87, 8}, Row{0xc7, 14});
  CAPTURE(row.level);
  Uart u;
  u.open(row.control);
  u.out(1, 0x01);
  u.backend.type(std::string(row.level - 1, 'x'));
  CHECK_FALSE(u.interrupt());
  u.backend.type("x");
  CHECK(u.interrupt());
  CHECK(u.in(2) == 0xc4);
  u.in(0);
  CHECK_FALSE(u.interrupt());
}

TEST_CASE("UART: characters below the trigger level time out after four character times") {
  Uart u;
  u.open();
  u.out(1, 0x01);
  u.backend.type("ab");
  u.clock.advance(4 * kCharacter - 10);
  CHECK_FALSE(u.interrupt());
  u.clock.advance(20);
  REQUIRE(u.interrupt());
  CHECK(u.in(2) == 0xcc);
  u.in(0);
  CHECK_FALSE(u.interrupt());
  u.clock.advance(4 * kCharacter + 10);  // one character is still there
  CHECK(u.interrupt());
}

TEST_CASE("UART: line status comes before data, data before THRE, THRE before modem status") {
  Uart u;
  u.open(0x07);
  u.out(1, 0x0f);
  u.uart.set_modem_inputs(0);
  u.uart.receive_break();
  CHECK((u.in(2) & 0x0f) == 0x06);
  CHECK((u.in(5) & 0x10) == 0x10);
  CHECK((u.in(2) & 0x0f) == 0x04);
  CHECK(u.in(0) == 0x00);
  CHECK((u.in(2) & 0x0f) == 0x02);
  CHECK((u.in(2) & 0x0f) == 0x00);
  CHECK(u.in(6) == 0x0b);
  CHECK((u.in(2) & 0x0f) == 0x01);
  CHECK_FALSE(u.interrupt());
}

TEST_CASE("UART: an error shows when its character is next, and in LSR bit 7 before") {
  Uart u;
  u.open(0x07);
  u.backend.type("a");
  u.uart.receive_break();
  CHECK((u.in(5) & 0x91) == 0x81);
  CHECK(u.in(0) == 'a');
  CHECK((u.in(5) & 0x91) == 0x91);
  CHECK((u.in(5) & 0x91) == 0x01);
}

TEST_CASE("UART: FCR empties the receiver, and so does switching the FIFOs") {
  Uart u;
  u.open();
  u.backend.type("abc");
  u.out(2, 0x83);
  CHECK((u.in(5) & 1) == 0);
  u.backend.type("abc");
  u.out(2, 0x00);
  CHECK((u.in(5) & 1) == 0);
  CHECK(u.in(2) == 0x01);
}

TEST_CASE("UART: loopback returns bytes and connects the modem lines") {
  Uart u;
  u.open();
  u.out(4, 0x1f);
  CHECK(u.in(6) >> 4 == 0xf);
  u.out(0, 'L');
  CHECK(u.backend.sent.empty());
  CHECK(u.in(0) == 'L');
  CHECK(u.backend.can_receive() == 0);
  u.out(4, 0x1a);  // RTS and OUT2: CTS and DCD
  CHECK(u.in(6) == 0x96);  // DSR changed, RI fell
  u.out(4, 0x0b);
  CHECK((u.in(6) & 0xf0) == 0xb0);
}

TEST_CASE("UART: the word length cuts what is received") {
  Uart u;
  u.open();
  u.out(3, 0x02);  // 7 bits
  u.backend.type("\xc1");
  CHECK(u.in(0) == 0x41);
}

TEST_CASE("UART: modem inputs set deltas; RI only at its trailing edge; reading clears them") {
  Uart u;
  u.open();
  u.uart.set_modem_inputs(0xf0);
  CHECK(u.in(6) == 0xf0);  // RI rose: no delta
  u.uart.set_modem_inputs(0x00);
  CHECK(u.in(6) == 0x0f);
  CHECK(u.in(6) == 0x00);
}

TEST_CASE("UART: OUT2 gates the interrupt") {
  Uart u;
  u.open();
  u.out(4, 0x03);
  u.out(1, 0x02);
  CHECK_FALSE(u.interrupt());
  u.out(4, 0x0b);
  CHECK(u.interrupt());
}

TEST_CASE("UART: DTR, RTS and break are told") {
  Uart u;
  u8 control = 0;
  bool broken = false;
  u.uart.outputs_changed = [&](u8 lines, bool condition) {
    control = lines;
    broken = condition;
  };
  u.out(4, 0x03);
  CHECK(control == 3);
  u.out(3, 0x43);
  CHECK(broken);
}

TEST_CASE("UART: the scratch register keeps a byte, LSR and MSR cannot be written") {
  Uart u;
  u.out(7, 0xa5);
  CHECK(u.in(7) == 0xa5);
  u.out(5, 0xff);
  CHECK(u.in(5) == 0x60);
}

TEST_CASE("UART: a loaded UART holds the characters and the interrupt of the saved one") {
  Uart u;
  u.open(0x07);
  u.out(1, 0x01);
  u.backend.type("state");
  Uart copy;
  REQUIRE(load(copy.uart, saved(u.uart)));
  CHECK(copy.interrupt());
  std::string got;
  while (copy.in(5) & 1) got += static_cast<char>(copy.in(0));
  CHECK(got == "state");
}
