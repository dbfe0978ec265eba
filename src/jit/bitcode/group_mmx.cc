// The group "mmx" for the optimizing translator.
#include "cpu/core.h"
#include "cpu/semantics/mmx.h"

#define VELLUM_GROUP mmx
#define VELLUM_GROUP_FILE "cpu/opcodes/mmx.def"
#include "jit/bitcode/group.inc"
