// The interpreter's handlers of the group "sse".
#include "cpu/semantics/sse.h"

#define VELLUM_GROUP sse
#define VELLUM_GROUP_FILE "cpu/opcodes/sse.def"
#include "cpu/interpreter/group.inc"
