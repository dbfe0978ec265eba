// The group "control_flow" in the translators' bindings.
#include "cpu/core.h"
#include "cpu/semantics/control_flow.h"

#define VELLUM_GROUP_FILE "cpu/opcodes/control_flow.def"
#define VELLUM_INSTANTIATE instantiate_control_flow
#include "instantiate.inc"
