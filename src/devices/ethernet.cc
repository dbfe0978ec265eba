// Addresses, cyclic redundancy checks and Internet checksums.
#include "devices/ethernet.h"

#include <fmt/format.h>

#include <charconv>

namespace vellum {

namespace {

// IEEE 802.3, 3.2.9, as it stands for bits that arrive lowest first, and the other way round.
constexpr u32 kReflectedPolynomial = 0xedb88320, kPolynomial = 0x04c11db7;

constexpr std::array<u32, 256> make_table() {
  std::array<u32, 256> table{};
  for (u32 i = 0; i < 256; ++i) {
    u32 value = i;
    for (unsigned bit = 0; bit < 8; ++bit) value = value & 1 ? value >> 1 ^ kReflectedPolynomial : value >> 1;
    table[i] = value;
  }
  return table;
}
constexpr auto kTable = make_table();

}  // namespace

std::optional<MacAddress> parse_mac_address(std::string_view text) {
  MacAddress address;
  constexpr usize kLength = 17;
  if (text.size() != kLength) return std::nullopt;
  for (usize i = 0; i < address.size(); ++i) {
    const auto part = text.substr(3 * i, 2);
    const auto [end, error] = std::from_chars(part.data(), part.data() + 2, address[i], 16);
    if (error != std::errc() || end != part.data() + 2) return std::nullopt;
    if (i + 1 < address.size() && text[3 * i + 2] != ':' && text[3 * i + 2] != '-') return std::nullopt;
  }
  return address;
}

std::string format_mac_address(const MacAddress& a) {
  return fmt::format("{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", a[0], a[1], a[2], a[3], a[4], a[5]);
}

u32 ethernet_check(std::span<const u8> frame) {
  u32 crc = ~0u;
  for (const u8 byte : frame) crc = crc >> 8 ^ kTable[(crc ^ byte) & 0xff];
  return ~crc;
}

u32 multicast_hash(std::span<const u8> address) {
  u32 crc = ~0u;
  for (const u8 byte : address)
    for (unsigned bit = 0; bit < 8; ++bit) {
      const bool carry = (crc >> 31) ^ (byte >> bit & 1);
      crc = crc << 1 ^ (carry ? kPolynomial : 0);
    }
  return crc;
}

u16 internet_sum(std::span<const u8> data, u32 start) {
  u64 sum = start;
  usize i = 0;
  for (; i + 1 < data.size(); i += 2) sum += read_network16(data, i);
  if (i < data.size()) sum += u32{data[i]} << 8;
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<u16>(sum);
}

}  // namespace vellum
