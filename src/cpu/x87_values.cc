// x87 operations on values, for engines that keep the register stack in the host's registers.
#include "cpu/x87_values.h"

namespace vellum::x87 {

namespace {

Environment unpacked(u32 environment) { return {static_cast<u16>(environment), static_cast<u16>(environment >> 16)}; }
X87Register in_register(u64 significand, u32 sign_exponent) { return {significand, static_cast<u16>(sign_exponent), {}}; }
constexpr u32 kNewStatus = kExceptions | kConditions;

u64 answer(const Result& result, u32* rest) {
  *rest = result.value.sign_exponent | u32{result.status & kNewStatus} << 16;
  return result.value.significand;
}
u64 answer(const StoreResult& result, u32* rest) {
  *rest = u32{result.status & kNewStatus} << 16;
  return result.low;
}
u64 answer(const Computed& result, u32* rest) {
  *rest = result.value.sign_exponent | result.status << 16;
  return result.value.significand;
}

// The six arithmetic operations on normal numbers and zeros, rounded to nearest with 64 bits.
VELLUM_INLINE Computed simple(Binary op, Number x, Number y) {
  if (every(is_normal(x), is_normal(y))) [[likely]] {
    switch (op) {
      case Binary::Add: return added(x, y);
      case Binary::Multiply: return multiplied(x, y);
      case Binary::Subtract: return added(x, negated(y));
      case Binary::SubtractReverse: return added(y, negated(x));
      case Binary::Divide: return divided(x, y);
      default: return divided(y, x);
    }
  }
  const u32 sign = (x.sign_exponent ^ y.sign_exponent) & kSignBit;
  if (op == Binary::Multiply) return {{0, sign}, 0, every(either(is_zero(x), is_zero(y)), either(is_normal(x), is_zero(x)), either(is_normal(y), is_zero(y)))};
  if (op == Binary::Divide) return {{0, sign}, 0, every(is_zero(x), is_normal(y))};
  if (op == Binary::DivideReverse) return {{0, sign}, 0, every(is_zero(y), is_normal(x))};
  const Number a = op == Binary::SubtractReverse ? negated(x) : x, b = op == Binary::Subtract ? negated(y) : y;
  if (is_zero(a)) return {b, 0, is_normal(b)};
  return {a, 0, every(is_normal(a), is_zero(b))};
}

}  // namespace

u64 value_of(Binary op, u64 a, u64 b, u32 sign_exponents, u32 environment, u32* rest) {
  const u32 first = sign_exponents & 0xffff, second = sign_exponents >> 16;
  const Number x{a, first}, y{b, second};
  if (rounds_simply(environment) && op <= Binary::DivideReverse) {
    const Computed result = simple(op, x, y);
    if (result.right) [[likely]] return answer(result, rest);
  }
  return answer(binary(op, in_register(a, first), in_register(b, second), unpacked(environment)), rest);
}
u64 value_of_f32(Binary op, u64 a, u32 a_sign_exponent, u32 b, u32 environment, u32* rest) {
  return answer(binary_f32(op, in_register(a, a_sign_exponent), b, unpacked(environment)), rest);
}
u64 value_of_f64(Binary op, u64 a, u32 a_sign_exponent, u64 b, u32 environment, u32* rest) {
  return answer(binary_f64(op, in_register(a, a_sign_exponent), b, unpacked(environment)), rest);
}
u64 value_of_unary(Unary op, u64 a, u32 a_sign_exponent, u32 environment, u32* rest) {
  return answer(unary(op, in_register(a, a_sign_exponent), unpacked(environment)), rest);
}
u64 value_of_constant(Constant which, u32 environment, u32* rest) { return answer(constant(which, unpacked(environment)), rest); }
u64 value_from_f32(u32 bits, u32 environment, u32* rest) { return answer(from_f32(bits, unpacked(environment)), rest); }
u64 value_from_f64(u64 bits, u32 environment, u32* rest) { return answer(from_f64(bits, unpacked(environment)), rest); }
u64 value_to_float(u32 size, u64 a, u32 a_sign_exponent, u32 environment, u32* rest) {
  const X87Register value = in_register(a, a_sign_exponent);
  return answer(size == 4 ? to_f32(value, unpacked(environment)) : to_f64(value, unpacked(environment)), rest);
}
u64 value_to_integer(u32 size, Rounding rounding, u64 a, u32 a_sign_exponent, u32 environment, u32* rest) {
  return answer(to_integer(in_register(a, a_sign_exponent), size, rounding, unpacked(environment)), rest);
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
