// Ethernet as network cards see it: addresses, the frame check sequence, Internet checksums, and the cable.
#pragma once

#include <array>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "state/integers.h"

namespace vellum {

using MacAddress = std::array<u8, 6>;

namespace ethernet {
// IEEE 802.3, 3.1.1: destination, source and type; the shortest frame without its check sequence; that sequence.
inline constexpr usize kHeaderSize = 14, kShortestFrame = 60, kCheckSize = 4;
// The longest frame that any of our parts hands on: jumbo frames, but no more than cards have memory for.
inline constexpr usize kLongestFrame = 16384;
inline constexpr MacAddress kBroadcast = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
inline bool is_multicast(std::span<const u8> frame) { return frame[0] & 1; }
}  // namespace ethernet

// "52:54:00:12:34:56", or nothing when the text is none.
std::optional<MacAddress> parse_mac_address(std::string_view text);
std::string format_mac_address(const MacAddress& address);

// The frame check sequence, IEEE 802.3, 3.2.9, as the number whose lowest byte is sent first.
u32 ethernet_check(std::span<const u8> frame);
// The CRC over a destination address from which cards' multicast filters take their bits: the same polynomial, highest bit first and
// not inverted at the end (DP8390 datasheet, "Multicast Address Registers").
u32 multicast_hash(std::span<const u8> address);

// The Internet checksum (RFC 1071): the sum in ones' complement of 16-bit words in network order, not inverted; an odd last byte
// counts as if a zero stood behind it. `start`: a sum to go on from.
u16 internet_sum(std::span<const u8> data, u32 start = 0);

inline u16 read_network16(std::span<const u8> data, usize at) { return static_cast<u16>(data[at] << 8 | data[at + 1]); }
inline u32 read_network32(std::span<const u8> data, usize at) { return u32{read_network16(data, at)} << 16 | read_network16(data, at + 2); }
inline void write_network16(std::span<u8> data, usize at, u16 value) {
  data[at] = static_cast<u8>(value >> 8);
  data[at + 1] = static_cast<u8>(value);
}
inline void write_network32(std::span<u8> data, usize at, u32 value) {
  write_network16(data, at, static_cast<u16>(value >> 16));
  write_network16(data, at + 2, static_cast<u16>(value));
}

// The far end of a card's cable. Frames have no check sequence, at least kHeaderSize and at most kLongestFrame bytes. Cards never block
// on it.
class NetworkBackend {
 public:
  virtual ~NetworkBackend() = default;
  virtual void send(std::span<const u8> frame) = 0;

  // The card's side. Whether a frame of this size may come now: the card has room for it, or loses it as the real one would. While it may
  // not, the backend keeps frames back.
  std::function<bool(usize size)> can_receive = [](usize) { return true; };
  // May be called from within send(), with an answer.
  std::function<void(std::span<const u8> frame)> receive = [](std::span<const u8>) {};
  // The card calls this when it may have room again.
  virtual void room_available() {}
  // What there is at the far end, in a few words for `info network`.
  virtual std::string describe() const { return {}; }
};

}  // namespace vellum
