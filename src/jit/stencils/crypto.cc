// The stencils of the group "crypto".
#include "cpu/core.h"
#include "cpu/semantics/crypto.h"

#define VELLUM_GROUP_FILE "cpu/opcodes/crypto.def"
#include "jit/stencils/group.inc"
