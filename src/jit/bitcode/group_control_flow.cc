// The group "control_flow" for the optimizing translator.
#include "cpu/core.h"
#include "cpu/semantics/control_flow.h"

#define VELLUM_GROUP control_flow
#define VELLUM_GROUP_FILE "cpu/opcodes/control_flow.def"
#include "jit/bitcode/group.inc"
