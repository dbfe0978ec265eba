// The interpreter's handlers of the group "integer".
#include "cpu/semantics/bit.h"
#include "cpu/semantics/decimal.h"
#include "cpu/semantics/multiply_divide.h"
#include "cpu/semantics/stack.h"

#define VELLUM_GROUP integer
#define VELLUM_GROUP_FILE "cpu/opcodes/integer.def"
#include "cpu/interpreter/group.inc"
