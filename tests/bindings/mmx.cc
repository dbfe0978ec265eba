// The group "mmx" in the translators' bindings.
#include "cpu/core.h"
#include "cpu/semantics/mmx.h"

#define VELLUM_GROUP_FILE "cpu/opcodes/mmx.def"
#define VELLUM_INSTANTIATE instantiate_mmx
#include "instantiate.inc"
