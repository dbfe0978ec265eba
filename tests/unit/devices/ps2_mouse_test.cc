// The mouse against the IBM PS/2 Hardware Interface Technical Reference, "Mouse", and the IntelliMouse protocol.
#include <catch2/catch.hpp>

#include "devices/ps2_mouse.h"
#include "fakes.h"

using namespace vellum;

namespace {

using Bytes = std::vector<unsigned>;

struct Mouse {
  ManualClock clock;
  Ps2Mouse mouse{clock};

  Bytes taken() {
    Bytes result;
    while (mouse.has_data()) result.push_back(mouse.take());
    return result;
  }
  Bytes sent(std::initializer_list<u8> bytes) {
    Bytes result;
    for (const u8 byte : bytes) {
      mouse.receive(byte);
      for (const unsigned answer : taken()) result.push_back(answer);
    }
    return result;
  }
  void knock(std::initializer_list<u8> rates) {
    for (const u8 rate : rates) sent({0xf3, rate});
  }
  Bytes moved(int dx, int dy, int wheel, u8 buttons) {
    mouse.move(dx, dy, wheel, buttons);
    const auto bytes = taken();
    clock.advance(kTicksPerSecond);
    return bytes;
  }
};

}  // namespace

TEST_CASE("mouse: reset acknowledges, then reports its self-test and identity") {
  Mouse m;
  CHECK(m.sent({0xff}) == Bytes{0xfa});
  m.clock.advance(kTicksPerSecond);
  CHECK(m.taken() == Bytes{0xaa, 0x00});
}

TEST_CASE("mouse: nothing is reported before F4h, nor after F5h") {
  Mouse m;
  CHECK(m.moved(100, 1, 0, 0).empty());
  CHECK(m.sent({0xf4}) == Bytes{0xfa});
  CHECK(m.moved(1, -1, 0, 0) == Bytes{0x08, 1, 1});
  CHECK(m.sent({0xf5}) == Bytes{0xfa});
  CHECK(m.moved(1, 1, 0, 0).empty());
}

TEST_CASE("mouse: a packet holds buttons, signs and movement, y upwards") {
  Mouse m;
  m.sent({0xf6, 0xf4});
  CHECK(m.moved(5, 3, 0, Ps2Mouse::kLeft) == Bytes{0x29, 0x05, 0xfd});
  CHECK(m.moved(-2, -7, 0, Ps2Mouse::kRight | Ps2Mouse::kMiddle) == Bytes{0x1e, 0xfe, 0x07});
  CHECK(m.moved(0, 0, 0, 0) == Bytes{0x08, 0x00, 0x00});
  CHECK(m.moved(0, 0, 0, 0).empty());
}

TEST_CASE("mouse: movement beyond nine bits is reported in parts, one for each sample") {
  Mouse m;
  m.sent({0xf4});
  m.mouse.move(300, 0, 0, 0);
  CHECK(m.taken() == Bytes{0x08, 0xff, 0x00});
  m.clock.advance(9'999'999);
  CHECK(m.taken().empty());
  m.clock.advance(1);  // 100 samples a second
  CHECK(m.taken() == Bytes{0x08, 45, 0x00});
}

TEST_CASE("mouse: movement adds up while the host does not fetch packets") {
  Mouse m;
  m.sent({0xf4});
  m.mouse.move(1, 0, 0, 0);
  for (int i = 0; i < 10; ++i) {
    m.mouse.move(1, 0, 0, 0);
    m.clock.advance(20'000'000);
  }
  CHECK(m.taken() == Bytes{0x08, 1, 0});
  m.clock.advance(20'000'000);
  CHECK(m.taken() == Bytes{0x08, 10, 0});
}

TEST_CASE("mouse: a press and its release within one sample are both reported") {
  Mouse m;
  m.sent({0xf4});
  m.mouse.move(1, 0, 0, 0);  // the next sample is 10 ms away
  CHECK(m.taken() == Bytes{0x08, 1, 0});
  m.mouse.move(0, 0, 0, Ps2Mouse::kLeft);
  m.mouse.move(0, 0, 0, 0);
  m.mouse.move(0, 0, 0, Ps2Mouse::kLeft);
  m.mouse.move(0, 0, 0, 0);
  CHECK(m.taken().empty());
  Bytes reported;
  for (int sample = 0; sample < 5; ++sample) {
    m.clock.advance(10'000'000);
    const Bytes bytes = m.taken();
    reported.insert(reported.end(), bytes.begin(), bytes.end());
  }
  CHECK(reported == Bytes{0x09, 0, 0, 0x08, 0, 0, 0x09, 0, 0, 0x08, 0, 0});
}

TEST_CASE("mouse: a click is reported at its place, between the movement before and behind it") {
  Mouse m;
  m.sent({0xf4});
  m.mouse.move(1, 0, 0, 0);
  m.taken();
  m.mouse.move(300, 0, 0, 0);
  m.mouse.move(0, 0, 0, Ps2Mouse::kRight);
  m.mouse.move(40, 0, 0, Ps2Mouse::kRight);
  m.mouse.move(2, 0, 0, Ps2Mouse::kRight);
  m.mouse.move(0, 0, 0, 0);
  Bytes reported;
  for (int sample = 0; sample < 6; ++sample) {
    m.clock.advance(10'000'000);
    const Bytes bytes = m.taken();
    reported.insert(reported.end(), bytes.begin(), bytes.end());
  }
  CHECK(reported == Bytes{0x08, 255, 0, 0x08, 45, 0, 0x0a, 0, 0, 0x0a, 42, 0, 0x08, 0, 0});
}

TEST_CASE("mouse: a guest that fetches nothing sees the first fifteen steps and where the last ended") {
  Mouse m;
  m.sent({0xf0, 0xf4});
  for (int click = 0; click < 100; ++click) {
    m.mouse.move(1, 0, 0, Ps2Mouse::kLeft);
    m.mouse.move(0, 0, 0, 0);
  }
  i32 x = 0;
  for (int packet = 0; packet < 16; ++packet) x += static_cast<i32>(m.sent({0xeb})[2]);
  CHECK(x == 100);
  CHECK(m.sent({0xeb}) == Bytes{0xfa, 0x08, 0, 0});
}

TEST_CASE("mouse: 200, 100, 80 samples unlock the wheel, 200, 200, 80 two more buttons") {
  Mouse m;
  CHECK(m.sent({0xf2}) == Bytes{0xfa, 0x00});
  m.knock({200, 100, 80});
  CHECK(m.sent({0xf2}) == Bytes{0xfa, 0x03});
  m.sent({0xf4});
  CHECK(m.moved(0, 0, 1, 0) == Bytes{0x08, 0, 0, 0xff});
  CHECK(m.moved(0, 0, -2, 0) == Bytes{0x08, 0, 0, 0x02});
  m.knock({200, 200, 80});
  CHECK(m.sent({0xf2}) == Bytes{0xfa, 0x04});
  CHECK(m.moved(0, 0, 1, Ps2Mouse::kFourth) == Bytes{0x08, 0, 0, 0x1f});
  CHECK(m.moved(0, 0, 0, Ps2Mouse::kFifth) == Bytes{0x08, 0, 0, 0x20});
  m.sent({0xff});
  CHECK(m.sent({0xf2}) == Bytes{0xfa, 0x00});
}

TEST_CASE("mouse: the status request tells mode, buttons, resolution and rate") {
  Mouse m;
  CHECK(m.sent({0xe9}) == Bytes{0xfa, 0x00, 2, 100});
  m.sent({0xe8, 3, 0xf3, 40, 0xe7, 0xf4, 0xf0});
  m.mouse.move(0, 0, 0, Ps2Mouse::kLeft);
  CHECK(m.sent({0xe9}) == Bytes{0xfa, 0x74, 3, 40});
  m.sent({0xf6});
  CHECK(m.sent({0xe9}) == Bytes{0xfa, 0x04, 2, 100});
}

TEST_CASE("mouse: in remote mode a packet comes only for EBh") {
  Mouse m;
  m.sent({0xf0, 0xf4});
  CHECK(m.moved(4, 0, 0, 0).empty());
  CHECK(m.sent({0xeb}) == Bytes{0xfa, 0x08, 4, 0});
  m.sent({0xea});
  CHECK(m.moved(4, 0, 0, 0) == Bytes{0x08, 4, 0});
}

TEST_CASE("mouse: wrap mode echoes all but reset and its own end") {
  Mouse m;
  CHECK(m.sent({0xee}) == Bytes{0xfa});
  CHECK(m.sent({0xf2, 0x55}) == Bytes{0xf2, 0x55});
  CHECK(m.sent({0xec}) == Bytes{0xfa});
  CHECK(m.sent({0xf2}) == Bytes{0xfa, 0x00});
}

TEST_CASE("mouse: 2:1 scaling works in stream mode, not in remote mode") {
  Mouse m;
  m.sent({0xe7, 0xf4});
  CHECK(m.moved(2, 0, 0, 0) == Bytes{0x08, 1, 0});
  CHECK(m.moved(-5, 0, 0, 0) == Bytes{0x18, 0xf7, 0});
  CHECK(m.moved(10, 0, 0, 0) == Bytes{0x08, 20, 0});
  m.sent({0xf0});
  m.mouse.move(5, 0, 0, 0);
  CHECK(m.sent({0xeb}) == Bytes{0xfa, 0x08, 5, 0});
}

TEST_CASE("mouse: FEh repeats the last packet, an unknown command is answered with FEh") {
  Mouse m;
  m.sent({0xf4});
  m.moved(7, 0, 0, 0);
  CHECK(m.sent({0xfe}) == Bytes{0x08, 7, 0});
  CHECK(m.sent({0x12}) == Bytes{0xfe});
}

TEST_CASE("mouse: extreme movement of the host saturates") {
  Mouse m;
  m.sent({0xf4});
  m.mouse.move(INT32_MAX, INT32_MIN, INT32_MAX, 0xff);
  m.mouse.move(INT32_MAX, INT32_MIN, INT32_MIN, 0xff);
  CHECK(m.taken() == Bytes{0x0f, 0xff, 0xff});
}
