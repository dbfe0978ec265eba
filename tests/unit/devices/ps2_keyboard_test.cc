// The keyboard against the IBM PS/2 Hardware Interface Technical Reference, "101- and 102-Key Keyboard".
#include <catch2/catch.hpp>

#include <set>

#include "devices/ps2_keyboard.h"
#include "devices/ps2_scan_codes.h"
#include "fakes.h"

using namespace vellum;

namespace {

using Bytes = std::vector<unsigned>;

struct Keyboard {
  ManualClock clock;
  Ps2Keyboard keyboard{clock};

  Bytes taken() {
    Bytes result;
    while (keyboard.has_data()) result.push_back(keyboard.take());
    return result;
  }
  Bytes sent(std::initializer_list<u8> bytes) {
    for (const u8 byte : bytes) keyboard.receive(byte);
    return taken();
  }
  Bytes press(KeyCode code) {
    keyboard.key(code, true);
    return taken();
  }
  Bytes release(KeyCode code) {
    keyboard.key(code, false);
    return taken();
  }
};

}  // namespace

TEST_CASE("keyboard: reset acknowledges, then reports its self-test") {
  Keyboard k;
  CHECK(k.sent({0xff}) == Bytes{0xfa});
  k.clock.advance(kTicksPerSecond);
  CHECK(k.taken() == Bytes{0xaa});
}

TEST_CASE("keyboard: echo, identity, unknown commands, resend") {
  Keyboard k;
  CHECK(k.sent({0xee}) == Bytes{0xee});
  CHECK(k.sent({0xf2}) == Bytes{0xfa, 0xab, 0x83});
  CHECK(k.sent({0xef}) == Bytes{0xfe});
  CHECK(k.sent({0xfe}) == Bytes{0x83});
}

TEST_CASE("keyboard: the LEDs follow EDh") {
  Keyboard k;
  u8 seen = 0;
  k.keyboard.leds_changed = [&](u8 leds) { seen = leds; };
  CHECK(k.sent({0xed, 0x02}) == Bytes{0xfa, 0xfa});
  CHECK(seen == 2);
  CHECK(k.keyboard.leds() == 2);
}

TEST_CASE("keyboard: a command in place of an argument is taken as a command") {
  Keyboard k;
  CHECK(k.sent({0xed}) == Bytes{0xfa});
  CHECK(k.sent({0xf4}) == Bytes{0xfa});
  CHECK(k.keyboard.leds() == 0);
}

TEST_CASE("keyboard: F0h selects and tells the scan code set") {
  Keyboard k;
  CHECK(k.sent({0xf0, 0x00}) == Bytes{0xfa, 0xfa, 0x02});
  CHECK(k.sent({0xf0, 0x01}) == Bytes{0xfa, 0xfa});
  CHECK(k.press(KeyCode::A) == Bytes{0x1e});
  CHECK(k.release(KeyCode::A) == Bytes{0x9e});
  CHECK(k.press(KeyCode::RightControl) == Bytes{0xe0, 0x1d});
  CHECK(k.release(KeyCode::RightControl) == Bytes{0xe0, 0x9d});
  CHECK(k.sent({0xf0, 0x03}) == Bytes{0xfa, 0xfa});
  CHECK(k.press(KeyCode::LeftControl) == Bytes{0x11});
  CHECK(k.release(KeyCode::LeftControl) == Bytes{0xf0, 0x11});
}

TEST_CASE("keyboard: set 2 codes, with prefix for the grey keys") {
  Keyboard k;
  CHECK(k.press(KeyCode::F7) == Bytes{0x83});
  CHECK(k.release(KeyCode::F7) == Bytes{0xf0, 0x83});
  CHECK(k.press(KeyCode::Delete) == Bytes{0xe0, 0x71});
  CHECK(k.release(KeyCode::Delete) == Bytes{0xe0, 0xf0, 0x71});
  CHECK(k.press(KeyCode::KeypadEnter) == Bytes{0xe0, 0x5a});
  CHECK(k.press(KeyCode::Keypad5) == Bytes{0x73});
}

TEST_CASE("keyboard: Pause sends make and break at once and never repeats") {
  Keyboard k;
  CHECK(k.press(KeyCode::Pause) == Bytes{0xe1, 0x14, 0x77, 0xe1, 0xf0, 0x14, 0xf0, 0x77});
  k.clock.advance(2 * kTicksPerSecond);
  CHECK(k.release(KeyCode::Pause).empty());
  k.sent({0xf0, 0x01});
  CHECK(k.press(KeyCode::Pause) == Bytes{0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5});
}

TEST_CASE("keyboard: Ctrl+Pause is Break, Alt+Print Screen is SysRq") {
  Keyboard k;
  k.press(KeyCode::LeftControl);
  CHECK(k.press(KeyCode::Pause) == Bytes{0xe0, 0x7e, 0xe0, 0xf0, 0x7e});
  k.release(KeyCode::Pause);
  k.release(KeyCode::LeftControl);
  CHECK(k.press(KeyCode::PrintScreen) == Bytes{0xe0, 0x12, 0xe0, 0x7c});
  CHECK(k.release(KeyCode::PrintScreen) == Bytes{0xe0, 0xf0, 0x7c, 0xe0, 0xf0, 0x12});
  k.press(KeyCode::LeftAlt);
  CHECK(k.press(KeyCode::PrintScreen) == Bytes{0x84});
  CHECK(k.release(KeyCode::PrintScreen) == Bytes{0xf0, 0x84});
}

TEST_CASE("keyboard: a held key repeats after 500 ms, 10.9 times a second") {
  Keyboard k;
  CHECK(k.press(KeyCode::A) == Bytes{0x1c});
  k.clock.advance(499'999'999);
  CHECK(k.taken().empty());
  k.clock.advance(1);
  CHECK(k.taken() == Bytes{0x1c});
  // (8 + 3) * 2^1 / 240 s
  k.clock.advance(91'666'665);
  CHECK(k.taken().empty());
  k.clock.advance(1);
  CHECK(k.taken() == Bytes{0x1c});
}

TEST_CASE("keyboard: F3h sets the delay and rate; the last key pressed repeats alone; its release ends it") {
  Keyboard k;
  k.sent({0xf3, 0x00});  // 250 ms, 30 a second
  k.press(KeyCode::A);
  k.clock.advance(100'000'000);
  k.press(KeyCode::B);
  k.clock.advance(250'000'000);
  CHECK(k.taken() == Bytes{0x32});
  k.release(KeyCode::A);
  k.clock.advance(33'333'333);
  CHECK(k.taken() == Bytes{0x32});
  CHECK(k.release(KeyCode::B) == Bytes{0xf0, 0x32});
  k.clock.advance(kTicksPerSecond);
  CHECK(k.taken().empty());
}

TEST_CASE("keyboard: F5h stops scanning, F4h starts it") {
  Keyboard k;
  CHECK(k.sent({0xf5}) == Bytes{0xfa});
  CHECK(k.press(KeyCode::A).empty());
  CHECK(k.sent({0xf4}) == Bytes{0xfa});
  CHECK(k.release(KeyCode::A) == Bytes{0xf0, 0x1c});
}

TEST_CASE("keyboard: set 3 keys can be made make-only") {
  Keyboard k;
  k.sent({0xf0, 0x03});
  CHECK(k.sent({0xfd, 0x1c, 0x32}) == Bytes{0xfa, 0xfa, 0xfa});
  k.sent({0xf4});
  CHECK(k.press(KeyCode::A) == Bytes{0x1c});
  CHECK(k.release(KeyCode::A).empty());
  k.press(KeyCode::C);
  CHECK(k.release(KeyCode::C) == Bytes{0xf0, 0x21});
  k.sent({0xf9});
  k.press(KeyCode::C);
  CHECK(k.release(KeyCode::C).empty());
}

TEST_CASE("keyboard: when its buffer of 16 is full it says so once") {
  Keyboard k;
  for (const auto code : {KeyCode::A, KeyCode::B, KeyCode::C, KeyCode::D, KeyCode::E, KeyCode::F}) {
    k.keyboard.key(code, true);
    k.keyboard.key(code, false);
  }
  const auto bytes = k.taken();
  CHECK(bytes.size() == 17);
  CHECK(bytes.back() == 0x00);
}

TEST_CASE("keyboard: a key pressed twice is one press, a key that the board lacks is none") {
  Keyboard k;
  k.press(KeyCode::A);
  CHECK(k.press(KeyCode::A).empty());
  CHECK(k.press(static_cast<KeyCode>(0xff)).empty());
  CHECK(k.release(KeyCode::B).empty());
}

TEST_CASE("keyboard: no two keys share a set 3 code, and set 2 codes are unique but for two pairs") {
  std::set<unsigned> set2, set3;
  unsigned keys = 0, with_set3 = 0;
  for (unsigned code = 0; code < 256; ++code) {
    const auto& codes = scan_codes(static_cast<KeyCode>(code));
    if (codes.set2 == 0) continue;
    ++keys;
    set2.insert(codes.set2 | codes.extended << 8);
    if (codes.set3) {
      ++with_set3;
      set3.insert(codes.set3);
    }
  }
  // The ISO key beside Enter is Backslash's in set 2; Pause is a sequence that begins as NumLock's code does.
  CHECK(set2.size() == keys - 2);
  CHECK(set3.size() == with_set3);
}

TEST_CASE("keyboard: the i8042's translation of set 2 gives the set 1 codes of the PC/AT") {
  CHECK(set2_to_set1(0x76) == 0x01);  // Esc
  CHECK(set2_to_set1(0x16) == 0x02);  // 1
  CHECK(set2_to_set1(0x5a) == 0x1c);  // Enter
  CHECK(set2_to_set1(0x29) == 0x39);  // Space
  CHECK(set2_to_set1(0x83) == 0x41);  // F7
  CHECK(set2_to_set1(0x07) == 0x58);  // F12
  CHECK(set2_to_set1(0x61) == 0x56);  // ISO
  CHECK(set2_to_set1(0xfa) == 0xfa);
}

TEST_CASE("keyboard: a loaded keyboard goes on repeating") {
  Keyboard k;
  k.press(KeyCode::A);
  Keyboard copy;
  REQUIRE(load(copy.keyboard, saved(k.keyboard)));
  copy.clock.advance(500'000'000);
  CHECK(copy.taken() == Bytes{0x1c});
}
