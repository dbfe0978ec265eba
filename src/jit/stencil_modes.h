// For which modes of decoding stencils exist; instructions in any other run through their interpreter's handler.
#pragma once

#include "cpu/block.h"
#include "cpu/interpreter/handlers.h"

namespace vellum {

// What a stencil is compiled for besides its row's variant.
enum class StencilMode : u8 {
  Long,         // 64-bit code, flat operands or none; scale in a hole
  LongPlain,    // its memory operand has no index
  LongStack,    // likewise, and its base is RSP; only of variants with plain addresses
  LongScale1,   // its memory operand has this scale
  LongScale2,
  LongScale4,
  LongScale8,
  LongBased,    // the operand goes through FS or GS
  Flat32,       // 32-bit code with flat segments
  Count
};
inline constexpr unsigned kStencilModes = static_cast<unsigned>(StencilMode::Count);
inline constexpr unsigned kVariants = 96;

// An instruction that only reads flags is never repeated: in the place of those variants (handler_index()) stand, of stencils, those
// that are handed the flags by the instruction in front, where it is the known producer.
constexpr bool is_behind_producer(unsigned variant) {
  return variant % 6 == producer_place(FlagProducer::Subtract) || variant % 6 == producer_place(FlagProducer::Logic);
}
constexpr u8 handed_variant(unsigned variant) { return static_cast<u8>(variant + 2); }

}  // namespace vellum
