// Operations that are computed exactly and rounded once: fused multiply-add, and conversions of half precision.
#pragma once

#include "cpu/semantics/context.h"

namespace vellum {

// x * y + z in each lane, rounded once. On hosts with such an instruction the host notes the exceptions, if the guest
// masks all; otherwise they are added to `flags`. Which NaN comes out is left open. SDM Vol. 1 14.5.
VELLUM_FROM_STENCILS V128 fused_multiply_add_f32(V128 x, V128 y, V128 z, u32 mxcsr, u32& flags);
VELLUM_FROM_STENCILS V128 fused_multiply_add_f64(V128 x, V128 y, V128 z, u32 mxcsr, u32& flags);

// Replaces each NaN lane of a fused operation's result by the one that x86 delivers: the first of x, y, z that is a NaN, as
// quiet NaN; the default NaN if none is. SDM Vol. 1 14.5.2.
VELLUM_FROM_STENCILS V128 fused_nans_f32(V128 result, V128 x, V128 y, V128 z);
VELLUM_FROM_STENCILS V128 fused_nans_f64(V128 result, V128 x, V128 y, V128 z);

// VCVTPH2PS and VCVTPS2PH of one value. DAZ and FTZ do not concern half precision, SDM Vol. 1 14.4.1.
VELLUM_FROM_STENCILS u32 half_to_single(u16 bits, u32& flags);
VELLUM_FROM_STENCILS u16 single_to_half(u32 bits, u8 control, u32 mxcsr, u32& flags);

}  // namespace vellum
