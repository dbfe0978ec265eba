// What engines call for x87 operations on values, where x87_number.h does not know the answer: any operands and any
// rounding, with all exceptions masked. They touch no state, so registers of the guest may stay in registers of the host.
#pragma once

#include "cpu/x87_number.h"

namespace vellum::x87 {

// `environment`: the control word, and the status word above it. Signs and exponents come in pairs, a's below b's. What is
// returned is the significand, or the value for memory; `rest` gets the sign and exponent, and the status above it.

u64 value_of(Binary op, u64 a, u64 b, u32 sign_exponents, u32 environment, u32* rest);
u64 value_of_f32(Binary op, u64 a, u32 a_sign_exponent, u32 b, u32 environment, u32* rest);
u64 value_of_f64(Binary op, u64 a, u32 a_sign_exponent, u64 b, u32 environment, u32* rest);
u64 value_of_unary(Unary op, u64 a, u32 a_sign_exponent, u32 environment, u32* rest);
u64 value_of_constant(Constant which, u32 environment, u32* rest);
u64 value_from_f32(u32 bits, u32 environment, u32* rest);
u64 value_from_f64(u64 bits, u32 environment, u32* rest);
u64 value_to_float(u32 size, u64 a, u32 a_sign_exponent, u32 environment, u32* rest);
u64 value_to_integer(u32 size, Rounding rounding, u64 a, u32 a_sign_exponent, u32 environment, u32* rest);
// The status.
u32 order_of(Comparison kind, u64 a, u64 b, u32 sign_exponents, u32 environment);
u32 order_of_f32(u64 a, u32 a_sign_exponent, u32 b, u32 environment);
u32 order_of_f64(u64 a, u32 a_sign_exponent, u64 b, u32 environment);

// What one of these functions answers.
template <auto Function, class... Arguments>
VELLUM_INLINE Computed asked(Arguments... arguments) {
  u32 rest;
  const u64 significand = Function(arguments..., &rest);
  return {{significand, rest & 0xffff}, rest >> 16, true};
}

}  // namespace vellum::x87
