// The interpreter's handlers of the group "mmx".
#include "cpu/semantics/mmx.h"

#define VELLUM_GROUP mmx
#define VELLUM_GROUP_FILE "cpu/opcodes/mmx.def"
#include "cpu/interpreter/group.inc"
