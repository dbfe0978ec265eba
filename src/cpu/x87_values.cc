// x87 operations on values, for engines that keep the register stack in the host's registers.
#include "cpu/x87_values.h"

namespace vellum::x87 {

namespace {

Environment unpacked(u32 environment) { return {static_cast<u16>(environment), static_cast<u16>(environment >> 16)}; }
X87Register in_register(u64 significand, u32 sign_exponent) { return {significand, static_cast<u16>(sign_exponent), {}}; }
constexpr u32 kNewStatus = kExceptions | kConditions;

Answer answer(const X87Register& value, u32 status) {
  return {value.significand, value.sign_exponent | (status & kNewStatus) << 16};
}
Answer answer(const Result& result) { return answer(result.value, result.status); }
Answer answer(const StoreResult& result) { return {result.low, u32{result.status & kNewStatus} << 16}; }
Answer answer(const Computed& result) { return {result.value.significand, result.value.sign_exponent | result.status << 16}; }

}  // namespace

Answer value_of(Binary op, u64 a, u64 b, u32 sign_exponents, u32 environment) {
  const u32 first = sign_exponents & 0xffff, second = sign_exponents >> 16;
  if (op == Binary::Divide || op == Binary::DivideReverse) {
    const Number x{a, first}, y{b, second};
    if (rounds_simply(environment) && is_normal(x) && is_normal(y)) {
      const Computed quotient = op == Binary::Divide ? divided(x, y) : divided(y, x);
      if (quotient.right) [[likely]] return answer(quotient);
    }
  }
  return answer(binary(op, in_register(a, first), in_register(b, second), unpacked(environment)));
}
Answer value_of_f32(Binary op, u64 a, u32 a_sign_exponent, u32 b, u32 environment) {
  return answer(binary_f32(op, in_register(a, a_sign_exponent), b, unpacked(environment)));
}
Answer value_of_f64(Binary op, u64 a, u32 a_sign_exponent, u64 b, u32 environment) {
  return answer(binary_f64(op, in_register(a, a_sign_exponent), b, unpacked(environment)));
}
Answer value_of_unary(Unary op, u64 a, u32 a_sign_exponent, u32 environment) {
  return answer(unary(op, in_register(a, a_sign_exponent), unpacked(environment)));
}
Answer value_of_constant(Constant which, u32 environment) { return answer(constant(which, unpacked(environment))); }
Answer value_from_f32(u32 bits, u32 environment) { return answer(from_f32(bits, unpacked(environment))); }
Answer value_from_f64(u64 bits, u32 environment) { return answer(from_f64(bits, unpacked(environment))); }
Answer value_to_float(unsigned size, u64 a, u32 a_sign_exponent, u32 environment) {
  const X87Register value = in_register(a, a_sign_exponent);
  return answer(size == 4 ? to_f32(value, unpacked(environment)) : to_f64(value, unpacked(environment)));
}
Answer value_to_integer(unsigned size, Rounding rounding, u64 a, u32 a_sign_exponent, u32 environment) {
  return answer(to_integer(in_register(a, a_sign_exponent), size, rounding, unpacked(environment)));
}
u32 order_of(Comparison kind, u64 a, u64 b, u32 sign_exponents, u32 environment) {
  return compare(kind, in_register(a, sign_exponents & 0xffff), in_register(b, sign_exponents >> 16), unpacked(environment));
}
u32 order_of_f32(u64 a, u32 a_sign_exponent, u32 b, u32 environment) {
  return compare_f32(in_register(a, a_sign_exponent), b, unpacked(environment));
}
u32 order_of_f64(u64 a, u32 a_sign_exponent, u64 b, u32 environment) {
  return compare_f64(in_register(a, a_sign_exponent), b, unpacked(environment));
}

}  // namespace vellum::x87
