// The group "sse_float" in the translators' bindings.
#include "cpu/core.h"
#include "cpu/callouts/callouts.h"
#pragma STDC FENV_ACCESS ON
#include "cpu/semantics/sse_float.h"

#define VELLUM_GROUP_FILE "cpu/opcodes/sse_float.def"
#define VELLUM_INSTANTIATE instantiate_sse_float
#include "instantiate.inc"
