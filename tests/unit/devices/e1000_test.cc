// The 82540EM against Intel's manual 317453, driven as it tells a driver to.
#include <catch2/catch.hpp>

#include <cstring>
#include <numeric>

#include "devices/e1000.h"
#include "devices/e1000_registers.h"
#include "bench.h"

using namespace vellum;
using namespace vellum::e1000;

namespace {

constexpr MacAddress kMac = {0x52, 0x54, 0x00, 0x12, 0x34, 0x56};
constexpr u64 kRegisters = 0xfeb00000;
constexpr u64 kTransmitAt = 0x10000, kReceiveAt = 0x20000, kBuffers = 0x100000;
constexpr u32 kDescriptors = 8;

struct Card {
  Bench bench;
  FakeNetwork& cable = bench.make<FakeNetwork>();
  E1000& card = bench.make<E1000>("e1000", bench.clock, kMac, &cable);

  Card() {
    bench.pci.attach(card, 3, 0);
    bench.pci.set_interrupt_router([this](u8, u8 pin, bool level) { bench.lines.set_input(pin, level); });
    bench.reset(ResetKind::PowerOn);
    card.write_config(pci::kBar0, 4, static_cast<u32>(kRegisters));
    card.write_config(pci::kCommand, 2, pci::kCommandMemory | pci::kCommandIo | pci::kCommandBusMaster);
    write(kControl, kSetLinkUp | kFullDuplex);
    read(kCause);
  }
  u32 read(u32 offset) { return static_cast<u32>(bench.memory.read_slow(GuestPhysAddr(kRegisters + offset), 4)); }
  void write(u32 offset, u32 value) { bench.memory.write_slow(GuestPhysAddr(kRegisters + offset), 4, value); }
  bool interrupt() const { return bench.lines.level[0]; }
  void put(u64 address, std::span<const u8> data) { bench.memory.write(GuestPhysAddr(address), data); }
  std::vector<u8> get(u64 address, usize size) {
    std::vector<u8> data(size);
    bench.memory.read(GuestPhysAddr(address), data);
    return data;
  }

  // ---- Transmission
  u32 tail = 0;
  void start_transmitter() {
    write(kTransmitRing + kRingBase, kTransmitAt);
    write(kTransmitRing + kRingLength, kDescriptors * 16);
    write(kTransmitControl, kTransmitEnable | kPadShort);
  }
  void descriptor(u64 first, u32 second_low, u32 second_high) {
    const u64 at = kTransmitAt + 16 * tail;
    bench.memory.write_value<u64>(GuestPhysAddr(at), first);
    bench.memory.write_value<u32>(GuestPhysAddr(at + 8), second_low);
    bench.memory.write_value<u32>(GuestPhysAddr(at + 12), second_high);
    tail = (tail + 1) % kDescriptors;
  }
  void send_tail() { write(kTransmitRing + kRingTail, tail); }
  u8 transmit_status(u32 index) { return get(kTransmitAt + 16 * index + 12, 1)[0]; }

  // ---- Reception
  void start_receiver(u32 control = kReceiveEnable | kBroadcastAccept, u32 given = kDescriptors - 1) {
    for (u32 i = 0; i < kDescriptors; ++i) {
      bench.memory.write_value<u64>(GuestPhysAddr(kReceiveAt + 16 * i), kBuffers + 0x1000 * i);
      bench.memory.write_value<u64>(GuestPhysAddr(kReceiveAt + 16 * i + 8), 0);
    }
    write(kReceiveRing + kRingBase, kReceiveAt);
    write(kReceiveRing + kRingLength, kDescriptors * 16);
    write(kReceiveControl, control);
    write(kReceiveRing + kRingTail, given);
  }
  struct Received {
    u16 length, sum;
    u8 status, errors;
    u16 special;
    std::vector<u8> data;
  };
  Received received(u32 index) {
    const auto d = get(kReceiveAt + 16 * index + 8, 8);
    Received r{.length = static_cast<u16>(d[0] | d[1] << 8), .sum = static_cast<u16>(d[2] | d[3] << 8), .status = d[4], .errors = d[5], .special = static_cast<u16>(d[6] | d[7] << 8)};
    r.data = get(kBuffers + 0x1000 * index, r.length);
    return r;
  }
};

std::vector<u8> frame(const MacAddress& to, usize size, u16 type = 0x88b5) {
  std::vector<u8> data(size);
  std::iota(data.begin(), data.end(), u8{0});
  std::copy(to.begin(), to.end(), data.begin());
  write_network16(data, 12, type);
  return data;
}

// Ethernet, IPv4 and TCP headers of 54 bytes, and payload; the checksums are left to the card.
std::vector<u8> tcp_frame(usize payload, u8 flags) {
  std::vector<u8> data = frame({0x52, 0x55, 10, 0, 2, 2}, 54 + payload, 0x0800);
  data[14] = 0x45;
  write_network16(data, 16, 0);
  write_network16(data, 18, 0x1111);
  write_network16(data, 20, 0x4000);
  data[22] = 64;
  data[23] = 6;
  write_network16(data, 24, 0);
  write_network32(data, 26, 0x0a00020f);
  write_network32(data, 30, 0x0a000202);
  write_network32(data, 38, 0x1000);  // sequence number
  data[46] = 0x50;
  data[47] = flags;
  write_network16(data, 50, internet_sum(std::span(data).subspan(26, 8), 6));  // pseudo header without the length
  return data;
}

bool checksums_right(std::span<const u8> frame) {
  const auto packet = frame.subspan(14, read_network16(frame, 16));
  const auto segment = packet.subspan(20);
  return internet_sum(packet.first(20)) == 0xffff && internet_sum(segment, u32{internet_sum(packet.subspan(12, 8))} + 6 + static_cast<u32>(segment.size())) == 0xffff;
}

}  // namespace

TEST_CASE_METHOD(Card, "EEPROM: EERD reads words, and all 64 add up to BABAh (5.6.35)", "[e1000]") {
  u16 sum = 0;
  for (u32 word = 0; word < 64; ++word) {
    write(kEepromRead, word << 8 | kEepromStart);
    const u32 value = read(kEepromRead);
    REQUIRE((value & kEepromDone));
    sum = static_cast<u16>(sum + (value >> 16));
  }
  CHECK(sum == 0xbaba);
  write(kEepromRead, kEepromStart);
  CHECK(read(kEepromRead) >> 16 == 0x5452);
}

TEST_CASE_METHOD(Card, "EEPROM: a driver that toggles the pins reads what it wrote (93C46 datasheet, 2.4 to 2.9)", "[e1000]") {
  const auto clock = [&](bool data) {
    const u32 pins = kEepromRequest | kEepromSelect | (data ? kEepromDataIn : 0);
    write(kEepromControl, pins);
    write(kEepromControl, pins | kEepromClock);
    const bool out = read(kEepromControl) & kEepromDataOut;
    write(kEepromControl, pins);
    return out;
  };
  const auto bits = [&](u32 value, unsigned count) {
    while (count-- > 0) clock(value >> count & 1);
  };
  const auto word = [&] {
    u16 value = 0;
    for (unsigned i = 0; i < 16; ++i) value = static_cast<u16>(value << 1 | clock(false));
    return value;
  };
  const auto deselect = [&] { write(kEepromControl, kEepromRequest); };
  write(kEepromControl, kEepromRequest);
  REQUIRE((read(kEepromControl) & kEepromGrant));
  bits(0b110'000001, 9);  // READ 1
  CHECK(word() == 0x1200);
  CHECK(word() == 0x5634);  // and on with word 2
  deselect();
  bits(0b101'010100, 9);  // WRITE 20, while writing is not enabled
  bits(0xbeef, 16);
  deselect();
  bits(0b110'010100, 9);
  CHECK(word() == 0);
  deselect();
  bits(0b100'110000, 9);  // EWEN
  deselect();
  bits(0b101'010100, 9);
  bits(0xbeef, 16);
  deselect();
  bits(0b110'010100, 9);
  CHECK(word() == 0xbeef);
}

TEST_CASE_METHOD(Card, "reset: the address comes from the EEPROM, and the PHY is Marvell's (13.4.7, 13.5.2)", "[e1000]") {
  write(kAddresses, 0);
  write(kControl, kReset);
  CHECK(read(kAddresses) == 0x12005452);
  CHECK(read(kAddresses + 4) == (kAddressValid | 0x5634));
  write(kManagement, kManagementRead | 1u << 21 | 2u << 16);
  CHECK((read(kManagement) & 0xffff) == 0x0141);
  write(kManagement, kManagementRead | 1u << 21 | 1u << 16);
  CHECK((read(kManagement) & (kManagementReady | 0x24)) == kManagementReady);  // no link until CTRL.SLU
  write(kControl, kSetLinkUp);
  write(kManagement, kManagementRead | 1u << 21 | 1u << 16);
  CHECK((read(kManagement) & 0x24) == 0x24);
  CHECK((read(kStatus) & 0xc3) == 0x83);
  write(kManagement, kManagementRead | 2u << 21);
  CHECK((read(kManagement) & kManagementError));
}

TEST_CASE_METHOD(Card, "a legacy descriptor sends a frame, is marked done and interrupts (3.3.3)", "[e1000]") {
  start_transmitter();
  write(kMaskSet, kTransmitWrittenBack);
  const auto data = frame(ethernet::kBroadcast, 42);
  put(kBuffers, std::span(data).first(20));
  put(kBuffers + 0x800, std::span(data).subspan(20));
  descriptor(kBuffers, 20, 0);
  descriptor(kBuffers + 0x800, 22 | (kEndOfPacket | kReportStatus) << 24, 0);
  send_tail();
  REQUIRE(cable.sent.size() == 1);
  CHECK(cable.sent[0].size() == 60);  // TCTL.PSP
  CHECK(std::equal(data.begin(), data.end(), cable.sent[0].begin()));
  CHECK((transmit_status(0) & kDone) == 0);  // no RS
  CHECK((transmit_status(1) & kDone));
  CHECK(read(kTransmitRing + kRingHead) == 2);
  CHECK(interrupt());
  CHECK(read(kCause) == (kTransmitWrittenBack | kTransmitQueueEmpty));
  CHECK(!interrupt());
  CHECK(read(kGoodSent) == 1);
  CHECK(read(kGoodSent) == 0);  // reading clears
  CHECK(read(kBroadcastsSent) == 1);
  CHECK(read(kSent64) == 1);
}

TEST_CASE_METHOD(Card, "segmentation: each segment has its own lengths, sequence number, flags and checksums (3.5)", "[e1000]") {
  start_transmitter();
  constexpr u8 kFinPushAck = 0x19;
  const auto data = tcp_frame(2500, kFinPushAck);
  put(kBuffers, data);
  constexpr u32 kTuCmd = (kContextTcp | kContextIpv4 | kSegment | kExtended) << 24;
  descriptor(14 | 24 << 8 | 33ull << 16 | 34ull << 32 | 50ull << 40, 2500 | kTuCmd, 54 << 8 | 1000u << 16);
  constexpr u32 kData = kTypeData << 20 | (kSegment | kExtended) << 24;
  constexpr u32 kOptions = (kIpChecksum | kTransportChecksum) << 8;
  descriptor(kBuffers, 100 | kData, kOptions);
  descriptor(kBuffers + 100, 2454 | kData | (kEndOfPacket | kReportStatus) << 24, kOptions);
  send_tail();
  REQUIRE(cable.sent.size() == 3);
  usize at = 0;
  for (usize i = 0; i < 3; ++i) {
    CAPTURE(i);
    const auto& sent = cable.sent[i];
    const usize payload = i < 2 ? 1000 : 500;
    REQUIRE(sent.size() == 54 + payload);
    CHECK(read_network16(sent, 16) == 40 + payload);
    CHECK(read_network16(sent, 18) == 0x1111 + i);
    CHECK(read_network32(sent, 38) == 0x1000 + at);
    CHECK(sent[47] == (i < 2 ? 0x10 : kFinPushAck));
    CHECK(std::equal(sent.begin() + 54, sent.end(), data.begin() + 54 + static_cast<long>(at)));
    CHECK(checksums_right(sent));
    at += payload;
  }
}

TEST_CASE_METHOD(Card, "a context without segmentation has the card compute checksums of one frame (3.3.6)", "[e1000]") {
  start_transmitter();
  auto data = tcp_frame(101, 0x18);
  write_network16(data, 16, 40 + 101);
  write_network16(data, 50, internet_sum(std::span(data).subspan(26, 8), 6 + 20 + 101));
  put(kBuffers, data);
  descriptor(14 | 24 << 8 | 33ull << 16 | 34ull << 32 | 50ull << 40, (kContextTcp | kContextIpv4 | kExtended) << 24, 0);
  descriptor(kBuffers, static_cast<u32>(data.size()) | kTypeData << 20 | (kEndOfPacket | kExtended) << 24, (kIpChecksum | kTransportChecksum) << 8);
  send_tail();
  REQUIRE(cable.sent.size() == 1);
  CHECK(checksums_right(cable.sent[0]));
}

TEST_CASE_METHOD(Card, "a VLAN tag is put in where the descriptor says, and taken out of what comes (9.2, 9.3)", "[e1000]") {
  write(kControl, kSetLinkUp | kVlanMode);
  start_transmitter();
  start_receiver();
  const auto data = frame(ethernet::kBroadcast, 64);
  put(kBuffers, data);
  descriptor(kBuffers, 64 | (kEndOfPacket | kInsertVlan) << 24, 0x2005u << 16);
  send_tail();
  REQUIRE(cable.sent.size() == 1);
  REQUIRE(cable.sent[0].size() == 68);
  CHECK(read_network32(cable.sent[0], 12) == 0x81002005);
  cable.receive(cable.sent[0]);
  const auto r = received(0);
  CHECK((r.status & kVlanPacket));
  CHECK(r.special == 0x2005);
  CHECK(std::equal(data.begin(), data.end(), r.data.begin()));
  // With the filter on, only IDs whose bit is set pass.
  write(kReceiveControl, kReceiveEnable | kBroadcastAccept | kVlanFilterEnable);
  cable.receive(cable.sent[0]);
  CHECK(received(1).status == 0);
  write(kVlanFilter, 1u << 5);
  cable.receive(cable.sent[0]);
  CHECK((received(1).status & kDone));
}

TEST_CASE_METHOD(Card, "a frame comes with its check sequence, unless it is stripped, and with checksums looked at (3.2.3, 3.2.9)", "[e1000]") {
  start_receiver();
  write(kMaskSet, kReceiveTimer);
  const auto data = frame(kMac, 60);
  cable.receive(data);
  auto r = received(0);
  REQUIRE(r.length == 64);
  CHECK(r.status == (kDone | kReceiveEnd | kIgnoreChecksum));
  CHECK(std::equal(data.begin(), data.end(), r.data.begin()));
  u32 check;
  std::memcpy(&check, r.data.data() + 60, 4);
  CHECK(check == ethernet_check(data));
  CHECK(interrupt());
  CHECK((read(kCause) & kReceiveTimer));

  write(kReceiveControl, kReceiveEnable | kStripCheck);
  write(kReceiveChecksum, kCheckIp | kCheckTransport);
  auto packet = tcp_frame(10, 0x18);
  std::copy(kMac.begin(), kMac.end(), packet.begin());
  write_network16(packet, 16, 50);
  write_network16(packet, 24, static_cast<u16>(~internet_sum(std::span(packet).subspan(14, 20))));
  cable.receive(packet);
  r = received(1);
  CHECK(r.length == 64);
  CHECK((r.status & (kIpChecked | kTransportChecked | kIgnoreChecksum)) == (kIpChecked | kTransportChecked));
  CHECK(r.errors == kTransportError);  // its checksum is that of the pseudo header alone
}

TEST_CASE_METHOD(Card, "filters: own address, broadcast, the hash of a group, promiscuous modes (10.3, 13.5.1)", "[e1000]") {
  const MacAddress stranger = {0x52, 0x54, 0, 0, 0, 1}, group = {0x01, 0x00, 0x5e, 0x00, 0x00, 0xfb};
  const auto passes = [&](const MacAddress& to, u32 control) {
    write(kReceiveControl, kReceiveEnable | control);
    const u32 before = read(kReceiveRing + kRingHead);
    cable.receive(frame(to, 60));
    const bool came = read(kReceiveRing + kRingHead) != before;
    if (came) write(kReceiveRing + kRingTail, before);  // gives what was taken back
    return came;
  };
  start_receiver();
  CHECK(passes(kMac, 0));
  CHECK(!passes(stranger, 0));
  CHECK(passes(stranger, kUnicastPromiscuous));
  CHECK(!passes(ethernet::kBroadcast, 0));
  CHECK(passes(ethernet::kBroadcast, kBroadcastAccept));
  CHECK(!passes(group, 0));
  CHECK(passes(group, kMulticastPromiscuous));
  // MO = 00b: bits 47 to 36 of the address, FB00h >> 4.
  write(kMulticast + 4 * (0xfb0 >> 5), 1u << (0xfb0 & 31));
  CHECK(passes(group, 0));
}

TEST_CASE_METHOD(Card, "a long frame fills several buffers; without room it is lost and counted (3.2.2, 13.7)", "[e1000]") {
  constexpr u32 kBuffers512 = 2u << 16;
  start_receiver(kReceiveEnable | kBroadcastAccept | kBuffers512, 4);
  const auto data = frame(ethernet::kBroadcast, 1500);
  CHECK(cable.can_receive(1500));
  cable.receive(data);
  CHECK(received(0).length == 512);
  CHECK((received(0).status & kReceiveEnd) == 0);
  CHECK(received(2).length == 1504 - 1024);
  CHECK((received(2).status & kReceiveEnd));
  CHECK(!cable.can_receive(1500));
  CHECK(cable.can_receive(60));
  read(kCause);
  cable.receive(data);
  CHECK((read(kCause) & kReceiveOverrun));
  CHECK(read(kMissed) == 1);
  const unsigned calls = cable.room_calls;
  write(kReceiveRing + kRingTail, 2);
  CHECK(cable.room_calls > calls);
}

TEST_CASE_METHOD(Card, "interrupts are throttled by ITR and delayed by RDTR, RADV and TIDV (13.4.18, 13.4.30)", "[e1000]") {
  start_receiver();
  write(kMaskSet, kReceiveTimer);
  write(kThrottle, 1000);  // 256 µs
  cable.receive(frame(kMac, 60));
  CHECK(interrupt());
  read(kCause);
  cable.receive(frame(kMac, 60));
  CHECK(!interrupt());
  bench.clock.advance(255'999);
  CHECK(!interrupt());
  bench.clock.advance(1);
  CHECK(interrupt());
  read(kCause);

  write(kThrottle, 0);
  write(kReceiveDelay, 100);
  write(kReceiveAbsolute, 150);
  cable.receive(frame(kMac, 60));
  bench.clock.advance(90 * 1024);
  cable.receive(frame(kMac, 60));
  bench.clock.advance(59 * 1024);
  CHECK(!interrupt());
  bench.clock.advance(1024);
  CHECK(interrupt());
  read(kCause);

  start_transmitter();
  write(kMaskSet, kTransmitWrittenBack);
  write(kTransmitDelay, 10);
  put(kBuffers, frame(kMac, 60));
  descriptor(kBuffers, 60 | (kEndOfPacket | kReportStatus | kDelayInterrupt) << 24, 0);
  send_tail();
  CHECK(!interrupt());
  bench.clock.advance(10 * 1024);
  CHECK(interrupt());
}

TEST_CASE_METHOD(Card, "frames leave at the pace of the wire", "[e1000]") {
  start_transmitter();
  write(kReceiveControl, kLongPackets);
  for (u32 i = 0; i < 7; ++i) descriptor(kBuffers, 16000 | (kEndOfPacket | kReportStatus) << 24, 0);
  send_tail();
  CHECK(cable.sent.size() == 5);  // a burst of 64 KiB
  bench.clock.advance(5 * 16000 * 8 - 1);
  CHECK(cable.sent.size() == 5);
  bench.clock.advance(5 * 100 * 8);
  CHECK(cable.sent.size() == 7);
}

TEST_CASE_METHOD(Card, "PHY loopback brings frames back", "[e1000]") {
  start_transmitter();
  start_receiver();
  write(kManagement, kManagementWrite | 1u << 21 | 0x4140);
  put(kBuffers + 0x8000, frame(ethernet::kBroadcast, 100));
  descriptor(kBuffers + 0x8000, 100 | kEndOfPacket << 24, 0);
  send_tail();
  CHECK(cable.sent.empty());
  CHECK(received(0).length == 104);
}

TEST_CASE_METHOD(Card, "descriptors that lead into the card itself, or nowhere, do no harm", "[e1000]") {
  // A transmit ring in the card's registers, whose descriptors are what registers read as.
  write(kTransmitControl, kTransmitEnable);
  write(kTransmitRing + kRingLength, 0xfff80);
  write(kTransmitRing + kRingBase, static_cast<u32>(kRegisters));
  write(kTransmitRing + kRingTail, 0xfff7);
  bench.clock.advance(1'000'000'000);
  // A head and a tail beyond the ring, a ring of nothing.
  write(kTransmitRing + kRingLength, 128);
  write(kTransmitRing + kRingHead, 0xffff);
  write(kTransmitRing + kRingTail, 5);
  write(kTransmitRing + kRingLength, 0);
  write(kTransmitRing + kRingTail, 0);
  // Received frames that would write the transmitter's tail, with loopback on.
  start_receiver(kReceiveEnable | kBroadcastAccept | kLoopback);
  for (u32 i = 0; i < kDescriptors; ++i) bench.memory.write_value<u64>(GuestPhysAddr(kReceiveAt + 16 * i), kRegisters + kTransmitRing + kRingTail - 8);
  write(kTransmitRing + kRingHead, 0);
  start_transmitter();
  put(kBuffers, frame(ethernet::kBroadcast, 64));
  for (u32 i = 0; i < 4; ++i) descriptor(kBuffers, 64 | kEndOfPacket << 24, 0);
  send_tail();
  CHECK(read(kTransmitRing + kRingHead) == 4);
  // Segments of a byte, of a header that the packet does not have, and offsets behind the frame.
  const auto context = [&](u32 header, u32 size) {
    descriptor(0xffff'ffff'ffff'ffff, (kSegment | kExtended) << 24, header << 8 | size << 16);
    descriptor(kBuffers, 0xfffff | kTypeData << 20 | (kSegment | kExtended | kEndOfPacket) << 24, 0x300);
    send_tail();
    bench.clock.advance(100'000'000);
  };
  context(255, 1);
  context(0, 1000);
  context(54, 0);
  context(255, 65535);
  CHECK(read(kTransmitRing + kRingHead) == tail);
  SUCCEED();
}
