// Keys that come faster than the keyboard can send them: none is lost, and none stuck.
#include <catch2/catch.hpp>

#include <algorithm>
#include <vector>

#include "devices/i8042.h"
#include "devices/ps2_keyboard.h"
#include "devices/ps2_mouse.h"
#include "machine/typed_keys.h"

using namespace vellum;

namespace {

// A keyboard at its controller, without translation, and a program that reads port 60h when it wants to.
struct Bench {
  ManualClock clock;
  Ps2Keyboard keyboard{clock};
  Ps2Mouse mouse{clock};
  I8042 controller{clock, keyboard, mouse, {}};
  TypedKeys typed{clock, [this] { return keyboard.has_room(); }, [this](KeyCode code, bool down) { keyboard.key(code, down); }};

  std::vector<u8> read(Ticks time) {
    std::vector<u8> bytes;
    for (Ticks passed = 0; passed < time; passed += 100'000) {
      clock.advance(100'000);
      if (controller.read_port(0x64, 1) & 1) bytes.push_back(static_cast<u8>(controller.read_port(0x60, 1)));
    }
    return bytes;
  }
};

}  // namespace

TEST_CASE("what is typed faster than the keyboard sends arrives whole and in order") {
  Bench b;
  std::vector<u8> expected;
  for (int i = 0; i < 100; ++i) {
    const bool even = i % 2 == 0;
    const KeyCode key = even ? KeyCode::A : KeyCode::B;
    const u8 code = even ? 0x1c : 0x32;  // of set 2
    b.typed.key(key, true);
    b.typed.key(key, false);
    expected.insert(expected.end(), {code, 0xf0, code});
  }
  CHECK(b.read(2 * kTicksPerSecond) == expected);
}

TEST_CASE("ten keys that are released at once are all released") {
  Bench b;
  constexpr KeyCode kKeys[] = {KeyCode::LeftControl, KeyCode::RightControl, KeyCode::LeftAlt, KeyCode::RightAlt, KeyCode::Left,
                               KeyCode::Right, KeyCode::Up, KeyCode::Down, KeyCode::Home, KeyCode::End};
  for (const KeyCode key : kKeys) {
    b.typed.key(key, true);
    b.read(10'000'000);
  }
  for (const KeyCode key : kKeys) b.typed.key(key, false);
  CHECK(b.read(kTicksPerSecond / 10) == std::vector<u8>{0xf0, 0x14, 0xe0, 0xf0, 0x14, 0xf0, 0x11, 0xe0, 0xf0, 0x11, 0xe0, 0xf0, 0x6b,
                                                        0xe0, 0xf0, 0x74, 0xe0, 0xf0, 0x75, 0xe0, 0xf0, 0x72, 0xe0, 0xf0, 0x6c, 0xe0, 0xf0, 0x69});
}

TEST_CASE("a guest that has not read for a second does not find what was typed meanwhile, and no key is stuck then") {
  Bench b;
  b.typed.key(KeyCode::LeftShift, true);
  REQUIRE(b.read(10'000'000) == std::vector<u8>{0x12});
  for (int i = 0; i < 100; ++i) {
    b.typed.key(KeyCode::A, true);
    b.typed.key(KeyCode::A, false);
  }
  b.typed.key(KeyCode::LeftShift, false);
  b.clock.advance(2 * kTicksPerSecond);
  const auto bytes = b.read(kTicksPerSecond);
  CHECK(bytes.size() <= 1 + 16 + 5);  // the controller's buffer, the keyboard's, and the releases
  REQUIRE(bytes.size() >= 2);
  CHECK(std::vector<u8>(bytes.end() - 2, bytes.end()) == std::vector<u8>{0xf0, 0x12});
  CHECK(std::ranges::count(bytes, 0x1c) % 2 == 0);
  b.typed.key(KeyCode::B, true);
  CHECK(b.read(10'000'000) == std::vector<u8>{0x32});
}

TEST_CASE("a stopped machine keeps a bounded number of keys") {
  Bench b;
  for (int i = 0; i < 1'000'000; ++i) b.typed.key(KeyCode::A, i % 2 == 0);
  CHECK(b.read(20 * kTicksPerSecond).size() < 3 * 4096);
}
