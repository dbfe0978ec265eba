// The 8259A pair against the Intel 8259A datasheet (231468) and the PIIX3's ELCR (290550, 4.1.4).
#include <catch2/catch.hpp>

#include "devices/pic8259.h"
#include "fakes.h"

using namespace vellum;

namespace {

struct Pics {
  FakeLines lines;
  Pic8259Pair pic{lines.line()};

  void out(u16 port, u8 value) { pic.write_port(port, 1, value); }
  u8 in(u16 port) { return static_cast<u8>(pic.read_port(port, 1)); }

  // As a PC's firmware does it: master at 08h, slave at 70h on IR2.
  void initialize(u8 icw1 = 0x11, u8 master_icw4 = 1, u8 slave_icw4 = 1) {
    out(0x20, icw1);
    out(0x21, 0x08);
    if (!(icw1 & 2)) out(0x21, 0x04);
    if (icw1 & 1) out(0x21, master_icw4);
    out(0xa0, icw1);
    out(0xa1, 0x70);
    if (!(icw1 & 2)) out(0xa1, 0x02);
    if (icw1 & 1) out(0xa1, slave_icw4);
  }
  u8 request_register(u16 port = 0x20) {
    out(port, 0x0a);
    return in(port);
  }
  u8 service_register(u16 port = 0x20) {
    out(port, 0x0b);
    return in(port);
  }
  void pulse(unsigned pin) {
    pic.set_input(pin, true);
    pic.set_input(pin, false);
  }
};

constexpr u8 kEoi = 0x20;

}  // namespace

TEST_CASE("8259: an edge gives the vector of ICW2 plus the level and sets ISR") {
  Pics p;
  p.initialize();
  p.pic.set_input(3, true);
  CHECK(p.lines.level[0]);
  CHECK(p.request_register() == 0x08);
  CHECK(p.pic.acknowledge() == 0x0b);
  CHECK(p.request_register() == 0x00);
  CHECK(p.service_register() == 0x08);
  CHECK_FALSE(p.pic.pending());
}

TEST_CASE("8259: an input that falls before INTA is not requested any more, but for those of timers") {
  Pics p;
  p.initialize();
  for (const unsigned pin : {3u, 12u}) {
    p.pic.set_input(pin, true);
    CHECK(p.pic.pending());
    p.pic.set_input(pin, false);
    CHECK_FALSE(p.pic.pending());
    CHECK_FALSE(p.lines.level[0]);
  }
  p.pic.set_input(0, true);
  p.pic.set_input(0, false);
  CHECK(p.pic.acknowledge() == 0x08);
  p.out(0x20, kEoi);
  p.pic.set_input(8, true);
  p.pic.set_input(8, false);
  CHECK(p.pic.acknowledge() == 0x70);
}

TEST_CASE("8259: a line that stays high is no second edge, one that falls and rises is") {
  Pics p;
  p.initialize();
  p.pic.set_input(3, true);
  p.pic.acknowledge();
  p.out(0x20, kEoi);
  CHECK_FALSE(p.pic.pending());
  p.pic.set_input(3, false);
  p.pic.set_input(3, true);
  CHECK(p.pic.pending());
}

TEST_CASE("8259: fully nested mode: a lower level waits for EOI, a higher one interrupts") {
  Pics p;
  p.initialize();
  p.pic.set_input(4, true);
  CHECK(p.pic.acknowledge() == 0x0c);
  p.pic.set_input(6, true);
  CHECK_FALSE(p.pic.pending());
  p.pic.set_input(1, true);
  REQUIRE(p.pic.pending());
  CHECK(p.pic.acknowledge() == 0x09);
  CHECK(p.service_register() == 0x12);
  p.out(0x20, kEoi);  // non-specific: clears the highest in service
  CHECK(p.service_register() == 0x10);
  p.out(0x20, kEoi);
  CHECK(p.pic.acknowledge() == 0x0e);
}

TEST_CASE("8259: a slave's interrupt needs both chips and gives the slave's vector") {
  Pics p;
  p.initialize();
  p.pic.set_input(12, true);
  CHECK(p.pic.acknowledge() == 0x74);
  CHECK(p.service_register(0x20) == 0x04);
  CHECK(p.service_register(0xa0) == 0x10);
  p.out(0xa0, kEoi);
  p.out(0x20, kEoi);
  CHECK(p.service_register(0x20) == 0);
  CHECK(p.service_register(0xa0) == 0);
}

TEST_CASE("8259: a second request of the slave comes after both EOIs") {
  Pics p;
  p.initialize();
  p.pic.set_input(14, true);
  p.pic.set_input(15, true);
  CHECK(p.pic.acknowledge() == 0x76);
  CHECK_FALSE(p.pic.pending());
  p.out(0xa0, kEoi);
  p.out(0x20, kEoi);
  REQUIRE(p.pic.pending());
  CHECK(p.pic.acknowledge() == 0x77);
}

TEST_CASE("8259: special fully nested mode lets a higher request of the same slave through") {
  Pics p;
  p.initialize(0x11, 0x11, 1);
  p.pic.set_input(14, true);
  CHECK(p.pic.acknowledge() == 0x76);
  p.pic.set_input(9, true);
  REQUIRE(p.pic.pending());
  CHECK(p.pic.acknowledge() == 0x71);
}

TEST_CASE("8259: without special fully nested mode the slave in service is locked out") {
  Pics p;
  p.initialize();
  p.pic.set_input(14, true);
  p.pic.acknowledge();
  p.pic.set_input(9, true);
  CHECK_FALSE(p.pic.pending());
}

TEST_CASE("8259: a request that went away gives IR7's vector and nothing in service") {
  Pics p;
  p.initialize();
  p.out(0x4d0, 0x20);  // IRQ5 level triggered
  p.pic.set_input(5, true);
  REQUIRE(p.pic.pending());
  p.pic.set_input(5, false);
  CHECK(p.pic.acknowledge() == 0x0f);
  CHECK(p.service_register() == 0);
}

TEST_CASE("8259: a spurious interrupt of the slave gives IRQ15 with only IR2 of the master in service") {
  Pics p;
  p.initialize();
  p.pic.set_input(10, true);
  // The slave's request disappears between the master's INTA and its own: mask it in the slave while the master's
  // cascade request is held up, as a driver does that masks a line just when it fires.
  p.out(0x21, 0x04);
  p.out(0xa1, 0x04);
  p.out(0x21, 0x00);
  CHECK_FALSE(p.pic.pending());
  CHECK(p.pic.acknowledge() == 0x0f);
}

TEST_CASE("8259: IMR holds a request back without losing it") {
  Pics p;
  p.initialize();
  p.out(0x21, 0xff);
  p.pic.set_input(0, true);
  CHECK_FALSE(p.pic.pending());
  CHECK(p.request_register() == 0x01);
  CHECK(p.in(0x21) == 0xff);
  p.out(0x21, 0xfe);
  CHECK(p.pic.pending());
}

TEST_CASE("8259: a level-triggered line requests again after EOI while it is high") {
  Pics p;
  p.initialize();
  p.out(0x4d1, 0x08);  // IRQ11
  p.pic.set_input(11, true);
  CHECK(p.pic.acknowledge() == 0x73);
  p.out(0xa0, kEoi);
  p.out(0x20, kEoi);
  REQUIRE(p.pic.pending());
  p.pic.set_input(11, false);
  CHECK_FALSE(p.pic.pending());
}

TEST_CASE("8259: LTIM in ICW1 makes every input of the chip level triggered") {
  Pics p;
  p.initialize(0x19);
  p.pic.set_input(5, true);
  p.pic.acknowledge();
  p.out(0x20, kEoi);
  CHECK(p.pic.pending());
}

TEST_CASE("8259: ELCR keeps IRQ 0, 1, 2, 8 and 13 edge triggered") {
  Pics p;
  p.out(0x4d0, 0xff);
  p.out(0x4d1, 0xff);
  CHECK(p.in(0x4d0) == 0xf8);
  CHECK(p.in(0x4d1) == 0xde);
}

TEST_CASE("8259: ICW1 clears the edge sense, so that a high line must fall and rise first") {
  Pics p;
  p.initialize();
  p.pic.set_input(4, true);
  p.out(0x21, 0xff);
  p.initialize();
  CHECK(p.in(0x21) == 0);
  CHECK_FALSE(p.pic.pending());
  p.pic.set_input(4, false);
  p.pic.set_input(4, true);
  CHECK(p.pic.pending());
}

TEST_CASE("8259: ICW1 without IC4 clears ICW4's functions, with SNGL it skips ICW3") {
  Pics p;
  p.initialize(0x11, 0x03, 0x01);  // automatic EOI
  p.out(0x20, 0x12);
  p.out(0x21, 0x40);
  p.out(0x21, 0xaa);  // already OCW1
  CHECK(p.in(0x21) == 0xaa);
  p.out(0x21, 0);
  p.pic.set_input(1, true);
  CHECK(p.pic.acknowledge() == 0x41);
  CHECK(p.service_register() == 0x02);
}

TEST_CASE("8259: automatic EOI leaves nothing in service") {
  Pics p;
  p.initialize(0x11, 0x03, 0x01);
  p.pic.set_input(1, true);
  CHECK(p.pic.acknowledge() == 0x09);
  CHECK(p.service_register() == 0);
  p.pic.set_input(6, true);
  CHECK(p.pic.acknowledge() == 0x0e);
}

TEST_CASE("8259: rotate in automatic EOI mode makes the acknowledged level the lowest") {
  Pics p;
  p.initialize(0x11, 0x03, 0x01);
  p.out(0x20, 0x80);
  p.pic.set_input(1, true);
  p.pic.acknowledge();
  p.pic.set_input(1, false);
  p.pic.set_input(1, true);
  p.pic.set_input(6, true);
  CHECK(p.pic.acknowledge() == 0x0e);
  p.out(0x20, 0x00);  // clears the mode: 6 stays lowest
  CHECK(p.pic.acknowledge() == 0x09);
}

TEST_CASE("8259: rotate on non-specific EOI gives the level served the lowest priority") {
  Pics p;
  p.initialize();
  p.pic.set_input(4, true);
  p.pic.acknowledge();
  p.out(0x20, 0xa0);
  p.pic.set_input(4, false);
  p.pic.set_input(4, true);
  p.pic.set_input(5, true);
  CHECK(p.pic.acknowledge() == 0x0d);
}

TEST_CASE("8259: set priority and rotate on specific EOI choose the lowest level") {
  Pics p;
  p.initialize();
  p.out(0x20, 0xc5);  // IR5 lowest, so IR6 is highest
  p.pic.set_input(0, true);
  p.pic.set_input(6, true);
  CHECK(p.pic.acknowledge() == 0x0e);
  p.out(0x20, 0xe6);  // EOI for 6, and 6 lowest
  CHECK(p.service_register() == 0);
  p.pic.set_input(7, true);
  CHECK(p.pic.acknowledge() == 0x0f);
}

TEST_CASE("8259: a specific EOI clears the level that it names") {
  Pics p;
  p.initialize();
  p.pic.set_input(5, true);
  p.pic.acknowledge();
  p.pic.set_input(3, true);
  p.pic.acknowledge();
  p.out(0x20, 0x65);
  CHECK(p.service_register() == 0x08);
}

TEST_CASE("8259: special mask mode enables lower levels while a masked one is in service") {
  Pics p;
  p.initialize();
  p.pic.set_input(3, true);
  p.pic.acknowledge();
  p.pic.set_input(6, true);
  p.out(0x21, 0x08);
  CHECK_FALSE(p.pic.pending());
  p.out(0x20, 0x68);
  REQUIRE(p.pic.pending());
  CHECK(p.pic.acknowledge() == 0x0e);
  // A non-specific EOI does not clear the masked in-service bit.
  p.out(0x20, kEoi);
  p.out(0x20, kEoi);
  CHECK(p.service_register() == 0x08);
  p.out(0x20, 0x48);
  p.out(0x20, kEoi);
  CHECK(p.service_register() == 0x00);
}

TEST_CASE("8259: poll reads and acknowledges the highest request") {
  Pics p;
  p.initialize();
  p.out(0x20, 0x0c);
  CHECK((p.in(0x20) & 0x80) == 0);
  p.pic.set_input(4, true);
  p.out(0x20, 0x0c);
  CHECK(p.in(0x20) == 0x84);
  CHECK(p.service_register() == 0x10);
  CHECK_FALSE(p.pic.pending());
}

TEST_CASE("8259: polling the slave through both chips leaves the master ready for the next") {
  Pics p;
  p.initialize();
  p.pic.set_input(9, true);
  p.out(0x20, 0x0c);
  CHECK(p.in(0x20) == 0x82);
  p.out(0xa0, 0x0c);
  CHECK(p.in(0xa0) == 0x81);
  p.out(0xa0, kEoi);
  p.out(0x20, kEoi);
  p.pic.set_input(10, true);
  CHECK(p.pic.acknowledge() == 0x72);
}

TEST_CASE("8259: pin 2 is the cascade and has no input of its own") {
  Pics p;
  p.initialize();
  p.pic.set_input(2, true);
  CHECK_FALSE(p.pic.pending());
}

TEST_CASE("8259: a short pulse is remembered until the CPU takes it") {
  Pics p;
  p.initialize();
  p.pulse(0);
  REQUIRE(p.pic.pending());
  CHECK(p.pic.acknowledge() == 0x08);
}

TEST_CASE("8259: the loaded pair drives INT as the saved one did") {
  Pics p;
  p.initialize();
  p.pic.set_input(12, true);
  Pics copy;
  REQUIRE(load(copy.pic, saved(p.pic)));
  CHECK(copy.lines.level[0]);
  CHECK(copy.pic.acknowledge() == 0x74);
}

TEST_CASE("8259: its description names vectors, requests, services and masks by IRQ") {
  Pics p;
  p.initialize();
  p.out(0x21, 0xb0);  // IRQ4, 5 and 7
  p.pic.set_input(0, true);
  p.pic.acknowledge();
  p.pic.set_input(1, true);
  p.pic.set_input(10, true);
  CHECK(p.pic.describe() ==
        "8259 master: IRQ0-7 at vectors 0x08-0x0f\n"
        "  requested: IRQ1 IRQ2; in service: IRQ0; masked: IRQ4 IRQ5 IRQ7\n"
        "  inputs asserted: IRQ0 IRQ1 IRQ2; level-triggered: none\n"
        "8259 slave: IRQ8-15 at vectors 0x70-0x77\n"
        "  requested: IRQ10; in service: none; masked: none\n"
        "  inputs asserted: IRQ10; level-triggered: none\n");
}
