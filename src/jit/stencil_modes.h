// For which modes of decoding stencils exist; instructions in any other run through their interpreter's handler.
#pragma once

#include "cpu/block.h"
#include "cpu/interpreter/handlers.h"

namespace vellum {

// What a stencil is compiled for besides its row's variant.
enum class StencilMode : u8 {
  Long,         // 64-bit code, flat operands or none; scale in a hole
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

}  // namespace vellum
