// The interpreter's handlers of the group "crypto".
#include "cpu/semantics/crypto.h"

#define VELLUM_GROUP crypto
#define VELLUM_GROUP_FILE "cpu/opcodes/crypto.def"
#include "cpu/interpreter/group.inc"
