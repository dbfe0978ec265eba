// The 82540EM's way out: descriptors, checksums, segmentation.
#include <algorithm>

#include "devices/e1000.h"
#include "devices/e1000_registers.h"
#include "state/log.h"

namespace vellum {

using namespace e1000;

namespace {

// What a frame takes of the wire besides its bytes: preamble, check sequence, gap (IEEE 802.3, 4.4.2).
constexpr usize kFrameOverhead = 24;
// A descriptor that brings nothing costs a look at memory.
constexpr usize kDescriptorCost = 16;
// Bytes that leave at once; then the wire is busy for as long as they take at a bit a nanosecond.
constexpr usize kBurst = 64 * 1024;
constexpr Ticks kTicksPerByte = 8;
// Bytes of a descriptor's data that are looked at before segments are made of them.
constexpr usize kPiece = 16 * 1024;
// A message has at most 1 MiB (PAYLEN), so this many segments are of 256 bytes; a driver that asks for more asks for nothing sensible.
constexpr u32 kMostSegments = 4096;

u16 little16(const std::array<u8, 16>& d, usize at) { return static_cast<u16>(d[at] | d[at + 1] << 8); }
u32 little32(const std::array<u8, 16>& d, usize at) { return little16(d, at) | u32{little16(d, at + 2)} << 16; }

// Puts the checksum of frame[start..end) at `offset`; end 0: to the frame's end. What does not lie within the frame is left alone.
void insert_checksum(std::span<u8> frame, usize start, usize offset, usize end) {
  const usize behind = end == 0 ? frame.size() : std::min(end + 1, frame.size());
  if (start >= behind || offset + 2 > frame.size()) return;
  write_network16(frame, offset, static_cast<u16>(~internet_sum(frame.subspan(start, behind - start))));
}

}  // namespace

void E1000::transmit() {
  if (!(m_state.transmit_control & kTransmitEnable) || m_transmit_timer.armed() || !bus_master_enabled()) return;
  Ring& ring = m_state.transmit_ring;
  if (!ring.valid() || ring.head == ring.tail) return;
  usize spent = 0;
  bool reported = false, immediate = false;
  while (ring.head != ring.tail && spent < kBurst) {
    std::array<u8, 16> descriptor;
    const u64 address = ring.base + u64{ring.head} * descriptor.size();
    fetch(address, descriptor);
    spent += process_descriptor(descriptor) + kDescriptorCost;
    const u8 command = descriptor[11];
    if (command & kReportStatus) {
      descriptor[12] |= kDone;
      store(address + 12, std::span(descriptor).subspan(12, 1));
      reported = true;
      if (!(command & kDelayInterrupt)) immediate = true;
    }
    ring.head = (ring.head + 1) % ring.count();
  }
  if (ring.head != ring.tail) m_transmit_timer.arm(m_clock.now() + spent * kTicksPerByte);
  if (reported && !immediate) raise_later(kTransmitWrittenBack, m_transmit_delay, m_state.transmit_limit, plain(kTransmitDelay), plain(kTransmitAbsolute));
  u32 causes = immediate ? kTransmitWrittenBack : 0;
  if (ring.head == ring.tail) causes |= kTransmitQueueEmpty;
  if (causes) raise(causes);
}

// Returns what it cost, in bytes of the wire.
usize E1000::process_descriptor(std::array<u8, 16>& descriptor) {
  const u8 command = descriptor[11];
  Packet& packet = m_state.packet;
  u32 length = little16(descriptor, 8);
  if (command & kExtended) {
    const u8 type = descriptor[10] >> 4;
    if (type == kTypeContext) return load_context(descriptor);
    if (type != kTypeData) {
      log(LogItem::GuestErrors, "82540EM: transmit descriptor of type {}", type);
      return 0;
    }
    length = little32(descriptor, 8) & 0xfffff;
    if (!packet.started) {
      packet.options = descriptor[13];
      packet.segmented = command & kSegment;
    }
  }
  packet.started = true;
  if (command & kInsertVlan) {
    packet.tagged = true;
    packet.tag = little16(descriptor, 14);
  }
  usize cost = append(little32(descriptor, 0) | u64{little32(descriptor, 4)} << 32, length);
  if (!(command & kEndOfPacket)) return cost;
  // 3.3.3: a legacy descriptor has one checksum, from CSS to the end.
  if (!(command & kExtended) && (command & kInsertChecksum) && !packet.too_long) insert_checksum(packet.data, descriptor[13], descriptor[10], 0);
  cost += packet.segmented ? send_segments(true) : send_packet();
  packet = {};
  return cost;
}

usize E1000::load_context(const std::array<u8, 16>& descriptor) {
  const u8 command = descriptor[11];
  Context& context = command & kSegment ? m_state.segmentation : m_state.checksum;
  context = {.ip_start = descriptor[0],
             .ip_offset = descriptor[1],
             .transport_start = descriptor[4],
             .transport_offset = descriptor[5],
             .header_length = descriptor[13],
             .ip_end = little16(descriptor, 2),
             .transport_end = little16(descriptor, 6),
             .segment_size = little16(descriptor, 14),
             .tcp = (command & kContextTcp) != 0,
             .ipv4 = (command & kContextIpv4) != 0};
  return 0;
}

usize E1000::append(u64 address, u32 length) {
  Packet& packet = m_state.packet;
  usize cost = 0;
  while (length > 0 && !packet.too_long) {
    const usize piece = std::min<usize>(length, kPiece), before = packet.data.size();
    packet.data.resize(before + piece);
    fetch(address, std::span(packet.data).subspan(before));
    address += piece;
    length -= static_cast<u32>(piece);
    if (packet.segmented) cost += send_segments(false);
    else if (packet.data.size() > ethernet::kLongestFrame) packet.too_long = true;
  }
  if (packet.too_long) packet.data.clear();
  return cost;
}

// 3.5: a header and payload for many segments; each segment gets the header, as far as it differs from the first.
usize E1000::send_segments(bool last) {
  Packet& packet = m_state.packet;
  const Context& context = m_state.segmentation;
  const usize header = context.header_length, size = context.segment_size;
  if (packet.too_long) return 0;
  if (header < ethernet::kHeaderSize || size == 0 || header + size > ethernet::kLongestFrame) {
    log(LogItem::GuestErrors, "82540EM: segments of {} bytes behind {} of header", size, header);
    packet.too_long = true;
    return 0;
  }
  usize at = header, cost = 0;
  // The segment with the last byte is known only at the end of the packet: it keeps FIN and PSH.
  while (packet.data.size() > at && (last || packet.data.size() - at > size)) {
    if (++packet.segments > kMostSegments) {
      log(LogItem::GuestErrors, "82540EM: a message of more than {} segments", kMostSegments);
      packet.too_long = true;
      return cost;
    }
    const auto payload = std::span(packet.data).subspan(at, std::min(size, packet.data.size() - at));
    cost += send_segment(payload, last && at + payload.size() == packet.data.size());
    at += payload.size();
  }
  if (at > header) packet.data.erase(packet.data.begin() + static_cast<std::ptrdiff_t>(header), packet.data.begin() + static_cast<std::ptrdiff_t>(at));
  if (last) count(kSegmented);
  return cost;
}

usize E1000::send_segment(std::span<const u8> payload, bool last) {
  Packet& packet = m_state.packet;
  const Context& context = m_state.segmentation;
  std::vector<u8> frame(packet.data.begin(), packet.data.begin() + context.header_length);
  frame.insert(frame.end(), payload.begin(), payload.end());
  const auto has = [&](usize at, usize bytes) { return at + bytes <= context.header_length; };
  const usize ip = context.ip_start, transport = context.transport_start;
  if (frame.size() < ip || frame.size() < transport) return 0;
  // RFC 791, 3.1: total length, identification; RFC 8200, 3: payload length.
  if (context.ipv4 && has(ip, 6)) {
    write_network16(frame, ip + 2, static_cast<u16>(frame.size() - ip));
    write_network16(frame, ip + 4, static_cast<u16>(read_network16(frame, ip + 4) + packet.segments - 1));
  } else if (!context.ipv4 && has(ip, 6)) {
    constexpr usize kIpv6Header = 40;
    write_network16(frame, ip + 4, static_cast<u16>(frame.size() - std::min(frame.size(), ip + kIpv6Header)));
  }
  // RFC 9293, 3.1: sequence number, flags; RFC 768: length.
  if (context.tcp && has(transport, 14)) {
    constexpr u8 kFinAndPush = 0x09;
    write_network32(frame, transport + 4, read_network32(frame, transport + 4) + packet.sent);
    if (!last) frame[transport + 13] &= static_cast<u8>(~kFinAndPush);
  } else if (!context.tcp && has(transport, 6)) {
    write_network16(frame, transport + 4, static_cast<u16>(frame.size() - transport));
  }
  // The driver has put the sum over the pseudo header without the length there (3.5.3).
  const usize sum = context.transport_offset;
  if ((packet.options & kTransportChecksum) && has(sum, 2)) {
    const std::array<u8, 2> length = {static_cast<u8>((frame.size() - transport) >> 8), static_cast<u8>(frame.size() - transport)};
    write_network16(frame, sum, internet_sum(length, read_network16(frame, sum)));
  }
  packet.sent += static_cast<u32>(payload.size());
  return send_frame(frame, &context);
}

usize E1000::send_packet() {
  Packet& packet = m_state.packet;
  if (packet.too_long || packet.data.size() < ethernet::kHeaderSize) return 0;
  std::vector<u8> frame = std::move(packet.data);
  return send_frame(frame, &m_state.checksum);
}

usize E1000::send_frame(std::span<u8> frame, const Context* context) {
  const u8 options = m_state.packet.options;
  if (options & kTransportChecksum) insert_checksum(frame, context->transport_start, context->transport_offset, context->transport_end);
  if (options & kIpChecksum) insert_checksum(frame, context->ip_start, context->ip_offset, context->ip_end);
  std::vector<u8> sent(frame.begin(), frame.end());
  if (m_state.packet.tagged && (m_state.control & kVlanMode)) {
    // IEEE 802.1Q: behind the addresses.
    std::array<u8, 4> tag;
    write_network16(tag, 0, static_cast<u16>(plain(kVlanType)));
    write_network16(tag, 2, m_state.packet.tag);
    sent.insert(sent.begin() + 12, tag.begin(), tag.end());
  }
  if ((m_state.transmit_control & kPadShort) && sent.size() < ethernet::kShortestFrame) sent.resize(ethernet::kShortestFrame);
  const usize size = sent.size() + ethernet::kCheckSize;
  count(kGoodSent);
  count(kAllSent);
  count_long(kGoodOctetsSent, size);
  count_long(kOctetsSent, size);
  count_frame(kSent64, size);
  if (std::ranges::equal(std::span(sent).first(6), ethernet::kBroadcast)) count(kBroadcastsSent);
  else if (ethernet::is_multicast(sent)) count(kMulticastsSent);
  if ((m_state.receive_control & kLoopback) || m_phy.loopback()) {
    if (can_receive(sent.size())) receive(sent);
  } else if (link_up()) {
    m_backend->send(sent);
  }
  return sent.size() + kFrameOverhead;
}

}  // namespace vellum
