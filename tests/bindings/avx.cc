// The group "avx" in the translators' bindings.
#include "cpu/core.h"
#include "cpu/semantics/avx.h"

#define VELLUM_GROUP_FILE "cpu/opcodes/avx.def"
#define VELLUM_INSTANTIATE instantiate_avx
#include "instantiate.inc"
