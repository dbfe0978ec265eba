// Floating-point operations that the host cannot do, or not with the flags that the guest expects.
#pragma once

#include "cpu/semantics/context.h"

namespace vellum {

// ROUNDSS, ROUNDSD of one value; `control` is the instruction's imm8, `mxcsr` gives rounding and DAZ. Raised MXCSR flags
// are added to `flags`. SDM Vol. 2B "ROUNDPD".
VELLUM_FROM_STENCILS u32 round_to_integral(u32 bits, u8 control, u32 mxcsr, u32& flags);
VELLUM_FROM_STENCILS u64 round_to_integral(u64 bits, u8 control, u32 mxcsr, u32& flags);

// RCPSS and RSQRTSS: 1/x and 1/sqrt(x) with 13 significant bits, rounded to nearest. No flags; denormals count as zero.
// Silicon differs from vendor to vendor within the allowed relative error of 1.5 * 2^-12.
VELLUM_FROM_STENCILS u32 approximate_reciprocal(u32 bits);
VELLUM_FROM_STENCILS u32 approximate_reciprocal_square_root(u32 bits);

// Whether the result of an operation would be inexact if exponents had no bounds. That is the precision flag beside an
// unmasked overflow or underflow, SDM Vol. 1 4.9.1.4 and 4.9.1.5; the host's own is about the masked response.
enum class FloatStep : u8 { Add, Subtract, Multiply, Divide, SquareRoot };
bool inexact_without_bounds(FloatStep step, u32 a, u32 b, u32 mxcsr);
bool inexact_without_bounds(FloatStep step, u64 a, u64 b, u32 mxcsr);
bool narrowing_inexact_without_bounds(u64 bits, u32 mxcsr);  // double to float

// An operation as SSE does it, with its flags, whatever the host does with denormal numbers. The square root is b's.
VELLUM_FROM_STENCILS u32 exact_step(FloatStep step, u32 a, u32 b, u32 mxcsr, u32& flags);
VELLUM_FROM_STENCILS u64 exact_step(FloatStep step, u64 a, u64 b, u32 mxcsr, u32& flags);
VELLUM_FROM_STENCILS V128 exact_lanes_f32(FloatStep step, V128 a, V128 b, u32 mxcsr, u32& flags);
VELLUM_FROM_STENCILS V128 exact_lanes_f64(FloatStep step, V128 a, V128 b, u32 mxcsr, u32& flags);
VELLUM_FROM_STENCILS u32 exact_narrow(u64 bits, u32 mxcsr, u32& flags);  // CVTSD2SS
// Operands of a comparison or conversion: denormal ones become zeros under DAZ, else raise the denormal flag unless there
// is a NaN beside them.
VELLUM_FROM_STENCILS void settle_denormals(u32& a, u32& b, u32 mxcsr, u32& flags);
VELLUM_FROM_STENCILS void settle_denormals(u64& a, u64& b, u32 mxcsr, u32& flags);
VELLUM_FROM_STENCILS void settle_denormals_f32(V128& a, V128& b, u32 mxcsr, u32& flags);
VELLUM_FROM_STENCILS void settle_denormals_f64(V128& a, V128& b, u32 mxcsr, u32& flags);

// Replaces each NaN lane of `result` of an operation on a and b by the one that SSE delivers: a if it is a NaN, else b,
// as quiet NaN; the default NaN if neither is. SDM Vol. 1 tables 4-7 and 4-8.
VELLUM_FROM_STENCILS V128 chosen_nans_f32(V128 result, V128 a, V128 b);
VELLUM_FROM_STENCILS V128 chosen_nans_f64(V128 result, V128 a, V128 b);
VELLUM_FROM_STENCILS u32 chosen_nan(u32 a, u32 b);
VELLUM_FROM_STENCILS u64 chosen_nan(u64 a, u64 b);

}  // namespace vellum
