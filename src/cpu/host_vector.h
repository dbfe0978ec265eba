// Vector operations by an instruction of the host that the program's own code may not assume: chosen at run time.
#pragma once

#include "cpu/semantics/context.h"

namespace vellum {

// PSHUFB of 16 bytes.
VELLUM_FROM_STENCILS V128 shuffle_bytes(V128 v, V128 control);

}  // namespace vellum
