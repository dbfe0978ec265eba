// The interpreter's handlers of the group "avx_float".
// Rounding and exception flags are the guest's: nothing may be folded, dropped, or computed where the code does not.
#include "cpu/callouts/callouts.h"
#pragma STDC FENV_ACCESS ON
#include "cpu/semantics/sse_float.h"

#define VELLUM_GROUP avx_float
#define VELLUM_GROUP_FILE "cpu/opcodes/avx_float.def"
#include "cpu/interpreter/group.inc"
