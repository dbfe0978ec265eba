// The stencils between instructions (stencils/glue.cc), by their number in its table.
#pragma once

#include "state/integers.h"

namespace vellum {

enum class Glue : u8 { Count, Enter, Leave, CallHandler, GoToBlock, GoToOffset, GoToOffset32, GoToOffset16, GoToRip };

}  // namespace vellum
