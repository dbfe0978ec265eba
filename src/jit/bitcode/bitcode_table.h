// How the bitcode's table of a group is laid out: one function for each row, operand size and place of its operands.
#pragma once

#include "state/integers.h"

namespace vellum {

// Register operands, memory, memory with LOCK; each for operand sizes of 16, 32 and 64 bits.
inline constexpr unsigned kBitcodePlaces = 3, kBitcodeVariants = 3 * kBitcodePlaces;
// The arguments behind CpuState and BoundInsn: the fields of BitcodeFields.
inline constexpr unsigned kBitcodeFields = 21;
inline constexpr u64 kUnknownX87Stack = 8;

struct CpuState;
struct BoundInsn;
using BitcodeFunction = u64 (*)(CpuState*, const BoundInsn*, u64, u64, u64, u64, u64, u64, u64, u64, u64, u64, u64, u64, u64,
                                u64, u64, u64, u64, u64, u64, u64, u64);
struct BitcodeRow {
  BitcodeFunction of[kBitcodeVariants];
};

// The bitcode's function for a handler_index(), or -1 when it has none (repeated string instructions). What decoding
// found out about flags and plain addresses folds by itself here.
constexpr int bitcode_variant(unsigned handler_index, bool is_string) {
  const unsigned extra = handler_index % 6, place = handler_index / 6 % 4, width = handler_index / 24;
  if ((is_string && extra >= 4) || width >= 3) return -1;
  return static_cast<int>(width * kBitcodePlaces + (place == 3 ? 1 : place));
}

}  // namespace vellum
