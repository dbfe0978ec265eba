// The stencils of the group "sse".
#include "cpu/semantics/sse.h"

#define VELLUM_GROUP_FILE "cpu/opcodes/sse.def"
#include "jit/stencils/group.inc"
