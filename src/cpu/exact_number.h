// Binary floating-point arithmetic by integers: exact values, and one rounding into any format with x86's exceptions.
#pragma once

#include <bit>

#include "state/integers.h"

namespace vellum::exact {

// In the encoding of RC in both the x87 control word and MXCSR, SDM Vol. 1 table 4-8.
enum class RoundingMode : u8 { Nearest, Down, Up, TowardZero };

// Exceptions, in the order of both status registers.
inline constexpr u32 kInvalid = 1, kDenormal = 2, kZeroDivide = 4, kOverflow = 8, kUnderflow = 16, kPrecision = 32;

// A value that is not zero: significand * 2^(exponent - 127), the significand's highest bit set. `sticky`: the exact
// value has further bits behind those.
struct Number {
  bool negative;
  i32 exponent;
  u128 significand;
  bool sticky = false;
};

inline int leading_zeros(u128 v) {
  const u64 high = static_cast<u64>(v >> 64);
  return high ? std::countl_zero(high) : 64 + std::countl_zero(static_cast<u64>(v));
}

// The number whose bit 127 counts 2^exponent; significand is not zero.
inline Number normalized(bool negative, i32 exponent, u128 significand, bool sticky = false) {
  const int shift = leading_zeros(significand);
  return {negative, exponent - shift, significand << shift, sticky};
}
inline Number from_integer(bool negative, u64 magnitude) { return normalized(negative, 63, u128{magnitude} << 64); }

// A sum, which may be zero (then `zero`).
struct Sum {
  Number number;
  bool zero;
};
// The significands have at most 126 bits, so that one bit more is left for the carry and one for what is shifted out.
inline Sum add(Number a, Number b) {
  if (a.exponent < b.exponent || (a.exponent == b.exponent && a.significand < b.significand)) std::swap(a, b);
  const u32 distance = static_cast<u32>(a.exponent - b.exponent);
  const u128 larger = a.significand >> 1, full = b.significand >> 1;
  const u128 smaller = distance > 127 ? 0 : full >> distance;
  const bool lost = distance > 127 ? true : (smaller << distance) != full;
  u128 sum;
  if (a.negative == b.negative) {
    sum = larger + smaller;
  } else {
    sum = larger - smaller - (lost ? 1 : 0);
    if (sum == 0) return {a, true};
  }
  return {normalized(a.negative, a.exponent + 1, sum, lost), false};
}
// Of significands with at most 64 bits, that is, with 64 zeros at the end; likewise the next two.
inline Number multiply(const Number& a, const Number& b) {
  const u128 product = (a.significand >> 64) * (b.significand >> 64);
  return normalized(a.negative != b.negative, a.exponent + b.exponent + 1, product);
}
inline Number divide(const Number& a, const Number& b) {
  const u128 dividend = a.significand >> 1;  // less than 2^127, and than 2^64 times the divisor
  const u64 divisor = static_cast<u64>(b.significand >> 64);
  const u64 high = static_cast<u64>(dividend / divisor);
  const u128 rest = (dividend % divisor) << 64;
  const u64 low = static_cast<u64>(rest / divisor);
  return normalized(a.negative != b.negative, a.exponent - b.exponent, u128{high} << 64 | low, rest % divisor != 0);
}
inline Number square_root(const Number& a) {
  // A radicand below 2^128 whose exponent is even: the root has 64 bits.
  const u128 radicand = a.exponent & 1 ? a.significand : a.significand >> 1;
  u128 root = 0, rest = radicand;
  for (int bit = 63; bit >= 0; --bit) {
    const u128 step = (root << (bit + 1)) + (u128{1} << (2 * bit));
    if (step <= rest) {
      rest -= step;
      root |= u128{1} << bit;
    }
  }
  // The rest is at most twice the root; more than once means that the fraction is over a half.
  const u128 half = rest > root ? u128{1} << 63 : 0;
  return {false, a.exponent >> 1, root << 64 | half, rest != 0};
}

// The highest `bits` bits (at most 64; 0 and less when the unit is above the number), rounded.
struct Kept {
  u128 units;
  bool inexact, up;
};
inline Kept keep(const Number& n, int bits, RoundingMode mode) {
  constexpr u128 kHalf = u128{1} << 127;
  const u128 units = bits > 0 ? n.significand >> (128 - bits) : 0;
  bool above = false, tie = false, inexact = true;
  if (bits >= 0) {
    const u128 rest = n.significand << bits;
    inexact = rest != 0 || n.sticky;
    above = rest > kHalf || (rest == kHalf && n.sticky);
    tie = rest == kHalf && !n.sticky;
  }
  bool up = false;
  switch (mode) {
    case RoundingMode::Nearest: up = above || (tie && (units & 1)); break;
    case RoundingMode::Down: up = inexact && n.negative; break;
    case RoundingMode::Up: up = inexact && !n.negative; break;
    case RoundingMode::TowardZero: break;
  }
  return {units + (up ? 1 : 0), inexact, up};
}

struct Format {
  int precision;  // bits of a significand, the integer bit among them
  i32 min_exponent, max_exponent;
  i32 wrap;       // added to an exponent below the range, or subtracted from one above, when the exception is unmasked
};
inline constexpr Format kSingle{24, -126, 127, 192}, kDouble{53, -1022, 1023, 1536};

// What an operation delivers in a format. SDM Vol. 1 4.9.1.4 to 4.9.1.6; tininess is detected after rounding.
struct Delivered {
  u64 significand;  // `precision` bits; without the highest one the value is denormal, or zero
  i32 exponent;     // of the highest bit
  u32 flags;
  bool infinite = false, up = false, tiny = false;
};
inline Delivered deliver(const Number& n, const Format& format, RoundingMode mode, u32 masks) {
  Kept kept = keep(n, format.precision, mode);
  i32 exponent = n.exponent;
  if (kept.units >> format.precision) {
    kept.units >>= 1;
    ++exponent;
  }
  Delivered result{static_cast<u64>(kept.units), exponent, kept.inexact ? kPrecision : 0, false, kept.up};
  if (exponent < format.min_exponent) {
    result.tiny = true;
    if (!(masks & kUnderflow)) {
      result.flags |= kUnderflow;
      result.exponent += format.wrap;
      return result;
    }
    const i32 missing = format.min_exponent - n.exponent;
    kept = keep(n, missing > format.precision ? -1 : format.precision - missing, mode);
    result = {static_cast<u64>(kept.units), format.min_exponent, kept.inexact ? kPrecision | kUnderflow : 0, false,
              kept.up, true};
  } else if (exponent > format.max_exponent) {
    if (!(masks & kOverflow)) {
      result.flags |= kOverflow;
      result.exponent -= format.wrap;
      return result;
    }
    const bool to_infinity = mode == RoundingMode::Nearest || mode == (n.negative ? RoundingMode::Down : RoundingMode::Up);
    const u64 ones = ~u64{0} >> (64 - format.precision);
    result = {ones, format.max_exponent, kOverflow | kPrecision, to_infinity, to_infinity};
  }
  return result;
}

}  // namespace vellum::exact
