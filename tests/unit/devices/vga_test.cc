// VGA against the IBM PS/2 Hardware Interface Technical Reference (Video Subsystem) and the Bochs DISPI interface.
#include <catch2/catch.hpp>

#include "vga_fixture.h"

using namespace vellum;
using test::kVramOffset;
using Fixture = test::VgaFixture;

TEST_CASE("text written at B8000h stands on the screen") {
  Fixture f;
  f.text_80x25();
  f.print(0xb8000, "Hello");
  f.print(0xb8000 + 160 * 24 + 2 * 78, "xy");
  const auto screen = f.vga.text();
  CHECK(screen.columns == 80);
  CHECK(screen.rows == 25);
  CHECK(screen.cells[0] == TextCell{'H', 0x07});
  const auto text = f.vga.text_screen();
  CHECK(text.starts_with("Hello\n\n"));
  CHECK(text.ends_with(std::string(78, ' ') + "xy\n"));
}

TEST_CASE("odd/even addressing puts characters in plane 0 and attributes in plane 1") {
  Fixture f;
  f.text_80x25();
  f.poke(0xb8002, 'A');
  f.poke(0xb8003, 0x1e);
  CHECK(f.plane(0, 2) == 'A');
  CHECK(f.plane(1, 2) == 0x1e);
  CHECK(f.plane(2, 2) == 0);
  CHECK(f.peek(0xb8002) == 'A');
  CHECK(f.peek(0xb8003) == 0x1e);
}

TEST_CASE("the start address scrolls, the line compare register splits the screen, the cursor is found") {
  Fixture f;
  f.text_80x25();
  f.print(0xb8000, "top");
  f.print(0xb8000 + 160, "one");
  f.print(0xb8000 + 320, "two");
  f.indexed(0x3d4, 0x0d, 80);
  f.indexed(0x3d4, 0x0e, 0);
  f.indexed(0x3d4, 0x0f, 80 * 2 + 3);
  CHECK(f.vga.text_screen().starts_with("one\ntwo\n"));
  CHECK(f.vga.text().cursor_row == 1);
  CHECK(f.vga.text().cursor_column == 3);
  // Split after 10 rows of 16 lines: line compare 159.
  f.indexed(0x3d4, 0x18, 159);
  f.indexed(0x3d4, 0x07, 0x0f);  // bit 8 of it; the protect bit stands, which does not cover this bit
  f.indexed(0x3d4, 0x11, 0x0e);
  f.indexed(0x3d4, 0x09, 0x0f);
  f.indexed(0x3d4, 0x11, 0x8e);
  const auto screen = f.vga.text();
  CHECK(screen.rows == 25);
  CHECK(screen.cells[10 * 80].character == 't');
  CHECK(screen.cells[11 * 80].character == 'o');
}

TEST_CASE("code page 437 appears as UTF-8") {
  Fixture f;
  f.text_80x25();
  f.print(0xb8000, "\xc9\xcd\xbb\x01");
  CHECK(f.vga.text_screen().starts_with("╔═╗☺\n"));
  CHECK(code_page_437(0x80) == U'Ç');
  CHECK(code_page_437(0xfe) == U'■');
}

TEST_CASE("a graphics mode has no text screen") {
  Fixture f;
  f.planar_12h();
  CHECK(f.vga.text_screen().empty());
}

TEST_CASE("write mode 0: rotate, set/reset, logical function and bit mask") {
  Fixture f;
  f.planar_12h();
  f.indexed(0x3c4, 2, 0x5);
  f.poke(0xa0000, 0xa5);
  CHECK(f.plane(0, 0) == 0xa5);
  CHECK(f.plane(1, 0) == 0x00);
  CHECK(f.plane(2, 0) == 0xa5);
  f.indexed(0x3c4, 2, 0xf);
  f.indexed(0x3ce, 3, 4);  // rotate right by 4
  f.poke(0xa0001, 0x12);
  CHECK(f.plane(3, 1) == 0x21);
  f.indexed(0x3ce, 3, 0);
  f.indexed(0x3ce, 0, 0x2);  // set plane 1, reset plane 0
  f.indexed(0x3ce, 1, 0x3);
  f.poke(0xa0002, 0x3c);
  CHECK(f.plane(0, 2) == 0x00);
  CHECK(f.plane(1, 2) == 0xff);
  CHECK(f.plane(2, 2) == 0x3c);
  f.indexed(0x3ce, 1, 0);
  f.poke(0xa0003, 0xf0);
  f.peek(0xa0003);           // latch F0h in every plane
  f.indexed(0x3ce, 3, 0x18); // XOR
  f.indexed(0x3ce, 8, 0x3f); // bit mask
  f.poke(0xa0003, 0xff);
  CHECK(f.plane(0, 3) == 0xcf);
}

TEST_CASE("write mode 1 copies the latches") {
  Fixture f;
  f.planar_12h();
  f.indexed(0x3c4, 2, 0x1);
  f.poke(0xa0000, 0x11);
  f.indexed(0x3c4, 2, 0x8);
  f.poke(0xa0000, 0x88);
  f.indexed(0x3c4, 2, 0xf);
  f.indexed(0x3ce, 5, 1);
  f.peek(0xa0000);
  f.poke(0xa0100, 0x00);
  CHECK(f.plane(0, 0x100) == 0x11);
  CHECK(f.plane(3, 0x100) == 0x88);
}

TEST_CASE("write mode 2 spreads a colour over the planes through the bit mask") {
  Fixture f;
  f.planar_12h();
  f.indexed(0x3ce, 5, 2);
  f.indexed(0x3ce, 8, 0x80);
  f.peek(0xa0000);
  f.poke(0xa0000, 0x9);
  CHECK(f.plane(0, 0) == 0x80);
  CHECK(f.plane(1, 0) == 0x00);
  CHECK(f.plane(3, 0) == 0x80);
}

TEST_CASE("write mode 3 uses the data as a further bit mask for the set/reset colour") {
  Fixture f;
  f.planar_12h();
  f.indexed(0x3ce, 5, 3);
  f.indexed(0x3ce, 0, 0xc);
  f.indexed(0x3ce, 8, 0xf0);
  f.peek(0xa0000);
  f.poke(0xa0000, 0x3c);
  CHECK(f.plane(0, 0) == 0x00);
  CHECK(f.plane(2, 0) == 0x30);
  CHECK(f.plane(3, 0) == 0x30);
}

TEST_CASE("read mode 0 reads the selected plane, read mode 1 compares colours") {
  Fixture f;
  f.planar_12h();
  f.indexed(0x3c4, 2, 0x4);
  f.poke(0xa0000, 0xf0);
  f.indexed(0x3c4, 2, 0x1);
  f.poke(0xa0000, 0xcc);
  f.indexed(0x3ce, 4, 2);
  CHECK(f.peek(0xa0000) == 0xf0);
  f.indexed(0x3ce, 4, 0);
  CHECK(f.peek(0xa0000) == 0xcc);
  f.indexed(0x3ce, 5, 8);
  f.indexed(0x3ce, 2, 0x5);  // colour 5: planes 0 and 2
  f.indexed(0x3ce, 7, 0xf);
  CHECK(f.peek(0xa0000) == 0xc0);
  f.indexed(0x3ce, 7, 0x4);  // only plane 2 matters
  CHECK(f.peek(0xa0000) == 0xf0);
}

TEST_CASE("chain 4 selects the plane by the low address bits") {
  Fixture f;
  f.mode(0x63, {3, 1, 0xf, 0, 0xe}, {}, {0, 0, 0, 0, 0, 0x40, 0x05, 0x0f, 0xff});
  f.poke(0xa0006, 0x66);
  f.poke(0xa4000, 0x44);
  CHECK(f.plane(2, 4) == 0x66);
  CHECK(f.plane(0, 0x4001) == 0x44);  // A15-A14 stand in for A1-A0
  CHECK(f.peek(0xa0006) == 0x66);
  CHECK(f.peek(0xa4000) == 0x44);
}

TEST_CASE("the memory map select moves the window; outside of it nothing answers") {
  Fixture f;
  f.planar_12h();
  f.poke(0xb8000, 0x12);
  CHECK(f.peek(0xb8000) == 0xff);
  CHECK(f.plane(0, 0) == 0);
  f.out(0x3c2, 0xe1);  // RAM disabled
  f.poke(0xa0000, 0x12);
  CHECK(f.plane(0, 0) == 0);
  CHECK(f.peek(0xa0000) == 0xff);
}

TEST_CASE("the attribute controller's flip-flop is reset by reading input status 1") {
  Fixture f;
  f.text_80x25();
  f.in(0x3da);
  f.out(0x3c0, 0x10);
  f.out(0x3c0, 0x0c);
  f.out(0x3c0, 0x13);
  f.in(0x3da);
  f.out(0x3c0, 0x30);
  CHECK(f.in(0x3c0) == 0x30);
  CHECK(f.in(0x3c1) == 0x0c);
}

TEST_CASE("the DAC takes three components an entry and steps on; its state register tells the direction") {
  Fixture f;
  f.out(0x3c8, 5);
  for (const u8 value : {0x3f, 0x20, 0xff, 0x01, 0x02, 0x03}) f.out(0x3c9, value);
  CHECK(f.in(0x3c8) == 7);
  CHECK(f.in(0x3c7) == 0);
  f.out(0x3c7, 5);
  CHECK(f.in(0x3c7) == 3);
  CHECK(f.in(0x3c9) == 0x3f);
  CHECK(f.in(0x3c9) == 0x20);
  CHECK(f.in(0x3c9) == 0x3f);
  CHECK(f.in(0x3c9) == 0x01);
  CHECK(f.vga.registers().palette(5) == 0xff82ff);
}

TEST_CASE("CRTC registers 0-7 can be protected, but for the line compare bit") {
  Fixture f;
  f.text_80x25();
  f.indexed(0x3d4, 0x00, 0x11);
  f.indexed(0x3d4, 0x07, 0x00);
  f.out(0x3d4, 0);
  CHECK(f.in(0x3d5) == 0x5f);
  f.out(0x3d4, 7);
  CHECK(f.in(0x3d5) == 0x0f);
}

TEST_CASE("the CRTC answers at the colour or the monochrome address, not at both") {
  Fixture f;
  f.out(0x3c2, 0x66);
  f.indexed(0x3b4, 0x0c, 0x12);
  CHECK(f.in(0x3d5) == 0xff);
  CHECK(f.in(0x3b5) == 0x12);
  f.out(0x3c2, 0x67);
  CHECK(f.in(0x3b5) == 0xff);
  CHECK(f.in(0x3d5) == 0x12);
}

TEST_CASE("in 80x25 text a frame takes 1/70 s and vertical retrace comes once in it") {
  Fixture f;
  f.text_80x25();
  const auto timing = f.vga.registers().timing();
  // 900 dots by 449 lines at 28.322 MHz
  CHECK(timing.frame > 14'260'000);
  CHECK(timing.frame < 14'275'000);
  unsigned edges = 0;
  bool before = f.in(0x3da) & 8;
  for (unsigned i = 0; i < 14'268 * 7 / 10; ++i) {
    f.clock.advance(10'000);
    const bool retrace = f.in(0x3da) & 8;
    edges += retrace && !before;
    before = retrace;
  }
  CHECK(edges == 7);
  CHECK(f.in(0x3da) != 0xff);
}

TEST_CASE("DISPI identifies itself, reports its limits and memory, and refuses modes that do not fit") {
  Fixture f;
  CHECK(f.dispi(0) == 0xb0c5);
  CHECK(f.dispi(10) == 256);
  f.dispi(4, 2);
  CHECK(f.dispi(1) == 2560);
  CHECK(f.dispi(2) == 1600);
  f.dispi(4, 0);
  f.dispi(1, 1024);
  f.dispi(2, 768);
  f.dispi(3, 32);
  f.dispi(4, 0x41);
  CHECK(f.dispi(4) == 0x41);
  CHECK(f.dispi(6) == 1024);
  CHECK(f.dispi(7) == (16 << 20) / 4096);
  f.dispi(1, 640);
  CHECK(f.dispi(1) == 1024);  // not while enabled
  f.dispi(9, 4000);
  CHECK(f.dispi(9) == 0);
  f.dispi(9, 768);
  CHECK(f.dispi(9) == 768);
}

TEST_CASE("with DISPI enabled the window shows banks of the frame buffer; enabling clears the screen") {
  Fixture f;
  f.out(0x3c2, 0x67);
  f.dispi(1, 640);
  f.dispi(2, 480);
  f.dispi(3, 8);
  f.ram->host(kVramOffset)[5] = 0x77;
  f.dispi(4, 0x41);
  CHECK(f.ram->host(kVramOffset)[5] == 0);
  f.dispi(5, 3);
  f.poke(0xa0010, 0x5a);
  CHECK(f.ram->host(kVramOffset)[0x30010] == 0x5a);
  CHECK(f.peek(0xa0010) == 0x5a);
  f.dispi(4, 0);
  f.ram->host(kVramOffset)[5] = 0x77;
  f.dispi(4, 0xc1);
  CHECK(f.ram->host(kVramOffset)[5] == 0x77);
}

TEST_CASE("the frame buffer BAR and the register BAR answer where the guest puts them") {
  Fixture f;
  f.vga.write_config(0x10, 4, 0xe0000000);
  f.vga.write_config(0x18, 4, 0xf0000000);
  f.vga.write_config(0x04, 2, 3);
  f.memory.write_value<u32>(GuestPhysAddr(0xe0000100), 0x12345678);
  CHECK(f.ram->host(kVramOffset)[0x100] == 0x78);
  CHECK(f.memory.read_value<u16>(GuestPhysAddr(0xf0000500)) == 0xb0c5);
  f.memory.write_slow(GuestPhysAddr(0xf0000502), 2, 800);
  CHECK(f.dispi(1) == 800);
  f.memory.write_value<u8>(GuestPhysAddr(0xf0000402), 0x67);
  CHECK(f.in(0x3cc) == 0x67);
}

TEST_CASE("a store through the window tells of the change") {
  Fixture f;
  f.text_80x25();
  f.ram->set_flag(kVramOffset, kPageCleanDisplay);
  f.poke(0xb8000, 'x');
  CHECK((f.ram->flags(kVramOffset) & kPageCleanDisplay) == 0);
}

TEST_CASE("VGA state survives saving and loading") {
  Fixture f, g;
  f.text_80x25();
  f.dispi(1, 320);
  ArchiveWriter writer;
  f.vga.visit(writer);
  ArchiveReader reader(writer.data());
  g.vga.visit(reader);
  REQUIRE_FALSE(reader.failed());
  ArchiveWriter again;
  g.vga.visit(again);
  CHECK(again.data() == writer.data());
}
