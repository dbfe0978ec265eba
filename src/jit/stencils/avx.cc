// The stencils of the group "avx".
#include "cpu/core.h"
#include "cpu/semantics/avx.h"

#define VELLUM_GROUP_FILE "cpu/opcodes/avx.def"
#include "jit/stencils/group.inc"
