// The interpreter's handlers of the group "avx".
#include "cpu/semantics/avx.h"

#define VELLUM_GROUP avx
#define VELLUM_GROUP_FILE "cpu/opcodes/avx.def"
#include "cpu/interpreter/group.inc"
