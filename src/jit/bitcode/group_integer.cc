// The group "integer" for the optimizing translator, and what all groups share.
#include "cpu/core.h"
#include "cpu/semantics/bit.h"
#include "cpu/semantics/decimal.h"
#include "cpu/semantics/multiply_divide.h"
#include "cpu/semantics/stack.h"

#define VELLUM_GROUP integer
#define VELLUM_GROUP_FILE "cpu/opcodes/integer.def"
#include "jit/bitcode/group.inc"

// The bodies of vellum_condition() and vellum_flags(), for when the operation is known.
extern "C" bool vellum_condition_body(vellum::u8 code, vellum::FlagOperation operation, vellum::u64 result, vellum::u64 a, vellum::u64 b) {
  return vellum::condition_holds(code, {operation, result, a, b});
}
extern "C" vellum::u32 vellum_flags_body(vellum::FlagOperation operation, vellum::u64 result, vellum::u64 a, vellum::u64 b) {
  return vellum::arithmetic_flags({operation, result, a, b});
}
