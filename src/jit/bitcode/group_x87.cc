// The group "x87" for the optimizing translator.
#include "cpu/core.h"
#include "cpu/semantics/x87.h"

#define VELLUM_GROUP x87
#define VELLUM_GROUP_FILE "cpu/opcodes/x87.def"
#include "jit/bitcode/group.inc"
