// The group "avx" for the optimizing translator.
#include "cpu/core.h"
#include "cpu/semantics/avx.h"

#define VELLUM_GROUP avx
#define VELLUM_GROUP_FILE "cpu/opcodes/avx.def"
#include "jit/bitcode/group.inc"
