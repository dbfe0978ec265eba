// The interpreter's handlers of the group "integer".
#include "cpu/semantics/integer.h"

#define VELLUM_GROUP integer
#define VELLUM_GROUP_FILE "cpu/opcodes/integer.def"
#include "cpu/interpreter/group.inc"
