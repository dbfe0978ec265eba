// REP MOVS where source and destination overlap: its bytes go one by one, in ascending order.
#include <catch2/catch.hpp>

#include <numeric>

#include "x87_fixture.h"

using namespace vellum;

TEST_CASE("a repeated move copies byte by byte, wherever the destination lies") {
  constexpr u32 kSource = 0x20000, kSpan = 0x4000;
  const i32 distance = GENERATE(-5000, -3000, -1025, -1024, -1023, -512, -17, -8, -1, 0, 1, 2, 7, 64, 1000, 1024, 1500, 2999, 3000, 5000);
  const u32 bytes = GENERATE(1u, 1023u, 1024u, 1025u, 2048u, 3000u, 8200u);
  const unsigned width = GENERATE(1u, 4u);
  Guest guest;
  std::vector<u8> expected(2 * kSpan);
  std::iota(expected.begin(), expected.end(), u8{1});
  for (usize i = 0; i < expected.size(); i += 251) expected[i] = static_cast<u8>(i >> 8);  // no period of 256
  guest.memory.write(GuestPhysAddr(kSource - kSpan / 2), expected);
  const u32 count = bytes / width;
  for (u32 i = 0; i < count * width; i += width)
    std::copy_n(std::vector<u8>(expected.begin() + kSpan / 2 + i, expected.begin() + kSpan / 2 + i + width).begin(), width,
                expected.begin() + kSpan / 2 + distance + i);
  guest.cpu.s.gpr[kRsi] = kSource;
  guest.cpu.s.gpr[kRdi] = kSource + static_cast<u32>(distance);
  guest.cpu.s.gpr[kRcx] = count;
  guest.run({0xf3, static_cast<u8>(width == 1 ? 0xa4 : 0xa5)}, count + 1);
  CAPTURE(distance, bytes, width);
  CHECK(guest.cpu.s.gpr[kRcx] == 0);
  std::vector<u8> found(expected.size());
  guest.memory.read(GuestPhysAddr(kSource - kSpan / 2), found);
  CHECK(found == expected);
}
