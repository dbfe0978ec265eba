// Addresses, check sequences and checksums against the examples of their standards.
#include <catch2/catch.hpp>

#include "devices/ethernet.h"

using namespace vellum;

TEST_CASE("the frame check sequence is that of IEEE 802.3", "[ethernet]") {
  // The check value of CRC-32 (ISO-HDLC), which is 802.3's.
  const std::string_view digits = "123456789";
  CHECK(ethernet_check({reinterpret_cast<const u8*>(digits.data()), digits.size()}) == 0xcbf43926);
}

TEST_CASE("the multicast hash is the same sum the other way round, without the inversion at its end", "[ethernet]") {
  const MacAddress address = {0x01, 0x00, 0x5e, 0x00, 0x00, 0xfb};
  u32 reversed = 0;
  for (unsigned bit = 0; bit < 32; ++bit) reversed |= (~ethernet_check(address) >> bit & 1) << (31 - bit);
  CHECK(multicast_hash(address) == reversed);
}

TEST_CASE("the Internet checksum is that of RFC 1071's example", "[ethernet]") {
  const std::array<u8, 8> words = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};
  CHECK(internet_sum(words) == 0xddf2);
  CHECK(internet_sum(std::span(words).first(7)) == 0xdcfb);  // an odd byte stands for one with a zero behind it
  CHECK(internet_sum(std::span(words).subspan(4), internet_sum(std::span(words).first(4))) == 0xddf2);
}

TEST_CASE("addresses are read and written with colons", "[ethernet]") {
  const auto address = parse_mac_address("52:54:00:Ab:cd:0f");
  REQUIRE(address);
  CHECK(format_mac_address(*address) == "52:54:00:ab:cd:0f");
  for (const auto* text : {"", "52:54:00:ab:cd", "52:54:00:ab:cd:0f:", "52.54.00.ab.cd.0f", "52:54:00:ab:cd:0g", " 2:54:00:ab:cd:0f"}) {
    CAPTURE(text);
    CHECK(!parse_mac_address(text));
  }
}
