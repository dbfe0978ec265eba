// The stencils of the group "fma".
#include "cpu/core.h"
#pragma STDC FENV_ACCESS ON
#include "cpu/semantics/fused.h"

#define VELLUM_GROUP_FILE "cpu/opcodes/fma.def"
#include "jit/stencils/group.inc"
