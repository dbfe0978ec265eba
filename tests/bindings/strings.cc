// The group "strings" in the translators' bindings.
#include "cpu/core.h"
#include "cpu/semantics/strings.h"

#define VELLUM_GROUP_FILE "cpu/opcodes/strings.def"
#define VELLUM_INSTANTIATE instantiate_strings
#include "instantiate.inc"
