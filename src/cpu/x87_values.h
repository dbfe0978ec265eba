// What engines call for x87 operations on values, where x87_number.h does not know the answer: any operands and any
// rounding, with all exceptions masked. They touch no state, so registers of the guest may stay in registers of the host.
#pragma once

#include "cpu/x87_number.h"

namespace vellum::x87 {

// `environment`: the control word, and the status word above it. Signs and exponents come in pairs, a's below b's.
struct Answer {
  u64 significand;    // or the value for memory
  u32 sign_exponent;  // the status above it
};
VELLUM_INLINE Computed computed(Answer answer) {
  return {{answer.significand, answer.sign_exponent & 0xffff}, answer.sign_exponent >> 16, true};
}
VELLUM_INLINE u32 packed_environment(const CpuState& s) { return s.x87.control | u32{s.x87.status} << 16; }

#define VELLUM_VALUE_HELPER [[gnu::noinline, gnu::const]]
VELLUM_VALUE_HELPER Answer value_of(Binary op, u64 a, u64 b, u32 sign_exponents, u32 environment);
VELLUM_VALUE_HELPER Answer value_of_f32(Binary op, u64 a, u32 a_sign_exponent, u32 b, u32 environment);
VELLUM_VALUE_HELPER Answer value_of_f64(Binary op, u64 a, u32 a_sign_exponent, u64 b, u32 environment);
VELLUM_VALUE_HELPER Answer value_of_unary(Unary op, u64 a, u32 a_sign_exponent, u32 environment);
VELLUM_VALUE_HELPER Answer value_of_constant(Constant which, u32 environment);
VELLUM_VALUE_HELPER Answer value_from_f32(u32 bits, u32 environment);
VELLUM_VALUE_HELPER Answer value_from_f64(u64 bits, u32 environment);
VELLUM_VALUE_HELPER Answer value_to_float(unsigned size, u64 a, u32 a_sign_exponent, u32 environment);
VELLUM_VALUE_HELPER Answer value_to_integer(unsigned size, Rounding rounding, u64 a, u32 a_sign_exponent, u32 environment);
// The status.
VELLUM_VALUE_HELPER u32 order_of(Comparison kind, u64 a, u64 b, u32 sign_exponents, u32 environment);
VELLUM_VALUE_HELPER u32 order_of_f32(u64 a, u32 a_sign_exponent, u32 b, u32 environment);
VELLUM_VALUE_HELPER u32 order_of_f64(u64 a, u32 a_sign_exponent, u64 b, u32 environment);
#undef VELLUM_VALUE_HELPER

}  // namespace vellum::x87
