// The group "sse" for the optimizing translator.
#include "cpu/core.h"
#include "cpu/semantics/sse.h"

#define VELLUM_GROUP sse
#define VELLUM_GROUP_FILE "cpu/opcodes/sse.def"
#include "jit/bitcode/group.inc"
