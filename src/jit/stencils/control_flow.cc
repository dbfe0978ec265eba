// The stencils of the group "control_flow".
#include "cpu/semantics/control_flow.h"

#define VELLUM_GROUP_FILE "cpu/opcodes/control_flow.def"
#include "jit/stencils/group.inc"
