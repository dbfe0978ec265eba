// Floating-point operations that the host cannot do, or not with the flags that the guest expects.
#include "cpu/software_float.h"

#include <array>
#include <bit>

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

#if defined(__x86_64__)

// The x87 FPU rounds to 24 or 53 bits, with 15 bits of exponent that nothing here leaves. SDM Vol. 1 8.1.5.
#define VELLUM_X87_STEP(load, operation)                                                                          \
  asm volatile("fnstcw %[saved]\n\tfnclex\n\tfldcw %[control]\n\t" load " %[a]\n\t" operation " %[b]\n\t"          \
               "fnstsw %[status]\n\tfstp %%st(0)\n\tfnclex\n\tfldcw %[saved]"                                      \
               : [saved] "=m"(saved), [status] "=m"(status)                                                       \
               : [control] "m"(control), [a] "m"(a), [b] "m"(b)                                                   \
               : "st", "st(1)", "memory")

constexpr u16 kX87Masked = 0x3f, kX87Single = 0, kX87Double = 0x200, kX87Precision = 0x20;
constexpr unsigned kX87RoundingShift = 10;

template <class U>
bool x87_inexact(FloatStep step, U a, U b, u32 mxcsr, u16 precision) {
  if (mxcsr & kMxcsrDenormalsAreZeros) {
    if (!(a & kExponentMask<U>)) a &= kSign<U>;
    if (!(b & kExponentMask<U>)) b &= kSign<U>;
  }
  const u16 control = static_cast<u16>(kX87Masked | precision | ((mxcsr >> kMxcsrRoundingShift) & 3) << kX87RoundingShift);
  u16 saved, status;
  if constexpr (sizeof(U) == 4) {
    switch (step) {
      case FloatStep::Add: VELLUM_X87_STEP("flds", "fadds"); break;
      case FloatStep::Subtract: VELLUM_X87_STEP("flds", "fsubs"); break;
      case FloatStep::Multiply: VELLUM_X87_STEP("flds", "fmuls"); break;
      case FloatStep::Divide: VELLUM_X87_STEP("flds", "fdivs"); break;
    }
  } else {
    switch (step) {
      case FloatStep::Add: VELLUM_X87_STEP("fldl", "faddl"); break;
      case FloatStep::Subtract: VELLUM_X87_STEP("fldl", "fsubl"); break;
      case FloatStep::Multiply: VELLUM_X87_STEP("fldl", "fmull"); break;
      case FloatStep::Divide: VELLUM_X87_STEP("fldl", "fdivl"); break;
    }
  }
  return status & kX87Precision;
}
#undef VELLUM_X87_STEP

#else

constexpr u16 kX87Single = 0, kX87Double = 0;
template <class U>
bool x87_inexact(FloatStep, U, U, u32, u16) { return true; }

#endif

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

bool inexact_without_bounds(FloatStep step, u32 a, u32 b, u32 mxcsr) { return x87_inexact(step, a, b, mxcsr, kX87Single); }
bool inexact_without_bounds(FloatStep step, u64 a, u64 b, u32 mxcsr) { return x87_inexact(step, a, b, mxcsr, kX87Double); }
bool narrowing_inexact_without_bounds(u64 bits, u32 mxcsr) {
  return x87_inexact(FloatStep::Multiply, bits, std::bit_cast<u64>(1.0), mxcsr, kX87Single);
}

V128 chosen_nans_f32(V128 result, V128 a, V128 b) { return choose_lanes<u32>(result, a, b); }
V128 chosen_nans_f64(V128 result, V128 a, V128 b) { return choose_lanes<u64>(result, a, b); }
u32 chosen_nan(u32 a, u32 b) { return choose(a, b); }
u64 chosen_nan(u64 a, u64 b) { return choose(a, b); }

}  // namespace vellum
