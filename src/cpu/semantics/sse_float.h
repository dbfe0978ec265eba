// SSE to SSE4.1 floating point, SDM Vol. 1 5.5 to 5.10.
#pragma once

#include "cpu/semantics/context.h"

namespace vellum::semantics {

}  // namespace vellum::semantics
