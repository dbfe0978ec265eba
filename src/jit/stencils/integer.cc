// The stencils of the group "integer".
#include "cpu/semantics/bit.h"
#include "cpu/semantics/decimal.h"
#include "cpu/semantics/multiply_divide.h"
#include "cpu/semantics/stack.h"

#define VELLUM_GROUP_FILE "cpu/opcodes/integer.def"
#include "jit/stencils/group.inc"
