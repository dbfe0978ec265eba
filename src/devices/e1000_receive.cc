// The 82540EM's way in: filters, checksums, descriptors.
#include <algorithm>

#include "devices/e1000.h"
#include "devices/e1000_registers.h"

namespace vellum {

using namespace e1000;

namespace {

// 13.4.22: without LPE, frames of more bytes with their check sequence are dropped; and so are these with it.
constexpr usize kLongest = 1522, kLongestJumbo = 16384;
constexpr usize kVlanTag = 4;

struct Checked {
  u8 status = kIgnoreChecksum, errors = 0;
};

// 3.2.9: what the receiver finds out about IPv4 and what is in it. `which`: bits of RXCSUM.
Checked check_packet(std::span<const u8> frame, u32 which) {
  constexpr u16 kIpv4 = 0x0800;
  constexpr u8 kTcp = 6, kUdp = 17;
  Checked result;
  if (frame.size() < ethernet::kHeaderSize + 20 || read_network16(frame, 12) != kIpv4 || !(which & (kCheckIp | kCheckTransport))) return result;
  const auto packet = frame.subspan(ethernet::kHeaderSize);
  const usize header = 4u * (packet[0] & 0xf), length = read_network16(packet, 2);
  if (packet[0] >> 4 != 4 || header < 20 || length < header || length > packet.size()) return result;
  result.status = 0;
  if (which & kCheckIp) {
    result.status |= kIpChecked;
    if (internet_sum(packet.first(header)) != 0xffff) result.errors |= kIpError;
  }
  constexpr u16 kFragment = 0x3fff;  // more fragments, or an offset
  const u8 protocol = packet[9];
  if (!(which & kCheckTransport) || (read_network16(packet, 6) & kFragment) || (protocol != kTcp && protocol != kUdp)) return result;
  const auto segment = packet.subspan(header, length - header);
  constexpr usize kUdpHeader = 8;
  if (protocol == kUdp && (segment.size() < kUdpHeader || read_network16(segment, 6) == 0)) return result;  // RFC 768: zero stands for none
  const u32 pseudo = u32{internet_sum(packet.subspan(12, 8))} + protocol + static_cast<u32>(segment.size());
  result.status |= kTransportChecked;
  if (internet_sum(segment, pseudo) != 0xffff) result.errors |= kTransportError;
  return result;
}

}  // namespace

usize E1000::receive_buffer_size() const {
  // 13.4.22, BSIZE: 2048, 1024, 512, 256; with BSEX sixteen times as much, but not of 2048.
  const u32 choice = m_state.receive_control >> 16 & 3;
  const usize size = usize{2048} >> choice;
  return (m_state.receive_control & kBufferTimes16) && choice != 0 ? 16 * size : size;
}

bool E1000::can_receive(usize size) const {
  // A receiver that is off loses what comes.
  if (!(m_state.receive_control & kReceiveEnable) || !bus_master_enabled()) return true;
  const Ring& ring = m_state.receive_ring;
  const usize needed = (std::max(size, ethernet::kShortestFrame) + ethernet::kCheckSize + receive_buffer_size() - 1) / receive_buffer_size();
  // So does one whose ring is too short for the frame ever to fit.
  if (!ring.valid() || needed >= ring.count()) return true;
  return ring.filled() >= needed;
}

// 13.5.1: 12 bits of the address choose one of 4096.
bool E1000::accepts(std::span<const u8> frame, bool& inexact) const {
  const u32 low = frame[0] | frame[1] << 8 | frame[2] << 16 | u32{frame[3]} << 24, high = frame[4] | frame[5] << 8;
  for (usize i = 0; i < m_state.addresses.size(); i += 2)
    if ((m_state.addresses[i + 1] & kAddressValid) && m_state.addresses[i] == low && (m_state.addresses[i + 1] & 0xffff) == high) return true;
  if (!ethernet::is_multicast(frame)) return m_state.receive_control & kUnicastPromiscuous;
  if ((m_state.receive_control & kBroadcastAccept) && std::ranges::equal(frame.first(6), ethernet::kBroadcast)) return true;
  if (m_state.receive_control & kMulticastPromiscuous) return true;
  constexpr unsigned kShifts[] = {4, 3, 2, 0};
  const u32 hash = high >> kShifts[m_state.receive_control >> 12 & 3] & 0xfff;
  inexact = m_state.multicast[hash >> 5] >> (hash & 31) & 1;
  return inexact;
}

bool E1000::vlan_passes(u16 tag) const {
  const u32 id = tag & 0xfff;
  return !(m_state.receive_control & kVlanFilterEnable) || (m_state.vlan[id >> 5] >> (id & 31) & 1);
}

void E1000::receive(std::span<const u8> received) {
  if (!(m_state.receive_control & kReceiveEnable) || !bus_master_enabled() || received.size() < ethernet::kHeaderSize) return;
  std::vector<u8> frame(received.begin(), received.end());
  if (frame.size() < ethernet::kShortestFrame) frame.resize(ethernet::kShortestFrame);
  const usize size = frame.size() + ethernet::kCheckSize;
  count(kAllReceived);
  count_long(kOctetsReceived, size);
  bool inexact = false;
  if (!accepts(frame, inexact)) return;
  const bool tagged = read_network16(frame, 12) == (plain(kVlanType) & 0xffff);
  const u16 tag = tagged ? read_network16(frame, 14) : u16{0};
  if (tagged && !vlan_passes(tag)) return;
  if (size > (m_state.receive_control & kLongPackets ? kLongestJumbo : kLongest)) return count(kOversize);

  // 9.3: with VME the tag goes into the descriptor.
  const bool strip = tagged && (m_state.control & kVlanMode);
  if (strip) frame.erase(frame.begin() + 12, frame.begin() + 12 + kVlanTag);
  const u32 offload = plain(kReceiveChecksum);
  const Checked checked = check_packet(frame, offload);
  const usize start = std::min<usize>(offload & 0xff, frame.size());
  const u16 sum = internet_sum(std::span(frame).subspan(start));
  if (!(m_state.receive_control & kStripCheck)) {
    const u32 check = ethernet_check(received);
    for (unsigned i = 0; i < ethernet::kCheckSize; ++i) frame.push_back(static_cast<u8>(check >> (8 * i)));
  }
  const u8 status = static_cast<u8>(checked.status | (inexact ? kInexact : 0) | (strip ? kVlanPacket : 0));
  const Ring& ring = m_state.receive_ring;
  if (!ring.valid() || ring.filled() * receive_buffer_size() < frame.size()) {
    count(kNoBuffer);
    count(kMissed);
    return raise(kReceiveOverrun);
  }
  count(kGoodReceived);
  count_long(kGoodOctetsReceived, size);
  count_frame(kReceived64, size);
  if (std::ranges::equal(received.first(6), ethernet::kBroadcast)) count(kBroadcastsReceived);
  else if (ethernet::is_multicast(received)) count(kMulticastsReceived);
  write_frame(frame, sum, status, checked.errors, strip ? tag : u16{0});
  if (size <= plain(kSmallPacket)) raise(kSmallReceived);
  raise_later(kReceiveTimer, m_receive_delay, m_state.receive_limit, plain(kReceiveDelay), plain(kReceiveAbsolute));
}

void E1000::write_frame(std::span<const u8> frame, u16 packet_sum, u8 status, u8 errors, u16 tag) {
  Ring& ring = m_state.receive_ring;
  const usize buffer = receive_buffer_size();
  const auto threshold_reached = [&] {
    // RDMTS: a half, a quarter or an eighth of the ring.
    return ring.filled() <= ring.count() >> ((m_state.receive_control >> 8 & 3) + 1);
  };
  const bool was_low = threshold_reached();
  while (!frame.empty()) {
    const auto part = frame.first(std::min(frame.size(), buffer));
    frame = frame.subspan(part.size());
    std::array<u8, 16> descriptor;
    const u64 address = ring.base + u64{ring.head} * descriptor.size();
    fetch(address, descriptor);
    u64 target = 0;
    for (unsigned i = 0; i < 8; ++i) target |= u64{descriptor[i]} << (8 * i);
    // A descriptor without an address takes its part of the frame and loses it (3.2.3).
    if (target) store(target, part);
    const bool last = frame.empty();
    descriptor[8] = static_cast<u8>(part.size());
    descriptor[9] = static_cast<u8>(part.size() >> 8);
    descriptor[10] = static_cast<u8>(packet_sum);
    descriptor[11] = static_cast<u8>(packet_sum >> 8);
    descriptor[12] = static_cast<u8>(status | kDone | (last ? kReceiveEnd : 0));
    descriptor[13] = errors;
    descriptor[14] = static_cast<u8>(tag);
    descriptor[15] = static_cast<u8>(tag >> 8);
    // The status comes last: what a driver sees as done is there.
    store(address + 8, std::span(descriptor).subspan(8));
    ring.head = (ring.head + 1) % ring.count();
  }
  if (!was_low && threshold_reached()) raise(kReceiveThreshold);
}

}  // namespace vellum
