// The NE2000 against National's DP8390D datasheet, and its board as drivers probe it.
#include <catch2/catch.hpp>

#include <numeric>

#include "devices/ne2000.h"
#include "bench.h"

using namespace vellum;

namespace {

constexpr MacAddress kMac = {0x52, 0x54, 0x00, 0x12, 0x34, 0x56};
constexpr u16 kBase = 0x300, kData = 0x10, kResetPort = 0x1f;
// Registers of page 0, and of page 1 from CURR on.
constexpr u16 kCommand = 0, kPageStart = 1, kPageStop = 2, kBoundary = 3, kTransmitPage = 4, kTransmitCount = 5, kInterrupts = 7, kRemoteAddress = 8,
              kRemoteCount = 10, kReceiveControl = 12, kTransmitControl = 13, kDataControl = 14, kMask = 15, kCurrent = 7;
constexpr u8 kStop = 0x21, kStart = 0x22, kPage1 = 0x40;

struct Card {
  Bench bench;
  FakeNetwork& cable = bench.make<FakeNetwork>();
  Ne2000Isa& card = bench.make<Ne2000Isa>("ne2000", bench.clock, bench.line(9), kMac, &cable);

  Card() {
    bench.ports.map("ne2000", kBase, 32, card);
    bench.reset(ResetKind::PowerOn);
  }
  u32 in(u16 index, unsigned size = 1) { return bench.ports.read(static_cast<u16>(kBase + index), size); }
  void out(u16 index, u32 value, unsigned size = 1) { bench.ports.write(static_cast<u16>(kBase + index), size, value); }
  bool interrupt() const { return bench.lines.level[9]; }

  // "Initialization sequence" of the datasheet: words, the ring from 46h to 80h, own address, broadcasts.
  void initialise(u8 receive_control = 0x04) {
    out(kCommand, kStop);
    out(kDataControl, 0x49);
    out(kRemoteCount, 0);
    out(kRemoteCount + 1, 0);
    out(kReceiveControl, receive_control);
    out(kTransmitControl, 0x02);
    out(kPageStart, 0x46);
    out(kBoundary, 0x46);
    out(kPageStop, 0x80);
    out(kInterrupts, 0xff);
    out(kMask, 0x5f);
    out(kCommand, kStop | kPage1);
    for (u16 i = 0; i < 6; ++i) out(1 + i, kMac[i]);
    out(kCurrent, 0x47);
    out(kCommand, kStart);
    out(kTransmitControl, 0);
  }
  void remote(u8 command, u16 address, u16 count) {
    out(kRemoteCount, count & 0xff);
    out(kRemoteCount + 1, count >> 8);
    out(kRemoteAddress, address & 0xff);
    out(kRemoteAddress + 1, address >> 8);
    out(kCommand, command);
  }
  std::vector<u8> read_memory(u16 address, u16 count) {
    remote(0x0a, address, count);
    std::vector<u8> data;
    for (u16 i = 0; i < count; i += 2) {
      const u32 word = in(kData, 2);
      data.push_back(static_cast<u8>(word));
      data.push_back(static_cast<u8>(word >> 8));
    }
    return data;
  }
  void write_memory(u16 address, const std::vector<u8>& data) {
    remote(0x12, address, static_cast<u16>(data.size()));
    for (usize i = 0; i < data.size(); i += 2) out(kData, data[i] | data[i + 1] << 8, 2);
  }
};

std::vector<u8> frame(const MacAddress& to, usize size) {
  std::vector<u8> data(size);
  std::iota(data.begin(), data.end(), u8{1});
  std::copy(to.begin(), to.end(), data.begin());
  return data;
}

}  // namespace

TEST_CASE_METHOD(Card, "reading the reset port resets, and ISR.RST says so", "[ne2000]") {
  initialise();
  CHECK((in(kInterrupts) & 0x80) == 0);
  in(kResetPort);
  CHECK(in(kInterrupts) == 0x80);
  CHECK(in(kCommand) == kStop);
}

TEST_CASE_METHOD(Card, "a command that neither starts nor stops leaves the controller as it is", "[ne2000]") {
  initialise();
  out(kCommand, 0x20);
  cable.receive(frame(kMac, 60));
  CHECK(in(kInterrupts) == 1);
  out(kCommand, kStop);
  out(kCommand, 0x20);
  cable.receive(frame(kMac, 60));
  CHECK(in(kInterrupts) == 0x81);
}

TEST_CASE_METHOD(Card, "the address PROM has every byte twice, and W behind it", "[ne2000]") {
  initialise();
  const auto prom = read_memory(0, 32);
  for (usize i = 0; i < 6; ++i) CHECK((prom[2 * i] == kMac[i] && prom[2 * i + 1] == kMac[i]));
  CHECK((prom[28] == 0x57 && prom[31] == 0x57));
}

TEST_CASE_METHOD(Card, "remote DMA writes and reads buffer memory, and tells when it is done", "[ne2000]") {
  initialise();
  const auto data = frame(kMac, 100);
  write_memory(0x4000, data);
  CHECK((in(kInterrupts) & 0x40));
  CHECK(interrupt());
  CHECK(in(kRemoteAddress) == 100);
  out(kInterrupts, 0x40);
  CHECK(!interrupt());
  CHECK(read_memory(0x4000, 100) == data);
  // Bytes, when DCR.WTS is off.
  out(kDataControl, 0x48);
  remote(0x0a, 0x4010, 2);
  CHECK(in(kData) == data[0x10]);
  CHECK((in(kInterrupts) & 0x40) == 0x40);
  CHECK(in(kData) == data[0x11]);
  CHECK(in(kData) == 0xff);  // the count is used up
}

TEST_CASE_METHOD(Card, "a frame leaves, and takes the time of 10 Mbit/s", "[ne2000]") {
  initialise();
  const auto data = frame(ethernet::kBroadcast, 64);
  write_memory(0x4000, data);
  out(kInterrupts, 0xff);
  out(kTransmitPage, 0x40);
  out(kTransmitCount, 64);
  out(kTransmitCount + 1, 0);
  out(kCommand, 0x26);
  REQUIRE(cable.sent == std::vector<std::vector<u8>>{data});
  CHECK((in(kCommand) & 4));
  bench.clock.advance((64 + 24) * 800 - 1);
  CHECK(in(kInterrupts) == 0);
  bench.clock.advance(1);
  CHECK(in(kInterrupts) == 2);
  CHECK((in(kCommand) & 4) == 0);
  CHECK(in(kTransmitPage) == 1);  // TSR: PTX
  CHECK(interrupt());
  // In loopback nothing leaves.
  out(kTransmitControl, 2);
  out(kCommand, 0x26);
  CHECK(cable.sent.size() == 1);
}

TEST_CASE_METHOD(Card, "a received frame stands in the ring behind its header", "[ne2000]") {
  initialise();
  const auto data = frame(kMac, 300);
  cable.receive(data);
  CHECK(in(kInterrupts) == 1);
  CHECK(interrupt());
  out(kCommand, kStart | kPage1);
  CHECK(in(kCurrent) == 0x49);
  out(kCommand, kStart);
  const auto stored = read_memory(0x4700, 304);
  CHECK(stored[0] == 0x01);
  CHECK(stored[1] == 0x49);
  CHECK((stored[2] | stored[3] << 8) == 304);
  CHECK(std::equal(data.begin(), data.end(), stored.begin() + 4));
}

TEST_CASE_METHOD(Card, "the ring wraps, and a full one loses frames and says so", "[ne2000]") {
  initialise();
  const auto data = frame(kMac, 1000);
  unsigned count = 0;
  for (; (in(kInterrupts) & 0x10) == 0; ++count) {
    cable.receive(data);
    CHECK(!cable.can_receive(60));  // the wire is busy
    const unsigned calls = cable.room_calls;
    bench.clock.advance((1000 + 24) * 800);
    CHECK(cable.can_receive(60));
    CHECK(cable.room_calls == calls + 1);
  }
  CHECK(count == 14 + 1);  // 58 pages but the one at the boundary, four for each
  CHECK(in(15) == 1);      // missed
  out(kInterrupts, 0xff);
  out(kBoundary, 0x7e);
  cable.receive(data);
  CHECK(in(kInterrupts) == 1);
  out(kCommand, kStart | kPage1);
  const u8 current = static_cast<u8>(in(kCurrent));
  CHECK(current == 0x47 + 14 * 4 + 4 - 58);
}

TEST_CASE_METHOD(Card, "a boundary in front of the ring is its last page", "[ne2000]") {
  initialise();
  out(kBoundary, 0x45);
  out(kCommand, kStop | kPage1);
  out(kCurrent, 0x7d);
  out(kCommand, kStart);
  cable.receive(frame(kMac, 60));
  CHECK(in(kInterrupts) == 0x01);
  cable.receive(frame(kMac, 60));
  CHECK((in(kInterrupts) & 0x10));
}

TEST_CASE_METHOD(Card, "filters: own address, broadcasts, groups by their hash, all", "[ne2000]") {
  const MacAddress stranger = {2, 0, 0, 0, 0, 1}, group = {1, 0, 0x5e, 0, 0, 0xfb};
  const auto passes = [&](const MacAddress& to, u8 control) {
    initialise(control);
    out(kInterrupts, 0xff);
    cable.receive(frame(to, 60));
    return (in(kInterrupts) & 1) != 0;
  };
  CHECK(passes(kMac, 0));
  CHECK(!passes(stranger, 0));
  CHECK(passes(stranger, 0x10));
  CHECK(!passes(ethernet::kBroadcast, 0));
  CHECK(passes(ethernet::kBroadcast, 0x04));
  CHECK(!passes(group, 0x08));
  initialise();
  out(kCommand, kStop | kPage1);
  const u32 hash = multicast_hash(group) >> 26;
  out(static_cast<u16>(8 + hash / 8), 1u << hash % 8);
  CHECK(passes(group, 0x08));
  CHECK(!passes(group, 0x00));
  // Monitor mode counts and keeps nothing.
  CHECK(!passes(kMac, 0x20));
  CHECK(in(15) == 1);
}

TEST_CASE_METHOD(Card, "rings that are none do no harm", "[ne2000]") {
  initialise(0x1f);
  for (const auto& [start, stop, boundary, current] : {std::array{0x80, 0x46, 0, 0}, {0, 0xff, 0xfe, 0xff}, {0xff, 0xff, 0xff, 0xff}, {0x20, 0x21, 0x20, 0x20}}) {
    out(kPageStart, static_cast<u32>(start));
    out(kPageStop, static_cast<u32>(stop));
    out(kBoundary, static_cast<u32>(boundary));
    out(kCommand, kStart | kPage1);
    out(kCurrent, static_cast<u32>(current));
    out(kCommand, kStart);
    cable.receive(frame(ethernet::kBroadcast, 1514));
    out(kTransmitPage, 0xff);
    out(kTransmitCount + 1, 0xff);
    out(kCommand, 0x26);
    bench.clock.advance(100'000'000);
    out(kCommand, 0x1a);
    while (in(kRemoteAddress + 1) != 0 && (in(kCommand) & 0x38) != 0x20) in(kData, 2);
  }
  SUCCEED();
}
