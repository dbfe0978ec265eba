// Virtio over PCI and its network device, driven as OASIS VIRTIO 1.2 tells a driver to.
#include <catch2/catch.hpp>

#include <numeric>

#include "devices/virtio_net.h"
#include "bench.h"

using namespace vellum;

namespace {

constexpr MacAddress kMac = {0x52, 0x54, 0x00, 0x12, 0x34, 0x56};
constexpr u64 kRegisters = 0xfeb00000, kNotify = 0x3000, kInterrupts = 0x1000, kDevice = 0x2000;
// The common configuration, 4.1.4.3.
constexpr u64 kFeatureSelect = 0x00, kFeature = 0x04, kDriverSelect = 0x08, kDriverFeature = 0x0c, kQueueCount = 0x12, kStatus = 0x14, kQueueSelect = 0x16, kQueueSize = 0x18,
              kQueueEnable = 0x1c, kQueueDescriptors = 0x20, kQueueDriver = 0x28, kQueueDevice = 0x30;
constexpr u16 kNext = 1, kWrite = 2, kIndirect = 4;
constexpr u8 kReady = 1 | 2 | 8 | 4;

struct Card {
  Bench bench;
  FakeNetwork& cable = bench.make<FakeNetwork>();
  VirtioNet& card = bench.make<VirtioNet>("virtio_net", kMac, &cable);

  Card() {
    bench.pci.attach(card, 3, 0);
    bench.pci.set_interrupt_router([this](u8, u8 pin, bool level) { bench.lines.set_input(pin, level); });
    bench.reset(ResetKind::PowerOn);
    card.write_config(pci::kBar0, 4, static_cast<u32>(kRegisters));
    card.write_config(pci::kCommand, 2, pci::kCommandMemory | pci::kCommandBusMaster);
  }
  u64 read(u64 offset, unsigned size) { return bench.memory.read_slow(GuestPhysAddr(kRegisters + offset), size); }
  void write(u64 offset, unsigned size, u64 value) { bench.memory.write_slow(GuestPhysAddr(kRegisters + offset), size, value); }
  bool interrupt() const { return bench.lines.level[0]; }
  template <class T>
  void put(u64 address, T value) {
    bench.memory.write_value<T>(GuestPhysAddr(address), value);
  }
  template <class T>
  T get(u64 address) {
    return bench.memory.read_value<T>(GuestPhysAddr(address));
  }

  // Queue n of eight: descriptors at n000h, the driver's ring at n400h, the device's at n800h, from 10000h on.
  static u64 table(unsigned queue) { return 0x10000 + 0x1000 * queue; }
  std::array<u16, 2> given{};
  // 3.1.1: the sequence in which a driver makes the device ready.
  void start(u64 features = u64{1} << 32) {
    write(kStatus, 1, 0);
    write(kStatus, 1, 1);
    write(kStatus, 1, 3);
    for (u32 half = 0; half < 2; ++half) {
      write(kDriverSelect, 4, half);
      write(kDriverFeature, 4, features >> (32 * half) & 0xffffffff);
    }
    write(kStatus, 1, 11);
    for (unsigned queue = 0; queue < 2; ++queue) {
      write(kQueueSelect, 2, queue);
      write(kQueueSize, 2, 8);
      write(kQueueDescriptors, 4, table(queue));
      write(kQueueDriver, 4, table(queue) + 0x400);
      write(kQueueDevice, 4, table(queue) + 0x800);
      write(kQueueEnable, 2, 1);
      put<u32>(table(queue) + 0x400, 0);
      put<u32>(table(queue) + 0x800, 0);
    }
    given = {};
    write(kStatus, 1, kReady);
  }
  void descriptor(u64 place, u64 address, u32 length, u16 flags, u16 next = 0) {
    put<u64>(place, address);
    put<u32>(place + 8, length);
    put<u16>(place + 12, flags);
    put<u16>(place + 14, next);
  }
  void give(unsigned queue, u16 head) {
    put<u16>(table(queue) + 0x404 + 2 * (given[queue] % 8), head);
    put<u16>(table(queue) + 0x402, ++given[queue]);
    write(kNotify + 4 * queue, 2, queue);
  }
  u16 used(unsigned queue) { return get<u16>(table(queue) + 0x802); }
  u32 used_length(unsigned queue, unsigned entry) { return get<u32>(table(queue) + 0x808 + 8 * entry); }
  bool needs_reset() { return read(kStatus, 1) & 0x40; }
};

std::vector<u8> frame(usize size) {
  std::vector<u8> data(size);
  std::iota(data.begin(), data.end(), u8{2});
  return data;
}

}  // namespace

TEST_CASE_METHOD(Card, "the capabilities lead to the structures (4.1.4)", "[virtio]") {
  CHECK(card.read_config(pci::kVendorId, 4) == 0x10411af4);
  REQUIRE((card.read_config(pci::kStatus, 2) & 0x10));
  u32 seen = 0;
  for (u32 at = card.read_config(pci::kCapabilities, 1); at; at = card.read_config(at + 1, 1)) {
    CHECK(card.read_config(at, 1) == 9);
    const u32 type = card.read_config(at + 3, 1);
    seen |= 1u << type;
    CHECK(card.read_config(at + 4, 1) == 0);
    if (type == 5) continue;
    if (type == 2) CHECK(card.read_config(at + 8, 4) == kNotify);
    if (type == 3) CHECK(card.read_config(at + 8, 4) == kInterrupts);
  }
  CHECK(seen == 0b111110);
  CHECK(read(kQueueCount, 2) == 2);
  CHECK(read(kDevice, 4) == 0x12005452);
  CHECK(read(kDevice + 6, 2) == 1);  // link up
}

TEST_CASE_METHOD(Card, "registers are reached by configuration space too (4.1.4.9)", "[virtio]") {
  u32 at = card.read_config(pci::kCapabilities, 1);
  while (card.read_config(at + 3, 1) != 5) at = card.read_config(at + 1, 1);
  const auto select = [&](u32 reg) { bench.ports.write(0xcf8, 4, 0x80001800 | reg); };
  const auto look = [&](u64 offset, u32 length) {
    for (const auto& [field, value] : {std::pair{8u, static_cast<u32>(offset)}, {12u, length}}) {
      select(at + field);
      bench.ports.write(0xcfc, 4, value);
    }
    select(at + 16);
  };
  start();
  look(kDevice, 4);
  CHECK(bench.ports.read(0xcfc, 4) == 0x12005452);
  look(kStatus, 1);
  CHECK((bench.ports.read(0xcfc, 4) & 0xff) == kReady);
  bench.ports.write(0xcfc, 4, 0);
  CHECK(read(kStatus, 1) == 0);
  look(0xfffffffc, 4);
  bench.ports.read(0xcfc, 4);
  bench.ports.write(0xcfc, 4, ~0u);
}

TEST_CASE_METHOD(Card, "features that were not offered are not accepted (2.2.2)", "[virtio]") {
  write(kFeatureSelect, 4, 1);
  CHECK((read(kFeature, 4) & 1));  // VIRTIO_F_VERSION_1
  start(u64{1} << 32 | u64{1} << 32 << 7);
  CHECK((read(kStatus, 1) & 8) == 0);
  start(u64{1} << 5);  // not a driver of version 1
  CHECK((read(kStatus, 1) & 8) == 0);
  start();
  CHECK(read(kStatus, 1) == kReady);
}

TEST_CASE_METHOD(Card, "a frame leaves from a chain of descriptors, with its checksum if it wants one (5.1.6.2)", "[virtio]") {
  start(u64{1} << 32 | 1);
  const auto data = frame(80);
  for (u32 i = 0; i < 12; ++i) put<u8>(0x40000 + i, 0);
  put<u8>(0x40000, 1);
  put<u16>(0x40006, 34);
  put<u16>(0x40008, 16);
  bench.memory.write(GuestPhysAddr(0x41000), data);
  descriptor(table(1), 0x40000, 12, kNext, 5);
  descriptor(table(1) + 16 * 5, 0x41000, 80, 0);
  give(1, 0);
  REQUIRE(cable.sent.size() == 1);
  auto expected = data;
  write_network16(expected, 50, static_cast<u16>(~internet_sum(std::span(data).subspan(34))));
  CHECK(cable.sent[0] == expected);
  CHECK(used(1) == 1);
  CHECK(interrupt());
  CHECK(read(kInterrupts, 1) == 1);
  CHECK(!interrupt());
  put<u16>(table(1) + 0x400, 1);  // VIRTQ_AVAIL_F_NO_INTERRUPT
  give(1, 0);
  CHECK(used(1) == 2);
  CHECK(!interrupt());
}

TEST_CASE_METHOD(Card, "a frame comes into a buffer behind a header, and waits where there is none", "[virtio]") {
  start();
  CHECK(!cable.can_receive(60));
  const unsigned calls = cable.room_calls;
  descriptor(table(0), 0x50000, 12, kWrite | kNext, 1);
  descriptor(table(0) + 16, 0x51000, 1518, kWrite);
  give(0, 0);
  CHECK(cable.room_calls == calls + 1);
  REQUIRE(cable.can_receive(60));
  const auto data = frame(1000);
  cable.receive(data);
  CHECK(used(0) == 1);
  CHECK(used_length(0, 0) == 1012);
  CHECK(get<u16>(0x5000a) == 1);  // num_buffers
  std::vector<u8> stored(1000);
  bench.memory.read(GuestPhysAddr(0x51000), stored);
  CHECK(stored == data);
  CHECK(interrupt());
  // A buffer that is too small.
  descriptor(table(0) + 32, 0x50000, 100, kWrite);
  give(0, 2);
  cable.receive(data);
  CHECK(used_length(0, 1) == 0);
}

TEST_CASE_METHOD(Card, "an indirect table stands for a chain (2.7.5.3)", "[virtio]") {
  start(u64{1} << 32 | u64{1} << 28);
  descriptor(0x60000, 0x40000, 12, kNext, 1);
  descriptor(0x60010, 0x41000, 60, 0);
  descriptor(table(1), 0x60000, 32, kIndirect);
  give(1, 0);
  CHECK(cable.sent.size() == 1);
  // A table in a table is none.
  descriptor(0x60000, 0x60000, 32, kIndirect);
  give(1, 0);
  CHECK(needs_reset());
  CHECK(cable.sent.size() == 1);
}

TEST_CASE_METHOD(Card, "chains that make no sense end in a device that needs a reset", "[virtio]") {
  const auto trouble = [&](auto make) {
    start();
    make();
    const bool noticed = needs_reset();
    give(1, 0);
    start();
    return noticed && !needs_reset();
  };
  CHECK(trouble([&] {  // a ring
    descriptor(table(1), 0x40000, 12, kNext, 1);
    descriptor(table(1) + 16, 0x40000, 12, kNext, 0);
    give(1, 0);
  }));
  CHECK(trouble([&] { give(1, 8); }));  // a head behind the table
  CHECK(trouble([&] {  // something to be read behind what is to be written
    descriptor(table(1), 0x40000, 12, kWrite | kNext, 1);
    descriptor(table(1) + 16, 0x40000, 12, 0);
    give(1, 0);
  }));
  CHECK(trouble([&] {  // more buffers than the queue has
    given[1] = 100;
    give(1, 0);
  }));
  CHECK(cable.sent.empty());
  // Buffers in the device's own registers, and of 4 GiB.
  start();
  descriptor(table(1), kRegisters, 0xffffffff, 0);
  give(1, 0);
  CHECK(used(1) == 1);
  descriptor(table(0), kRegisters + kNotify, 0xffffffff, kWrite);
  give(0, 0);
  cable.receive(frame(1500));
  CHECK(used(0) == 1);
}
