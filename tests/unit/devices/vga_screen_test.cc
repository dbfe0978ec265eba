// Frames of the VGA, pixel by pixel, against what the IBM Video Subsystem reference and the Bochs VBE interface say of each mode.
#include <catch2/catch.hpp>

#include <functional>
#include <map>

#include "vga_fixture.h"

using namespace vellum;

namespace {

constexpr u32 kText = 0xb8000, kGraphics = 0xa0000;
constexpr Ticks kFrame = 14'268'000;  // of 80x25 text: 449 lines of 900 dots at 28.322 MHz, in nanoseconds

// Content that no two neighbouring bytes share, and that a misplaced bit, byte, line or plane changes.
struct Noise {
  u32 state = 1;
  u8 next() {
    state = state * 1664525 + 1013904223;
    return static_cast<u8>(state >> 24);
  }
};

using Pixel = std::function<u32(u32 x, u32 y)>;

struct Bench : test::VgaFixture {
  std::array<u8, 768> dac{};  // as written
  std::array<u8, 32 * 512> fonts{};  // two tables of 256 characters of 32 lines
  std::vector<u8> memory_bytes;  // as the CPU wrote them, or plane after plane

  Bench() {
    out(0x3c2, 0x67);
    for (unsigned i = 0; i < 256; ++i) set_color(static_cast<u8>(i), static_cast<u8>(i & 63), static_cast<u8>(i * 5 & 63), static_cast<u8>((i * 11 + 7) & 63));
    attributes({0, 1, 2, 3, 4, 5, 0x14, 7, 0x38, 0x39, 0x3a, 0x3b, 0x3c, 0x3d, 0x3e, 0x3f, 0, 0, 0xf, 0, 0});
  }
  void set_color(u8 index, u8 red, u8 green, u8 blue) {
    out(0x3c8, index);
    const u8 parts[] = {red, green, blue};
    for (unsigned i = 0; i < 3; ++i) {
      out(0x3c9, parts[i]);
      dac[3u * index + i] = parts[i];
    }
  }
  // A DAC entry of six bits a component, spread over eight as the analogue output would be.
  u32 color(unsigned index) const {
    u32 rgb = 0;
    for (unsigned i = 0; i < 3; ++i) {
      const u32 value = dac[3 * index + i];
      rgb = rgb << 8 | (value * 4 + value / 16);
    }
    return rgb;
  }
  void at(Ticks time) { clock.advance(time - clock.now()); }
  // Through the attribute controller's palette as Bench() sets it.
  u32 ega(unsigned value) const {
    static constexpr u8 kPalette[] = {0, 1, 2, 3, 4, 5, 0x14, 7, 0x38, 0x39, 0x3a, 0x3b, 0x3c, 0x3d, 0x3e, 0x3f};
    return color(kPalette[value]);
  }

  // Loads both fonts as the BIOS does: plane 2, sequential addressing, window at A0000h.
  void load_fonts() {
    indexed(0x3c4, 2, 4);
    indexed(0x3c4, 4, 6);
    indexed(0x3ce, 5, 0);
    indexed(0x3ce, 6, 4);
    Noise noise{7};
    for (u32 i = 0; i < fonts.size(); ++i) {
      fonts[i] = noise.next();
      poke(kGraphics + (i < 8192 ? i : 0x4000 + i - 8192), fonts[i]);  // tables 0 and 1 of the character map select register
    }
    indexed(0x3c4, 2, 3);
    indexed(0x3c4, 4, 2);
    indexed(0x3ce, 5, 0x10);
    indexed(0x3ce, 6, 0xe);
    attribute(0x13, 8);  // no panning with nine dots
  }
  void fill(u32 base, u32 size, u32 seed = 3) {
    Noise noise{seed};
    memory_bytes.assign(size, 0);
    for (u32 i = 0; i < size; ++i) poke(base + i, memory_bytes[i] = noise.next());
  }
  // Four planes of 64 KiB behind the window, through the map mask.
  void fill_planes() {
    Noise noise{11};
    memory_bytes.assign(4 * 0x10000, 0);
    for (u32 plane = 0; plane < 4; ++plane) {
      indexed(0x3c4, 2, static_cast<u8>(1 << plane));
      for (u32 i = 0; i < 0x10000; ++i) poke(kGraphics + i, memory_bytes[plane * 0x10000 + i] = noise.next());
    }
    indexed(0x3c4, 2, 0xf);
  }
  unsigned nibble(u32 address, unsigned bit) const {
    unsigned value = 0;
    for (unsigned plane = 0; plane < 4; ++plane) value |= (memory_bytes[plane * 0x10000 + (address & 0xffff)] >> (7 - bit) & 1u) << plane;
    return value;
  }

  void check(u32 width, u32 height, const Pixel& pixel) {
    vga.refresh();
    const ScreenFrame& frame = vga.frame();
    REQUIRE(frame.width == width);
    REQUIRE(frame.height == height);
    REQUIRE(frame.pixels.size() == usize{width} * height);
    u32 wrong = 0, first_x = 0, first_y = 0;
    for (u32 y = 0; y < height; ++y)
      for (u32 x = 0; x < width; ++x)
        if (frame.pixels[usize{y} * width + x] != pixel(x, y) && wrong++ == 0) first_x = x, first_y = y;
    INFO("first at " << first_x << "," << first_y);
    CHECK(wrong == 0);
  }
  bool glyph(unsigned font, unsigned character, unsigned line, unsigned dot) const { return fonts[font * 8192 + character * 32 + line] >> (7 - dot) & 1; }

  void cga_4() {
    mode(0x63, {3, 9, 3, 0, 2},
         {0x2d, 0x27, 0x28, 0x90, 0x2b, 0x80, 0xbf, 0x1f, 0, 0xc1, 0, 0, 0, 0, 0, 0, 0x9c, 0x8e, 0x8f, 0x14, 0, 0x96, 0xb9, 0xa2, 0xff},
         {0, 0, 0, 0, 0, 0x30, 0xf, 0, 0xff});
    attribute(0x10, 1);
  }
  void cga_6() {
    mode(0x63, {3, 1, 1, 0, 6},
         {0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0xbf, 0x1f, 0, 0xc1, 0, 0, 0, 0, 0, 0, 0x9c, 0x8e, 0x8f, 0x28, 0, 0x96, 0xb9, 0xc2, 0xff},
         {0, 0, 0, 0, 0, 0, 0xd, 0, 0xff});
    attribute(0x10, 1);
  }
  void planar_0dh() {
    mode(0x63, {3, 9, 0xf, 0, 6},
         {0x2d, 0x27, 0x28, 0x90, 0x2b, 0x80, 0xbf, 0x1f, 0, 0xc0, 0, 0, 0, 0, 0, 0, 0x9c, 0x8e, 0x8f, 0x14, 0, 0x96, 0xb9, 0xe3, 0xff},
         {0, 0, 0, 0, 0, 0, 5, 0xf, 0xff});
    attribute(0x10, 1);
  }
  void chain_13h() {
    mode(0x63, {3, 1, 0xf, 0, 0xe},
         {0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0xbf, 0x1f, 0, 0x41, 0, 0, 0, 0, 0, 0, 0x9c, 0x8e, 0x8f, 0x28, 0x40, 0x96, 0xb9, 0xa3, 0xff},
         {0, 0, 0, 0, 0, 0x40, 5, 0xf, 0xff});
    attribute(0x10, 0x41);
  }
  // 320x240 in unchained planes (Abrash, Graphics Programming Black Book, chapter 47).
  void mode_x() {
    chain_13h();
    indexed(0x3c4, 4, 6);
    out(0x3c2, 0xe3);
    const std::pair<u8, u8> registers[] = {{0x06, 0x0d}, {0x07, 0x3e}, {0x09, 0x41}, {0x10, 0xea}, {0x11, 0xac}, {0x12, 0xdf}, {0x14, 0}, {0x15, 0xe7}, {0x16, 0x06}, {0x17, 0xe3}};
    for (const auto& [index, value] : registers) indexed(0x3d4, index, value);
  }
  void vbe(u16 width, u16 height, u16 depth) {
    dispi(4, 0);
    dispi(1, width);
    dispi(2, height);
    dispi(3, depth);
    dispi(4, 0x41);
  }
  // Display memory of a linear mode.
  void fill_linear(u32 size) {
    Noise noise{5};
    u8* vram = ram->host(test::kVramOffset);
    memory_bytes.assign(size, 0);
    for (u32 i = 0; i < size; ++i) vram[i] = memory_bytes[i] = noise.next();
    memory.ram_written(test::kVramOffset, size);
  }
};

}  // namespace

// ---- Text

TEST_CASE("80x25 text: fonts, colours, the ninth dot, blinking, the cursor") {
  Bench b;
  b.text_80x25();
  b.load_fonts();
  b.fill(kText, 80 * 25 * 2);
  b.indexed(0x3d4, 0x0a, 0x0d);
  b.indexed(0x3d4, 0x0e, 0x02);
  b.indexed(0x3d4, 0x0f, 0x08);  // cell 520: row 6, column 40
  const auto expected = [&](bool blinks, bool blink_shown, bool cursor, bool line_graphics) {
    return [=, &b](u32 x, u32 y) {
      const u32 column = x / 9, row = y / 16, dot = x % 9, line = y % 16;
      const u8 character = b.memory_bytes[(row * 80 + column) * 2], attribute = b.memory_bytes[(row * 80 + column) * 2 + 1];
      const unsigned background = blinks ? attribute >> 4 & 7 : attribute >> 4;
      bool ink = dot < 8 ? b.glyph(0, character, line, dot) : line_graphics && (character & 0xe0) == 0xc0 && b.glyph(0, character, line, 7);
      if (blinks && (attribute & 0x80) && !blink_shown) ink = false;
      if (cursor && row == 6 && column == 40 && line >= 13 && line <= 14) ink = true;
      return b.ega(ink ? attribute & 0xf : background);
    };
  };
  b.attribute(0x10, 0x0c);
  b.check(720, 400, expected(true, true, true, true));
  b.at(8 * kFrame + kFrame / 2);
  b.check(720, 400, expected(true, true, false, true));
  b.at(16 * kFrame + kFrame / 2);
  b.check(720, 400, expected(true, false, true, true));
  b.at(24 * kFrame + kFrame / 2);
  b.check(720, 400, expected(true, false, false, true));
  b.attribute(0x10, 0x04);  // bright backgrounds instead of blinking
  b.check(720, 400, expected(false, false, false, true));
  b.attribute(0x10, 0x00);
  b.check(720, 400, expected(false, false, false, false));
    b.indexed(0x3d4, 0x0a, 0x2d);  // cursor off
  b.check(720, 400, expected(false, false, false, false));
  CHECK(b.vga.frame().pixel_aspect == Approx(4.0 / 3 * 400 / 720));
}

TEST_CASE("text of 8 dots with two fonts, chosen by the attribute's bit 3") {
  Bench b;
  b.text_80x25();
  b.load_fonts();
  b.indexed(0x3c4, 1, 1);
  b.attribute(0x13, 0);
  b.indexed(0x3c4, 3, 0x04);  // bit 3 set: table 1 (at 4000h); clear: table 0
  b.attribute(0x10, 0x00);
  b.attribute(0x12, 0x07);    // eight colours, so that bit 3 has no other use
  b.fill(kText, 80 * 25 * 2);
  b.indexed(0x3d4, 0x0a, 0x20);
  b.check(640, 400, [&](u32 x, u32 y) {
    const u32 cell = (y / 16 * 80 + x / 8) * 2;
    const u8 attribute = b.memory_bytes[cell + 1];
    const bool ink = b.glyph(attribute >> 3 & 1, b.memory_bytes[cell], y % 16, x % 8);
    return b.ega((ink ? attribute : attribute >> 4) & 7);
  });
}

TEST_CASE("80x50 text, 40 columns, underlining") {
  Bench b;
  b.text_80x25();
  b.load_fonts();
  b.attribute(0x10, 0x00);
  b.indexed(0x3d4, 0x0a, 0x20);
  b.indexed(0x3d4, 0x09, 0x47);
  b.fill(kText, 80 * 50 * 2);
  const auto text = [&](unsigned columns, unsigned repeat, unsigned height, int underline) {
    return [=, &b](u32 x, u32 y) {
      const u32 cell = (y / height * columns + x / repeat / 9) * 2, dot = x / repeat % 9, line = y % height;
      const u8 attribute = b.memory_bytes[cell + 1];
      bool ink = dot < 8 && b.glyph(0, b.memory_bytes[cell], line, dot);
      if (static_cast<int>(line) == underline && (attribute & 0x77) == 1) ink = true;
      return b.ega(ink ? attribute & 0xf : attribute >> 4);
    };
  };
  b.check(720, 400, text(80, 1, 8, -1));
  CHECK(b.vga.text().rows == 50);
  b.indexed(0x3d4, 0x14, 0x07);
  b.poke(kText, b.memory_bytes[0] = 'A');
  b.poke(kText + 1, b.memory_bytes[1] = 0x01);
  b.check(720, 400, text(80, 1, 8, 7));
  // 40 columns: half the dot clock, half the characters.
  b.indexed(0x3c4, 1, 8);
  b.indexed(0x3d4, 0x11, 0);
  b.indexed(0x3d4, 0x01, 39);
  b.indexed(0x3d4, 0x13, 20);
  b.check(720, 400, text(40, 2, 8, 7));
}

TEST_CASE("text scrolls smoothly: preset row scan and pixel panning, and a split screen that stands still") {
  Bench b;
  b.text_80x25();
  b.load_fonts();
  b.attribute(0x10, 0x20);  // panning stops at the split
  b.indexed(0x3d4, 0x0a, 0x20);
  b.fill(kText, 80 * 30 * 2);
  b.indexed(0x3d4, 0x0d, 80);        // start: the second row
  b.indexed(0x3d4, 0x08, 5);         // its sixth line
  b.attribute(0x13, 2);              // nine-dot panning: by three
  b.indexed(0x3d4, 0x11, 0x0e);
  b.indexed(0x3d4, 0x18, 0x2b);      // line compare 299
  b.indexed(0x3d4, 0x07, 0x1f);
  b.indexed(0x3d4, 0x09, 0x0f);
  b.check(720, 400, [&](u32 x, u32 y) {
    const bool split = y > 299;
    const u32 line = split ? y - 300 : y + 5, dots = split ? x : x + 3;
    const u32 cell = ((split ? 0 : 80) + line / 16 * 80 + dots / 9) * 2;
    const u8 attribute = b.memory_bytes[cell + 1];
    const bool ink = dots % 9 < 8 && b.glyph(0, b.memory_bytes[cell], line % 16, dots % 9);
    return b.ega(ink ? attribute & 0xf : attribute >> 4);
  });
}

// ---- Graphics

TEST_CASE("mode 4: 320x200 in four colours, odd and even lines 8 KiB apart") {
  Bench b;
  b.cga_4();
  b.fill(kText, 0x4000);
  b.check(640, 400, [&](u32 x, u32 y) {
    const u32 px = x / 2, py = y / 2;
    return b.ega(b.memory_bytes[(py & 1) * 0x2000 + py / 2 * 80 + px / 4] >> (6 - 2 * (px & 3)) & 3);
  });
}

TEST_CASE("mode 6: 640x200 in two colours") {
  Bench b;
  b.cga_6();
  b.attribute(0x12, 1);
  b.fill(kText, 0x4000);
  b.check(640, 400, [&](u32 x, u32 y) { return b.ega(b.memory_bytes[(y / 2 & 1) * 0x2000 + y / 4 * 80 + x / 8] >> (7 - x % 8) & 1); });
}

TEST_CASE("mode 0Dh: 320x200 in 16 colours; plane enable, colour select, start address") {
  Bench b;
  b.planar_0dh();
  b.fill_planes();
  const auto value = [&](u32 x, u32 y) { return b.nibble(y / 2 * 40 + x / 16, x / 2 % 8); };
  b.check(640, 400, [&](u32 x, u32 y) { return b.ega(value(x, y)); });
  b.attribute(0x12, 0x5);
  b.check(640, 400, [&](u32 x, u32 y) { return b.ega(value(x, y) & 5); });
  b.attribute(0x12, 0xf);
  // Color Select: bits 3-2 are the DAC's bits 7-6, and bits 1-0 take the place of bits 5-4 where Mode Control says so.
  static constexpr u8 kPalette[] = {0, 1, 2, 3, 4, 5, 0x14, 7, 0x38, 0x39, 0x3a, 0x3b, 0x3c, 0x3d, 0x3e, 0x3f};
  b.attribute(0x14, 0xe);
  b.check(640, 400, [&](u32 x, u32 y) { return b.color(0xc0 | kPalette[value(x, y)]); });
  b.attribute(0x10, 0x81);
  b.check(640, 400, [&](u32 x, u32 y) { return b.color(0xe0 | (kPalette[value(x, y)] & 0xf)); });
  b.attribute(0x14, 0);
  b.attribute(0x10, 1);
  b.indexed(0x3d4, 0x0c, 0xf8);  // wraps at 64 KiB
  b.check(640, 400, [&](u32 x, u32 y) { return b.ega(b.nibble(0xf800 + y / 2 * 40 + x / 16, x / 2 % 8)); });
}

TEST_CASE("mode 12h: 640x480, pixel and byte panning, split, blinking pixels") {
  Bench b;
  b.planar_12h();
  b.attribute(0x10, 1);
  b.fill_planes();
  b.check(640, 480, [&](u32 x, u32 y) { return b.ega(b.nibble(y * 80 + x / 8, x % 8)); });
  CHECK(b.vga.frame().pixel_aspect == Approx(1));
  b.indexed(0x3d4, 0x08, 0x40);  // two bytes
  b.attribute(0x13, 5);
  b.check(640, 480, [&](u32 x, u32 y) { return b.ega(b.nibble(y * 80 + 2 + (x + 5) / 8, (x + 5) % 8)); });
  // Line compare 99, panning goes on below.
  b.indexed(0x3d4, 0x11, 0x0c);
  b.indexed(0x3d4, 0x07, 0x2e);
  b.indexed(0x3d4, 0x09, 0x00);
  b.indexed(0x3d4, 0x18, 99);
  const auto split = [&](u32 x, u32 y) { return b.nibble((y > 99 ? y - 100 : y) * 80 + 2 + (x + 5) / 8, (x + 5) % 8); };
  b.check(640, 480, [&](u32 x, u32 y) { return b.ega(split(x, y)); });
  b.attribute(0x10, 9);
  b.check(640, 480, [&](u32 x, u32 y) { return b.ega(split(x, y) | 8); });
  b.at(20 * 16'683'000);  // 525 lines of 800 dots at 25.175 MHz
  b.check(640, 480, [&](u32 x, u32 y) { return b.ega(split(x, y) & 8 ? split(x, y) & 7 : split(x, y) | 8); });
}

TEST_CASE("mode 13h: 320x200 in 256 colours, the pel mask, eight-bit DAC") {
  Bench b;
  b.chain_13h();
  b.fill(kGraphics, 0x10000);
  const auto value = [&](u32 x, u32 y) { return b.memory_bytes[y / 2 * 320 + x / 2]; };
  b.check(640, 400, [&](u32 x, u32 y) { return b.color(value(x, y)); });
  b.out(0x3c6, 0x3c);
  b.check(640, 400, [&](u32 x, u32 y) { return b.color(value(x, y) & 0x3c); });
  b.out(0x3c6, 0xff);
  b.set_color(b.memory_bytes[0], 1, 2, 3);  // an animated palette
  b.check(640, 400, [&](u32 x, u32 y) { return b.color(value(x, y)); });
  b.dispi(4, 0x20);
  b.set_color(b.memory_bytes[0], 0x81, 0x92, 0xa3);
  b.vga.refresh();
  CHECK(b.vga.frame().pixels[0] == 0x8192a3);
}

TEST_CASE("mode X: unchained planes, pages, panning by pixels") {
  Bench b;
  b.mode_x();
  b.fill_planes();
  const auto expected = [&](u32 page, u32 pan) {
    return [=, &b](u32 x, u32 y) {
      const u32 px = x / 2 + pan;
      return b.color(b.memory_bytes[(px % 4) * 0x10000 + ((page + y / 2 * 80 + px / 4) & 0xffff)]);
    };
  };
  b.check(640, 480, expected(0, 0));
  b.indexed(0x3d4, 0x0c, 0x4b);
  b.check(640, 480, expected(0x4b00, 0));
  b.attribute(0x13, 6);  // in 256 colours 0, 2, 4, 6 are none to three pixels
  b.check(640, 480, expected(0x4b00, 3));
  b.indexed(0x3d4, 0x13, 48);  // lines of 384 pixels
  b.check(640, 480, [&](u32 x, u32 y) {
    const u32 px = x / 2 + 3;
    return b.color(b.memory_bytes[(px % 4) * 0x10000 + ((0x4b00 + y / 2 * 96 + px / 4) & 0xffff)]);
  });
}

TEST_CASE("a blanked screen keeps its size") {
  Bench b;
  b.planar_12h();
  b.attribute(0x10, 1);
  b.attribute(0x11, 5);
  b.fill_planes();
  b.vga.refresh();
  b.indexed(0x3c4, 1, 0x21);
  b.check(640, 480, [](u32, u32) { return 0; });
  b.indexed(0x3c4, 1, 0x01);
  b.in(0x3da);
  b.out(0x3c0, 0x00);  // the palette belongs to the CPU: the border's colour is everywhere
  b.check(640, 480, [&](u32, u32) { return b.color(5); });
}

// ---- DISPI

TEST_CASE("DISPI modes of every depth, with a virtual width and offsets") {
  const u16 depth = GENERATE(as<u16>{}, 8, 15, 16, 24, 32);
  CAPTURE(depth);
  Bench b;
  b.attributes({});
  b.vbe(400, 300, depth);
  const u32 bytes = (depth + 7u) / 8;
  b.fill_linear(480 * 400 * bytes);
  const auto expected = [&](u32 pitch, u32 left, u32 top) {
    return [=, &b](u32 x, u32 y) {
      u32 value = 0;
      for (u32 i = 0; i < bytes; ++i) value |= u32{b.memory_bytes[((y + top) * pitch + x + left) * bytes + i]} << (8 * i);
      const auto five = [](u32 part) { return (part & 31) * 8 + (part & 31) / 4; };
      const auto six = [](u32 part) { return (part & 63) * 4 + (part & 63) / 16; };
      switch (bytes) {
        case 1: return b.color(value);
        case 2: return depth == 15 ? five(value >> 10) << 16 | five(value >> 5) << 8 | five(value) : five(value >> 11) << 16 | six(value >> 5) << 8 | five(value);
        default: return value & 0xffffff;
      }
    };
  };
  b.check(400, 300, expected(400, 0, 0));
  CHECK(b.vga.frame().pixel_aspect == 1);
  b.dispi(6, 480);
  b.check(400, 300, expected(480, 0, 0));
  b.dispi(8, 17);
  b.dispi(9, 90);
  b.check(400, 300, expected(480, 17, 90));
}

TEST_CASE("a DISPI mode of four planes, written through banks") {
  Bench b;
  b.mode(0xe3, {3, 1, 0xf, 0, 6}, {}, {0, 0, 0, 0, 0, 0, 5, 0xf, 0xff});
  b.attribute(0x10, 1);
  b.vbe(1024, 768, 4);
  Noise noise{2};
  std::vector<u8> planes[4];
  for (unsigned plane = 0; plane < 4; ++plane) {
    b.indexed(0x3c4, 2, static_cast<u8>(1 << plane));
    for (u32 i = 0; i < 1024 * 768 / 8; ++i) {
      if ((i & 0xffff) == 0) b.dispi(5, static_cast<u16>(i >> 16));
      planes[plane].push_back(noise.next());
      b.poke(kGraphics + (i & 0xffff), planes[plane].back());
    }
  }
  b.dispi(6, 1024);
  b.check(1024, 768, [&](u32 x, u32 y) {
    unsigned value = 0;
    for (unsigned plane = 0; plane < 4; ++plane) value |= (planes[plane][(y * 1024 + x) / 8] >> (7 - x % 8) & 1u) << plane;
    return b.ega(value);
  });
}

// ---- What changed

TEST_CASE("only what changed is told of") {
  Bench b;
  b.vbe(640, 480, 32);
  b.attributes({});
  REQUIRE(b.vga.refresh().size() == 1);
  CHECK(b.vga.refresh().empty());
  b.ram->host(test::kVramOffset)[4 * (640 * 100 + 7)] = 1;
  CHECK(b.vga.refresh().empty());  // nobody said so
  b.memory.ram_written(test::kVramOffset + 4 * (640 * 100 + 7), 4);
  auto changed = b.vga.refresh();
  REQUIRE(changed.size() == 1);
  CHECK(changed[0] == ScreenRectangle{7, 100, 1, 1});
  CHECK(b.vga.refresh().empty());
  // Two places, lines apart.
  for (const u32 place : {640 * 10 + 20, 640 * 10 + 29, 640 * 11 + 25, 640 * 300 + 5}) {
    b.ram->host(test::kVramOffset)[4 * place] = 0xff;
    b.memory.ram_written(test::kVramOffset + 4 * place, 4);
  }
  changed = b.vga.refresh();
  REQUIRE(changed.size() == 2);
  CHECK(changed[0] == ScreenRectangle{20, 10, 10, 2});
  CHECK(changed[1] == ScreenRectangle{5, 300, 1, 1});
  // The same content again is no change.
  b.memory.ram_written(test::kVramOffset, 640 * 480 * 4);
  CHECK(b.vga.refresh().empty());
}

TEST_CASE("a cell and the cursor change what they cover") {
  Bench b;
  b.text_80x25();
  b.load_fonts();
  b.attribute(0x10, 0x0c);
  b.indexed(0x3d4, 0x0a, 0x0d);
  b.poke(kText + 1, 0x07);
  b.vga.refresh();
  b.poke(kText + 2 * (80 * 3 + 10) + 1, 0x70);
  const auto changed = b.vga.refresh();
  REQUIRE(changed.size() == 1);
  CHECK(changed[0].x == 90);
  CHECK(changed[0].y == 48);
  CHECK(changed[0].width == 9);
  CHECK(changed[0].height == 16);
  CHECK(b.vga.refresh().empty());
  b.at(9 * kFrame);  // the cursor goes out, at the top left
  REQUIRE(b.vga.refresh().size() == 1);
}

TEST_CASE("no content of the registers makes the renderer read outside of display memory") {
  Bench b;
  Noise noise{99};
  for (unsigned round = 0; round < 300; ++round) {
    b.out(0x3c2, noise.next() | 1);
    b.indexed(0x3d4, 0x11, 0);
    for (u8 i = 0; i < 0x19; ++i) b.indexed(0x3d4, i, i == 0x17 ? noise.next() | 0x80 : i == 0x11 ? noise.next() & 0x7f : noise.next());
    for (u8 i = 0; i < 5; ++i) b.indexed(0x3c4, i, i == 1 ? noise.next() & ~0x20 : noise.next());
    for (u8 i = 0; i < 9; ++i) b.indexed(0x3ce, i, noise.next());
    for (u8 i = 0; i < 21; ++i) b.attribute(i, noise.next());
    b.vga.refresh();
    REQUIRE(b.vga.frame().pixels.size() == usize{b.vga.frame().width} * b.vga.frame().height);
  }
}
