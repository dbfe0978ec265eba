// The group "sse" in the translators' bindings.
#include "cpu/core.h"
#include "cpu/semantics/sse.h"

#define VELLUM_GROUP_FILE "cpu/opcodes/sse.def"
#define VELLUM_INSTANTIATE instantiate_sse
#include "instantiate.inc"
