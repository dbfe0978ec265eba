// The group "fma" for the optimizing translator.
#include "cpu/core.h"
// Rounding and exception flags are the guest's: nothing may be folded, dropped, or computed where the code does not.
#pragma STDC FENV_ACCESS ON
#include "cpu/semantics/fused.h"

#define VELLUM_GROUP fma
#define VELLUM_GROUP_FILE "cpu/opcodes/fma.def"
#include "jit/bitcode/group.inc"
