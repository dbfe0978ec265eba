// The group "integer" in the translators' bindings.
#include "cpu/core.h"
#include "cpu/semantics/integer.h"

#define VELLUM_GROUP_FILE "cpu/opcodes/integer.def"
#define VELLUM_INSTANTIATE instantiate_integer
#include "instantiate.inc"
