// String instructions, SDM Vol. 1 5.1.8.
#pragma once

#include "cpu/semantics/context.h"

namespace vellum::semantics {

}  // namespace vellum::semantics
