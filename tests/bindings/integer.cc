// The group "integer" in the translators' bindings.
#include "cpu/core.h"
#include "cpu/semantics/bit.h"
#include "cpu/semantics/decimal.h"
#include "cpu/semantics/multiply_divide.h"
#include "cpu/semantics/stack.h"

#define VELLUM_GROUP_FILE "cpu/opcodes/integer.def"
#define VELLUM_INSTANTIATE instantiate_integer
#include "instantiate.inc"
