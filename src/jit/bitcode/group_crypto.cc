// The group "crypto" for the optimizing translator.
#include "cpu/core.h"
#include "cpu/semantics/crypto.h"

#define VELLUM_GROUP crypto
#define VELLUM_GROUP_FILE "cpu/opcodes/crypto.def"
#include "jit/bitcode/group.inc"
