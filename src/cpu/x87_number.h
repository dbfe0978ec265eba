// x87 arithmetic by integers, in line, where nothing is special: normal numbers, rounded to nearest with 64 bits.
#pragma once

#include "cpu/flags.h"
#include "cpu/x87_arithmetic.h"

// On no host is an 80-bit number read or written, nor the x87 status read, in less time than these take, and what they work
// on stays in registers. Whoever calls them falls back to x87_values.h when the answer is not `right`.
namespace vellum::x87 {

struct Number {
  u64 significand;
  u32 sign_exponent;
};

struct Computed {
  Number value;
  u32 status;  // exceptions and C1
  bool right;  // the number and the status are what the FPU gives
};

inline constexpr u32 kExponentBias = 16383, kExponentMask = 0x7fff, kSignBit = 0x8000;
inline constexpr u64 kIntegerBitSet = u64{1} << 63;

// Conditions that are looked at together, without a branch for each.
template <class... Conditions>
VELLUM_INLINE bool every(Conditions... conditions) { return (static_cast<unsigned>(conditions) & ...) != 0; }
VELLUM_INLINE bool either(bool a, bool b) { return (static_cast<unsigned>(a) | static_cast<unsigned>(b)) != 0; }

// RC: to nearest; PC: 64 bits. SDM Vol. 1 8.1.5.
VELLUM_INLINE bool rounds_to_nearest(u32 control) { return (control & 0xc00) == 0; }
VELLUM_INLINE bool rounds_simply(u32 control) { return (control & 0xf00) == 0x300; }

VELLUM_INLINE bool is_normal(Number x) {
  return static_cast<i64>(x.significand) < 0 && ((x.sign_exponent + 1) & kExponentMask) > 1;
}
VELLUM_INLINE bool is_zero(Number x) { return x.significand == 0 && (x.sign_exponent & kExponentMask) == 0; }

// `high` with its top bit set, then `low`, times 2^(exponent - bias - 63). Far from overflow and underflow.
VELLUM_INLINE Computed rounded(u32 sign, i32 exponent, u64 high, u64 low) {
  const bool up = low > kIntegerBitSet - (high & 1);  // a tie goes to the even neighbour
  u64 significand = high + up;
  const bool carry = significand < high;
  significand |= u64{carry} << 63;
  exponent += carry;
  return {{significand, static_cast<u32>(exponent) | sign}, (low ? kPrecision : 0u) | (up ? kC1 : 0u),
          static_cast<u32>(exponent - 2) < kExponentMask - 3};
}

// `high` may begin with zeros, but is not 0.
VELLUM_INLINE Computed rounded_from(u32 sign, i32 exponent, u64 high, u64 low) {
  const u32 zeros = static_cast<u32>(__builtin_clzll(high | 1));
  return rounded(sign, exponent - static_cast<i32>(zeros), high << zeros | low >> 1 >> (63 - zeros), low << zeros);
}

VELLUM_INLINE Computed multiplied(Number a, Number b) {
  const auto product = static_cast<unsigned __int128>(a.significand) * b.significand;
  const i32 exponent = static_cast<i32>((a.sign_exponent & kExponentMask) + (b.sign_exponent & kExponentMask) - kExponentBias) + 1;
  return rounded_from((a.sign_exponent ^ b.sign_exponent) & kSignBit, exponent, static_cast<u64>(product >> 64), static_cast<u64>(product));
}

VELLUM_INLINE Computed added(Number a, Number b) {
  const i32 first = static_cast<i32>(a.sign_exponent & kExponentMask), second = static_cast<i32>(b.sign_exponent & kExponentMask);
  const bool exchange = first < second || (first == second && a.significand < b.significand);
  const u64 large = exchange ? b.significand : a.significand, small = exchange ? a.significand : b.significand;
  const u32 sign = (exchange ? b.sign_exponent : a.sign_exponent) & kSignBit;
  const i32 exponent = first > second ? first : second;
  const u32 distance = static_cast<u32>(first > second ? first - second : second - first);
  // Both have 128 bits, with room for a carry above; up to this distance no bit is lost.
  const bool near = distance <= 63;
  const u32 shift = distance & 63;
  const bool subtracts = (a.sign_exponent ^ b.sign_exponent) & kSignBit;
  const u64 mask = subtracts ? ~u64{0} : 0;
  const u64 low_half = large << 63, low_sum = low_half + (small << (63 - shift) ^ mask), low = low_sum + subtracts;
  const u64 high = (large >> 1) + (small >> 1 >> shift ^ mask) + (low_sum < low_half) + (low < low_sum);
  Computed result = rounded_from(sign, exponent + 1, high, low);
  result.right = every(result.right, near, high != 0);
  return result;
}

// b is not zero, nor anything special.
inline Computed divided(Number a, Number b) {
  const bool below = a.significand < b.significand;
  const auto dividend = static_cast<unsigned __int128>(a.significand) << (below ? 64 : 63);
  const u64 quotient = static_cast<u64>(dividend / b.significand);
  const u64 remainder = static_cast<u64>(dividend) - quotient * b.significand;
  // No quotient of two such numbers lies in the middle: above it, or below, is all that counts.
  const bool above = remainder > b.significand - remainder;
  const i32 exponent = static_cast<i32>((a.sign_exponent & kExponentMask) - (b.sign_exponent & kExponentMask) + kExponentBias) - below;
  Computed result = rounded((a.sign_exponent ^ b.sign_exponent) & kSignBit, exponent, quotient,
                            remainder == 0 ? 0 : above ? ~u64{0} : 1);
  return result;
}

VELLUM_INLINE Number negated(Number x) { return {x.significand, x.sign_exponent ^ kSignBit}; }

// Whether `quick` knows the operation.
template <Binary Op>
inline constexpr bool kIsQuick = Op == Binary::Add || Op == Binary::Multiply || Op == Binary::Subtract || Op == Binary::SubtractReverse;

// With `simple`, rounds_simply(). It is all looked at in the end, at once.
template <Binary Op>
VELLUM_INLINE Computed quick(Number a, Number b, bool simple) {
  Computed result;
  if constexpr (Op == Binary::Add) result = added(a, b);
  else if constexpr (Op == Binary::Multiply) result = multiplied(a, b);
  else if constexpr (Op == Binary::Subtract) result = added(a, negated(b));
  else result = added(b, negated(a));
  result.right = every(result.right, simple, is_normal(a), is_normal(b));
  return result;
}

// C3 and C0 as FCOM sets them. `right` unless something is neither normal nor zero.
struct Compared {
  u32 status;
  bool right;
};
VELLUM_INLINE Compared compared(Number a, Number b) {
  const u32 first = a.sign_exponent & kExponentMask, second = b.sign_exponent & kExponentMask;
  const bool same_exponent = first == second;
  const bool smaller = same_exponent ? a.significand < b.significand : first < second;
  const bool alike = same_exponent && a.significand == b.significand;
  const bool negative = a.sign_exponent & kSignBit, same_sign = ((a.sign_exponent ^ b.sign_exponent) & kSignBit) == 0;
  const bool zeros = (a.significand | b.significand) == 0;  // whatever their signs
  const bool equal = zeros || (same_sign && alike);
  const bool less = !equal && (same_sign ? smaller != negative : negative);
  const bool right = every(either(is_normal(a), is_zero(a)), either(is_normal(b), is_zero(b)));
  return {(less ? u32{kC0} : 0) | (equal ? u32{kC3} : 0), right};
}

// From memory. All but denormal numbers, infinities and NaNs.
VELLUM_INLINE Computed widened(u32 bits) {
  const u32 exponent = bits >> 23 & 0xff;
  const bool normal = exponent != 0;
  return {{u64{bits} << 40 | u64{normal} << 63 , (normal ? exponent + kExponentBias - 127 : 0) | (bits >> 16 & kSignBit)}, 0,
          every(exponent != 0xff, either(normal, bits << 1 == 0))};
}
VELLUM_INLINE Computed widened(u64 bits) {
  const u32 exponent = static_cast<u32>(bits >> 52) & 0x7ff;
  const bool normal = exponent != 0;
  return {{bits << 11 | u64{normal} << 63, (normal ? exponent + kExponentBias - 1023 : 0) | (static_cast<u32>(bits >> 48) & kSignBit)}, 0,
          every(exponent != 0x7ff, either(normal, bits << 1 == 0))};
}
VELLUM_INLINE Number from_whole(i64 value) {
  const u64 magnitude = value < 0 ? u64{0} - static_cast<u64>(value) : static_cast<u64>(value);
  const u32 zeros = static_cast<u32>(__builtin_clzll(magnitude | 1));
  if (magnitude == 0) return {0, 0};
  return {magnitude << zeros, (kExponentBias + 63 - zeros) | (value < 0 ? kSignBit : 0)};
}

// To a float or double, given as its bits.
struct Narrowed {
  u64 bits;
  u32 status;
  bool right;
};
template <unsigned Size>
VELLUM_INLINE Narrowed narrowed(Number x, u32 control) {
  constexpr unsigned kFraction = Size == 4 ? 23 : 52, kDropped = 63 - kFraction;
  constexpr u32 kBias = Size == 4 ? 127 : 1023;
  const u64 low = x.significand << (64 - kDropped);
  const u64 high = x.significand >> kDropped;
  const bool up = low > kIntegerBitSet - (high & 1);
  const u32 exponent = (x.sign_exponent & kExponentMask) - (kExponentBias - kBias);
  const u64 sign = static_cast<u64>(x.sign_exponent & kSignBit) << (Size == 4 ? 16 : 48);
  // The integer bit counts as the lowest of the exponent, and a carry goes there.
  const u64 bits = (static_cast<u64>(exponent - 1) << kFraction) + high + up;
  const bool zero = is_zero(x);
  const bool normal = every(is_normal(x), exponent - 2 < 2 * kBias - 3);
  return {(zero ? 0 : bits) | sign, zero ? 0 : (low ? kPrecision : 0u) | (up ? kC1 : 0u), every(either(normal, zero), rounds_to_nearest(control))};
}

// To a signed integer; what may not fit, and what lies between -1 and 1, is not `right`.
VELLUM_INLINE Narrowed whole(Number x, unsigned size, bool truncates, u32 control) {
  const u32 exponent = (x.sign_exponent & kExponentMask) - kExponentBias;
  const u32 shift = (63 - exponent) & 63;
  const u64 magnitude = x.significand >> shift;
  const u64 low = x.significand << 1 << (63 - shift);  // below one half when nothing is dropped, as shift is not 0 then
  const bool truncating = truncates || (control & 0xc00) == 0xc00;
  const bool up = !truncating && low > kIntegerBitSet - (magnitude & 1);
  const u64 rounded_magnitude = magnitude + up;
  const bool zero = is_zero(x);
  const u64 value = x.sign_exponent & kSignBit ? u64{0} - rounded_magnitude : rounded_magnitude;
  const bool fits = exponent < size * 8 - 2;  // unsigned: not below 0 either
  return {zero ? 0 : value, zero ? 0 : (low ? kPrecision : 0u) | (up ? kC1 : 0u),
          every(either(every(is_normal(x), fits), zero), either(truncating, rounds_to_nearest(control)))};
}

}  // namespace vellum::x87
