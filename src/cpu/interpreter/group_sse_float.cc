// The interpreter's handlers of the group "sse_float".
#include "cpu/semantics/sse_float.h"

#define VELLUM_GROUP sse_float
#define VELLUM_GROUP_FILE "cpu/opcodes/sse_float.def"
#include "cpu/interpreter/group.inc"
