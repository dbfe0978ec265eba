// The group "fma" in the translators' bindings.
#include "cpu/core.h"
#pragma STDC FENV_ACCESS ON
#include "cpu/semantics/fused.h"

#define VELLUM_GROUP_FILE "cpu/opcodes/fma.def"
#define VELLUM_INSTANTIATE instantiate_fma
#include "instantiate.inc"
