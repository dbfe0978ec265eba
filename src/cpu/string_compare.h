// The comparisons of SSE4.2's string instructions, SDM Vol. 2B 4.1.
#pragma once

#include "cpu/semantics/context.h"

namespace vellum {

struct StringComparison {
  u16 result;  // IntRes2: one bit per element of the second operand
  u32 flags;   // CF, ZF, SF, OF as RFLAGS bits; AF and PF are cleared
};

// `control` is the instruction's imm8. Explicit lengths count elements and saturate; a negative one counts as positive.
VELLUM_FROM_STENCILS StringComparison compare_strings_explicit(V128 first, V128 second, i64 first_length, i64 second_length, u8 control);
// Each operand ends before its first zero element.
VELLUM_FROM_STENCILS StringComparison compare_strings_implicit(V128 first, V128 second, u8 control);

// What PCMPxSTRI puts into ECX, and PCMPxSTRM into XMM0.
VELLUM_FROM_STENCILS u32 string_comparison_index(StringComparison comparison, u8 control);
VELLUM_FROM_STENCILS V128 string_comparison_mask(StringComparison comparison, u8 control);

}  // namespace vellum
