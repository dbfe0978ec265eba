// Floating-point operations that the host cannot do, or not with the flags that the guest expects.
#include "cpu/software_float.h"

#include <array>
#include <bit>

#include "cpu/exact_number.h"
#include "cpu/floating_environment.h"

namespace vellum {

namespace {

template <class U>
struct Layout;
template <>
struct Layout<u32> {
  static constexpr int kFraction = 23, kBias = 127;
};
template <>
struct Layout<u64> {
  static constexpr int kFraction = 52, kBias = 1023;
};
template <class U>
constexpr U kSign = U{1} << (8 * sizeof(U) - 1);
template <class U>
constexpr U kFractionMask = (U{1} << Layout<U>::kFraction) - 1;
template <class U>
constexpr U kExponentMask = ~kSign<U> & ~kFractionMask<U>;
template <class U>
constexpr U kQuiet = U{1} << (Layout<U>::kFraction - 1);

template <class U>
bool is_nan(U bits) { return (bits & ~kSign<U>) > kExponentMask<U>; }

// imm8 of ROUNDxx.
constexpr u8 kUseMxcsr = 4, kSuppressPrecision = 8;
enum Rounding : unsigned { kNearest, kDown, kUp, kTowardZero };

template <class U>
U round_value(U bits, u8 control, u32 mxcsr, u32& flags) {
  const bool negative = bits & kSign<U>;
  const U magnitude = bits & ~kSign<U>;
  if (is_nan(bits)) {
    if (!(bits & kQuiet<U>)) flags |= kMxcsrInvalid;
    return bits | kQuiet<U>;
  }
  if (magnitude == 0 || magnitude == kExponentMask<U>) return bits;
  if (!(magnitude & kExponentMask<U>) && (mxcsr & kMxcsrDenormalsAreZeros)) return bits & kSign<U>;
  const int exponent = static_cast<int>(magnitude >> Layout<U>::kFraction) - Layout<U>::kBias;
  if (exponent >= Layout<U>::kFraction) return bits;

  const unsigned mode = control & kUseMxcsr ? (mxcsr >> kMxcsrRoundingShift) & 3 : control & 3;
  const bool away = mode == kDown ? negative : mode == kUp && !negative;
  U result;
  if (exponent < 0) {
    const U one = static_cast<U>(Layout<U>::kBias) << Layout<U>::kFraction;
    const U half = one - (U{1} << Layout<U>::kFraction);
    const bool up = mode == kNearest ? magnitude > half : away;
    result = (up ? one : 0) | (bits & kSign<U>);
  } else {
    const U unit = U{1} << (Layout<U>::kFraction - exponent);
    const U rest = bits & (unit - 1);
    if (!rest) return bits;
    // The bit above the rest is the integer's lowest; for exponent 0 it is the exponent's lowest, which is set as well.
    const bool up = mode == kNearest ? rest > unit / 2 || (rest == unit / 2 && (bits & unit)) : away;
    result = (bits & ~(unit - 1)) + (up ? unit : 0);
  }
  if (!(control & kSuppressPrecision)) flags |= kMxcsrPrecision;
  return result;
}

template <class U>
U choose(U a, U b) {
  if (is_nan(a)) return a | kQuiet<U>;
  if (is_nan(b)) return b | kQuiet<U>;
  return kSign<U> | kExponentMask<U> | kQuiet<U>;
}

template <class U>
V128 choose_lanes(V128 result, V128 a, V128 b) {
  using Array = std::array<U, 16 / sizeof(U)>;
  auto lanes = std::bit_cast<Array>(result);
  const auto x = std::bit_cast<Array>(a), y = std::bit_cast<Array>(b);
  for (usize i = 0; i < lanes.size(); ++i)
    if (is_nan(lanes[i])) lanes[i] = choose(x[i], y[i]);
  return std::bit_cast<V128>(lanes);
}

template <class U>
bool is_signalling(U bits) { return is_nan(bits) && !(bits & kQuiet<U>); }
template <class U>
bool is_denormal(U bits) { return !(bits & kExponentMask<U>) && (bits & kFractionMask<U>); }
template <class U>
bool is_infinite(U bits) { return (bits & ~kSign<U>) == kExponentMask<U>; }
template <class U>
bool is_zero(U bits) { return !(bits & ~kSign<U>); }
template <class U>
constexpr U kDefaultNan = kSign<U> | kExponentMask<U> | kQuiet<U>;
template <class U>
constexpr const exact::Format& format() {
  if constexpr (sizeof(U) == 4) return exact::kSingle;
  else return exact::kDouble;
}

exact::RoundingMode rounding_of(u32 mxcsr) { return static_cast<exact::RoundingMode>((mxcsr >> kMxcsrRoundingShift) & 3); }

// A finite value that is not zero.
template <class U>
exact::Number number_of(U bits) {
  constexpr int kAlign = 127 - Layout<U>::kFraction;
  const U field = (bits & kExponentMask<U>) >> Layout<U>::kFraction;
  const u128 significand = (bits & kFractionMask<U>) | (field ? kFractionMask<U> + 1 : 0);
  return exact::normalized(bits & kSign<U>, static_cast<i32>(field ? field : 1) - Layout<U>::kBias, significand << kAlign);
}

template <class U>
U encode(const exact::Number& n, u32 mxcsr, u32& flags) {
  const U sign = n.negative ? kSign<U> : 0;
  const u32 masks = (mxcsr & kMxcsrMasks) >> kMxcsrMaskShift;
  const exact::Delivered d = exact::deliver(n, format<U>(), rounding_of(mxcsr), masks);
  if (d.tiny && (mxcsr & kMxcsrFlushToZero) && (masks & kMxcsrUnderflow)) {
    flags |= kMxcsrUnderflow | kMxcsrPrecision;
    return sign;
  }
  flags |= d.flags;
  if (d.infinite) return sign | kExponentMask<U>;
  // The integer bit of a normal number counts as the lowest bit of the exponent.
  const U biased = static_cast<U>(d.exponent - format<U>().min_exponent);
  return sign | (((biased << Layout<U>::kFraction) + static_cast<U>(d.significand)) & ~kSign<U>);
}

// An operation, up to rounding: a value that needs none, or a number.
template <class U>
struct Unrounded {
  bool finished;
  U value;
  exact::Number number;
};
template <class U>
Unrounded<U> compute(FloatStep step, U a, U b, u32 mxcsr, u32& flags) {
  const auto done = [](U value) { return Unrounded<U>{true, value, {}}; };
  const auto number = [](const exact::Number& n) { return Unrounded<U>{false, 0, n}; };
  const auto invalid = [&] {
    flags |= kMxcsrInvalid;
    return done(kDefaultNan<U>);
  };
  if (is_nan(a) || is_nan(b)) {
    if (is_signalling(a) || is_signalling(b)) flags |= kMxcsrInvalid;
    return done(choose(a, b));
  }
  if (mxcsr & kMxcsrDenormalsAreZeros) {
    if (is_denormal(a)) a &= kSign<U>;
    if (is_denormal(b)) b &= kSign<U>;
  }
  const u32 denormal = is_denormal(a) || is_denormal(b) ? kMxcsrDenormal : 0;
  const U sign = (a ^ b) & kSign<U>;
  switch (step) {
    case FloatStep::Subtract:
      b ^= kSign<U>;
      [[fallthrough]];
    case FloatStep::Add: {
      if (is_infinite(a) && is_infinite(b) && a != b) return invalid();
      flags |= denormal;
      if (is_infinite(a) || is_infinite(b)) return done(is_infinite(a) ? a : b);
      const U cancelled = rounding_of(mxcsr) == exact::RoundingMode::Down ? kSign<U> : 0;
      if (is_zero(a) && is_zero(b)) return done(a == b ? a : cancelled);
      if (is_zero(a)) return number(number_of(b));
      if (is_zero(b)) return number(number_of(a));
      const exact::Sum sum = exact::add(number_of(a), number_of(b));
      return sum.zero ? done(cancelled) : number(sum.number);
    }
    case FloatStep::Multiply:
      if ((is_infinite(a) && is_zero(b)) || (is_zero(a) && is_infinite(b))) return invalid();
      flags |= denormal;
      if (is_infinite(a) || is_infinite(b)) return done(sign | kExponentMask<U>);
      if (is_zero(a) || is_zero(b)) return done(sign);
      return number(exact::multiply(number_of(a), number_of(b)));
    case FloatStep::Divide:
      if ((is_infinite(a) && is_infinite(b)) || (is_zero(a) && is_zero(b))) return invalid();
      if (is_zero(b) && !is_infinite(a)) {
        flags |= kMxcsrDivideByZero;
        return done(sign | kExponentMask<U>);
      }
      flags |= denormal;
      if (is_infinite(a)) return done(sign | kExponentMask<U>);
      if (is_infinite(b) || is_zero(a)) return done(sign);
      return number(exact::divide(number_of(a), number_of(b)));
    case FloatStep::SquareRoot:
      if (is_zero(b)) return done(b);
      if (b & kSign<U>) return invalid();
      flags |= denormal;
      if (is_infinite(b)) return done(b);
      return number(exact::square_root(number_of(b)));
  }
  __builtin_unreachable();
}

template <class U>
U rounded_step(FloatStep step, U a, U b, u32 mxcsr, u32& flags) {
  const Unrounded<U> result = compute(step, a, b, mxcsr, flags);
  return result.finished ? result.value : encode<U>(result.number, mxcsr, flags);
}
template <class U>
V128 rounded_lanes(FloatStep step, V128 a, V128 b, u32 mxcsr, u32& flags) {
  using Array = std::array<U, 16 / sizeof(U)>;
  auto x = std::bit_cast<Array>(a);
  const auto y = std::bit_cast<Array>(b);
  for (usize i = 0; i < x.size(); ++i) x[i] = rounded_step(step, x[i], y[i], mxcsr, flags);
  return std::bit_cast<V128>(x);
}

template <class U>
bool step_inexact(FloatStep step, U a, U b, u32 mxcsr) {
  u32 flags = 0;
  const Unrounded<U> result = compute(step, a, b, mxcsr, flags);
  return !result.finished && exact::keep(result.number, format<U>().precision, rounding_of(mxcsr)).inexact;
}

// Operands that are compared, not computed with.
template <class U>
void settle(U& a, U& b, u32 mxcsr, u32& flags) {
  if (mxcsr & kMxcsrDenormalsAreZeros) {
    if (is_denormal(a)) a &= kSign<U>;
    if (is_denormal(b)) b &= kSign<U>;
  } else if ((is_denormal(a) || is_denormal(b)) && !is_nan(a) && !is_nan(b)) {
    flags |= kMxcsrDenormal;
  }
}
template <class U>
void settle_lanes(V128& a, V128& b, u32 mxcsr, u32& flags) {
  using Array = std::array<U, 16 / sizeof(U)>;
  auto x = std::bit_cast<Array>(a), y = std::bit_cast<Array>(b);
  for (usize i = 0; i < x.size(); ++i) settle(x[i], y[i], mxcsr, flags);
  a = std::bit_cast<V128>(x);
  b = std::bit_cast<V128>(y);
}

constexpr u32 kInfinity = kExponentMask<u32>, kHidden = u32{1} << 23;
constexpr u32 kSignificantBits = 12;  // behind the leading one

u64 integer_square_root(u64 value) {
  u64 root = 0;
  for (u64 bit = u64{1} << 31; bit; bit >>= 1)
    if ((root + bit) * (root + bit) <= value) root += bit;
  return root;
}

}  // namespace

u32 round_to_integral(u32 bits, u8 control, u32 mxcsr, u32& flags) { return round_value(bits, control, mxcsr, flags); }
u64 round_to_integral(u64 bits, u8 control, u32 mxcsr, u32& flags) { return round_value(bits, control, mxcsr, flags); }

u32 approximate_reciprocal(u32 bits) {
  const u32 sign = bits & kSign<u32>, magnitude = bits & ~kSign<u32>;
  if (is_nan(bits)) return bits | kQuiet<u32>;
  if (magnitude == kInfinity) return sign;
  if (magnitude < kHidden) return sign | kInfinity;
  const int exponent = static_cast<int>(magnitude >> 23) - 127;
  const u64 significand = (magnitude & kFractionMask<u32>) | kHidden;
  // 2^12 < quotient <= 2^13, times 2^(-13 - exponent).
  const u64 quotient = ((u64{1} << 36) + significand / 2) / significand;
  const i64 result = (i64{-1} - exponent + 127) * kHidden +
                     static_cast<i64>((quotient - (u64{1} << kSignificantBits)) << (23 - kSignificantBits));
  return result < static_cast<i64>(kHidden) ? sign : sign | static_cast<u32>(result);  // tiny results become zero
}

u32 approximate_reciprocal_square_root(u32 bits) {
  const u32 sign = bits & kSign<u32>, magnitude = bits & ~kSign<u32>;
  if (is_nan(bits)) return bits | kQuiet<u32>;
  if (magnitude < kHidden) return sign | kInfinity;
  if (sign) return choose<u32>(0, 0);
  if (magnitude == kInfinity) return 0;
  int exponent = static_cast<int>(magnitude >> 23) - 127;
  u64 significand = (magnitude & kFractionMask<u32>) | kHidden;
  if (exponent & 1) {
    significand *= 2;
    --exponent;
  }
  const u64 root = (integer_square_root((u64{1} << 51) / significand) + 1) / 2;  // 2^12 < root <= 2^13
  return static_cast<u32>((i64{-1} - exponent / 2 + 127) * kHidden +
                          static_cast<i64>((root - (u64{1} << kSignificantBits)) << (23 - kSignificantBits)));
}

bool inexact_without_bounds(FloatStep step, u32 a, u32 b, u32 mxcsr) { return step_inexact(step, a, b, mxcsr); }
bool inexact_without_bounds(FloatStep step, u64 a, u64 b, u32 mxcsr) { return step_inexact(step, a, b, mxcsr); }
bool narrowing_inexact_without_bounds(u64 bits, u32 mxcsr) {
  if (is_nan(bits) || is_infinite(bits) || is_zero(bits)) return false;
  if (is_denormal(bits) && (mxcsr & kMxcsrDenormalsAreZeros)) return false;
  return exact::keep(number_of(bits), exact::kSingle.precision, rounding_of(mxcsr)).inexact;
}

u32 exact_step(FloatStep step, u32 a, u32 b, u32 mxcsr, u32& flags) { return rounded_step(step, a, b, mxcsr, flags); }
u64 exact_step(FloatStep step, u64 a, u64 b, u32 mxcsr, u32& flags) { return rounded_step(step, a, b, mxcsr, flags); }
V128 exact_lanes_f32(FloatStep step, V128 a, V128 b, u32 mxcsr, u32& flags) {
  return rounded_lanes<u32>(step, a, b, mxcsr, flags);
}
V128 exact_lanes_f64(FloatStep step, V128 a, V128 b, u32 mxcsr, u32& flags) {
  return rounded_lanes<u64>(step, a, b, mxcsr, flags);
}

u32 exact_narrow(u64 bits, u32 mxcsr, u32& flags) {
  const u32 sign = static_cast<u32>(bits >> 32) & kSign<u32>;
  if (is_nan(bits)) {
    if (is_signalling(bits)) flags |= kMxcsrInvalid;
    return sign | kInfinity | kQuiet<u32> | static_cast<u32>((bits & kFractionMask<u64>) >> 29);
  }
  if (is_infinite(bits)) return sign | kInfinity;
  if (is_denormal(bits)) {
    if (mxcsr & kMxcsrDenormalsAreZeros) return sign;
    flags |= kMxcsrDenormal;
  }
  return is_zero(bits) ? sign : encode<u32>(number_of(bits), mxcsr, flags);
}

void settle_denormals(u32& a, u32& b, u32 mxcsr, u32& flags) { settle(a, b, mxcsr, flags); }
void settle_denormals(u64& a, u64& b, u32 mxcsr, u32& flags) { settle(a, b, mxcsr, flags); }
void settle_denormals_f32(V128& a, V128& b, u32 mxcsr, u32& flags) { settle_lanes<u32>(a, b, mxcsr, flags); }
void settle_denormals_f64(V128& a, V128& b, u32 mxcsr, u32& flags) { settle_lanes<u64>(a, b, mxcsr, flags); }

V128 chosen_nans_f32(V128 result, V128 a, V128 b) { return choose_lanes<u32>(result, a, b); }
V128 chosen_nans_f64(V128 result, V128 a, V128 b) { return choose_lanes<u64>(result, a, b); }
u32 chosen_nan(u32 a, u32 b) { return choose(a, b); }
u64 chosen_nan(u64 a, u64 b) { return choose(a, b); }

}  // namespace vellum
