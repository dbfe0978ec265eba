// The group "x87" in the translators' bindings.
#include "cpu/core.h"
#include "cpu/semantics/x87.h"

#define VELLUM_GROUP_FILE "cpu/opcodes/x87.def"
#define VELLUM_INSTANTIATE instantiate_x87
#include "instantiate.inc"
