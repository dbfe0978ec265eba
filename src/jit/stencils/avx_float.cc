// The stencils of the group "avx_float".
#include "cpu/callouts/callouts.h"
#pragma STDC FENV_ACCESS ON
#include "cpu/semantics/sse_float.h"

#define VELLUM_GROUP_FILE "cpu/opcodes/avx_float.def"
#include "jit/stencils/group.inc"
