// The interpreter's handlers of the group "control_flow".
#include "cpu/semantics/control_flow.h"

#define VELLUM_GROUP control_flow
#define VELLUM_GROUP_FILE "cpu/opcodes/control_flow.def"
#include "cpu/interpreter/group.inc"
