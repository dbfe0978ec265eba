// MMX and SSE's MMX-register instructions, SDM Vol. 1 5.4.
#pragma once

#include "cpu/semantics/context.h"

namespace vellum::semantics {

}  // namespace vellum::semantics
