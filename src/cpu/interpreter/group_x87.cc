// The interpreter's handlers of the group "x87".
#include "cpu/semantics/x87.h"

#define VELLUM_GROUP x87
#define VELLUM_GROUP_FILE "cpu/opcodes/x87.def"
#include "cpu/interpreter/group.inc"
