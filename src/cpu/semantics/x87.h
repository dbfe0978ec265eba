// x87 FPU instructions, SDM Vol. 1 5.2.
#pragma once

#include "cpu/semantics/context.h"

namespace vellum::semantics {

}  // namespace vellum::semantics
