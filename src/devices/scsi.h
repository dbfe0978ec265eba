// What SCSI command sets have in common: sense keys and codes, and replies made of big-endian fields.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "state/integers.h"

namespace vellum {

// SPC-3 tables 27 and 28.
namespace scsi {
inline constexpr u8 kNotReady = 0x02, kMediumError = 0x03, kIllegalRequest = 0x05, kUnitAttention = 0x06, kDataProtect = 0x07,
                    kMiscompareKey = 0x0e;
// Additional sense codes.
inline constexpr u8 kBecomingReady = 0x04, kWriteError = 0x0c, kReadError = 0x11, kMiscompare = 0x1d, kInvalidOperation = 0x20,
                    kOutOfRange = 0x21, kInvalidField = 0x24, kWriteProtected = 0x27, kMediumChanged = 0x28, kWasReset = 0x29,
                    kSavingUnsupported = 0x39, kNoMedium = 0x3a, kRemovalPrevented = 0x53;
}  // namespace scsi

// Replies are lists of big-endian fields.
class ScsiBytes {
 public:
  ScsiBytes& byte(u32 value) { return put(value, 1); }
  ScsiBytes& word(u32 value) { return put(value, 2); }
  ScsiBytes& triple(u32 value) { return put(value, 3); }
  ScsiBytes& doubleword(u32 value) { return put(value, 4); }
  ScsiBytes& quadword(u64 value) { return put(value, 8); }
  ScsiBytes& zeroes(usize count) {
    m_data.insert(m_data.end(), count, 0);
    return *this;
  }
  ScsiBytes& text(std::string_view text, usize length) {
    for (usize i = 0; i < length; ++i) m_data.push_back(i < text.size() ? static_cast<u8>(text[i]) : ' ');
    return *this;
  }
  // A length field at `offset` that counts what follows it.
  void set_length(usize offset, unsigned bytes) {
    const usize length = m_data.size() - offset - bytes;
    for (unsigned i = 0; i < bytes; ++i) m_data[offset + i] = static_cast<u8>(length >> (8 * (bytes - 1 - i)));
  }
  usize size() const { return m_data.size(); }
  u8& operator[](usize index) { return m_data[index]; }
  operator std::span<const u8>() const { return m_data; }

 private:
  ScsiBytes& put(u64 value, unsigned bytes) {
    while (bytes--) m_data.push_back(static_cast<u8>(value >> (8 * bytes)));
    return *this;
  }
  std::vector<u8> m_data;
};

}  // namespace vellum
