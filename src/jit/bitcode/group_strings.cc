// The group "strings" for the optimizing translator.
#include "cpu/core.h"
#include "cpu/semantics/strings.h"

#define VELLUM_GROUP strings
#define VELLUM_GROUP_FILE "cpu/opcodes/strings.def"
#include "jit/bitcode/group.inc"
