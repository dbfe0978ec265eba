// The interpreter's handlers of the group "strings".
#include "cpu/semantics/strings.h"

#define VELLUM_GROUP strings
#define VELLUM_GROUP_FILE "cpu/opcodes/strings.def"
#include "cpu/interpreter/group.inc"
