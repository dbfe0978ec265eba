// Frames in and out of virtqueues.
#include "devices/virtio_net.h"

#include <fmt/format.h>

#include <algorithm>

namespace vellum {

namespace {

namespace spec {
// VIRTIO 1.2, 5.1: type, queues, features, device configuration, header of packets.
constexpr u16 kType = 1;
constexpr usize kReceiveQueue = 0, kTransmitQueue = 1;
constexpr unsigned kChecksum = 0, kMac = 5, kStatus = 16;
constexpr usize kStatusOffset = 6;
constexpr u16 kLinkUp = 1;
constexpr usize kHeaderSize = 12, kBuffers = 10, kChecksumStart = 6, kChecksumOffset = 8;
constexpr u8 kNeedsChecksum = 1;
}  // namespace spec

}  // namespace

VirtioNet::VirtioNet(std::string name, const MacAddress& address, NetworkBackend* backend)
    : VirtioPci(spec::kType, 0x020000, 2, u64{1} << spec::kChecksum | u64{1} << spec::kMac | u64{1} << spec::kStatus, "virtio-net"),
      m_name(std::move(name)),
      m_address(address),
      m_backend(backend) {
  if (!m_backend) return;
  m_backend->can_receive = [this](usize) { return can_receive(); };
  m_backend->receive = [this](std::span<const u8> frame) { receive(frame); };
}

VirtioNet::~VirtioNet() {
  if (!m_backend) return;
  m_backend->can_receive = [](usize) { return true; };
  m_backend->receive = [](std::span<const u8>) {};
}

std::string VirtioNet::describe() const {
  return fmt::format("{}: {}, virtio, {}", m_name, format_mac_address(m_address), driver_ready() ? "driver listens" : "no driver listens");
}

void VirtioNet::reset(ResetKind) {
  reset_config();
  reset_virtio();
}

u8 VirtioNet::read_device_config(usize offset) const {
  if (offset < m_address.size()) return m_address[offset];
  return offset == spec::kStatusOffset && m_backend ? spec::kLinkUp : u8{0};
}

void VirtioNet::queue_notified(usize queue) {
  if (queue == spec::kTransmitQueue) transmit();
  else if (m_backend) m_backend->room_available();
}

void VirtioNet::transmit() {
  std::vector<u8> packet;
  Chain chain;
  // No more than the queue holds: buffers that the driver adds meanwhile it tells of again.
  for (unsigned i = 0; i < kGreatestQueue && take(spec::kTransmitQueue, chain); ++i) {
    packet.resize(spec::kHeaderSize + ethernet::kLongestFrame);
    packet.resize(read_chain(chain, packet));
    give_back(spec::kTransmitQueue, chain, 0);
    if (packet.size() < spec::kHeaderSize + ethernet::kHeaderSize) continue;
    const auto frame = std::span(packet).subspan(spec::kHeaderSize);
    if (packet[0] & spec::kNeedsChecksum) {
      // 5.1.6.2: from csum_start to the end, put at csum_offset behind it.
      const usize start = packet[spec::kChecksumStart] | packet[spec::kChecksumStart + 1] << 8;
      const usize offset = start + (packet[spec::kChecksumOffset] | packet[spec::kChecksumOffset + 1] << 8);
      if (start > frame.size() || offset + 2 > frame.size()) continue;
      const u16 sum = static_cast<u16>(~internet_sum(frame.subspan(start)));
      write_network16(frame, offset, sum ? sum : 0xffff);  // RFC 768: zero would stand for none
    }
    if (frame.size() < ethernet::kShortestFrame) packet.resize(spec::kHeaderSize + ethernet::kShortestFrame);
    if (m_backend) m_backend->send(std::span(packet).subspan(spec::kHeaderSize));
  }
}

// A device without a driver loses what comes.
bool VirtioNet::can_receive() { return !queue_ready(spec::kReceiveQueue) || available(spec::kReceiveQueue); }

void VirtioNet::receive(std::span<const u8> frame) {
  Chain chain;
  if (!queue_ready(spec::kReceiveQueue) || !take(spec::kReceiveQueue, chain)) return;
  std::vector<u8> packet(spec::kHeaderSize);
  packet[spec::kBuffers] = 1;
  packet.insert(packet.end(), frame.begin(), frame.end());
  // A buffer that is too small for the frame goes back empty, and the frame is lost.
  const bool fits = chain.writable_size() >= packet.size();
  give_back(spec::kReceiveQueue, chain, fits ? static_cast<u32>(write_chain(chain, packet)) : 0);
}

}  // namespace vellum
