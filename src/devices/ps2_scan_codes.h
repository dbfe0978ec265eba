// Scan codes of the 101/102-key keyboard: the three sets, and the i8042's translation of set 2 to set 1.
#pragma once

#include <optional>

#include "devices/key_code.h"
#include "state/archive.h"
#include "state/integers.h"

namespace vellum {

// How a key behaves in scan code set 3, as F7h-FDh set it.
enum class KeyType : u8 { Typematic, MakeBreak, MakeOnly };

struct ScanCodes {
  u8 set2 = 0;            // 0: the key does not exist
  bool extended = false;  // E0h comes first in sets 1 and 2
  u8 set3 = 0;
  KeyType type = KeyType::Typematic;  // in set 3, after reset
};

// All zero for a key that a PS/2 keyboard does not have. Print Screen and Pause give their set 3 codes only: in sets 1
// and 2 they are sequences of their own.
const ScanCodes& scan_codes(KeyCode code);

// The i8042's table: a byte of set 2 (without prefix) as set 1.
u8 set2_to_set1(u8 code);

// Turns a stream of set 2 bytes into set 1: F0h is swallowed and sets bit 7 of the next code.
class ScanCodeTranslator {
 public:
  std::optional<u8> feed(u8 byte) {
    if (byte == 0xf0) {
      m_break = true;
      return std::nullopt;
    }
    u8 code = set2_to_set1(byte);
    if (m_break && code < 0x80) code |= 0x80;
    m_break = false;
    return code;
  }
  void visit(Archive& archive) { archive("break", m_break); }

 private:
  bool m_break = false;
};

}  // namespace vellum
