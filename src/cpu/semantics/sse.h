// SSE to SSE4.2 integer and data movement on XMM, SDM Vol. 1 5.5 to 5.10.
#pragma once

#include "cpu/semantics/context.h"

namespace vellum::semantics {

}  // namespace vellum::semantics
