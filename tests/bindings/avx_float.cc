// The group "avx_float" in the translators' bindings.
#include "cpu/core.h"
#include "cpu/callouts/callouts.h"
#pragma STDC FENV_ACCESS ON
#include "cpu/semantics/sse_float.h"

#define VELLUM_GROUP_FILE "cpu/opcodes/avx_float.def"
#define VELLUM_INSTANTIATE instantiate_avx_float
#include "instantiate.inc"
