// Operations that are computed exactly and rounded once: fused multiply-add, and conversions of half precision.
#include "cpu/exact_float.h"

#include <array>
#include <bit>
#include <utility>

#include "cpu/exact_number.h"
#include "cpu/floating_environment.h"

#pragma STDC FENV_ACCESS ON

namespace vellum {

namespace {

using exact::Number;
using exact::RoundingMode;

// An IEEE 754 interchange format: exact::Format and how it stands in memory.
struct Layout {
  exact::Format format;
  int width;
  constexpr u64 sign() const { return u64{1} << (width - 1); }
  constexpr u64 hidden() const { return u64{1} << (format.precision - 1); }
  constexpr u64 infinity() const { return sign() - hidden(); }
  constexpr u64 fraction_mask() const { return hidden() - 1; }
  constexpr u64 quiet() const { return hidden() >> 1; }
  constexpr u64 default_nan() const { return sign() | infinity() | quiet(); }
  constexpr bool is_nan(u64 bits) const { return (bits & ~sign()) > infinity(); }
  constexpr bool is_signalling(u64 bits) const { return is_nan(bits) && !(bits & quiet()); }
  constexpr bool is_infinite(u64 bits) const { return (bits & ~sign()) == infinity(); }
  constexpr bool is_zero(u64 bits) const { return (bits & ~sign()) == 0; }
  constexpr bool is_denormal(u64 bits) const { return !(bits & infinity()) && (bits & fraction_mask()); }
};
constexpr Layout kHalf{{11, -14, 15, 24}, 16}, kSingle{exact::kSingle, 32}, kDouble{exact::kDouble, 64};

// Finite and not zero.
Number unpack(const Layout& layout, u64 bits) {
  const int field = static_cast<int>((bits & layout.infinity()) >> (layout.format.precision - 1));
  const u64 fraction = bits & layout.fraction_mask();
  const i32 last_bit = layout.format.min_exponent - (layout.format.precision - 1);
  const bool negative = bits & layout.sign();
  if (field == 0) return exact::normalized(negative, last_bit + 127, fraction);
  return exact::normalized(negative, last_bit + field - 1 + 127, fraction | layout.hidden());
}

enum class Flush : u8 { Never, ByMxcsr };

u64 pack(const Layout& layout, const Number& number, RoundingMode mode, Flush flush, u32 mxcsr, u32& flags) {
  const u64 sign = number.negative ? layout.sign() : 0;
  const u32 masks = (mxcsr >> kMxcsrMaskShift) & kMxcsrFlags;
  const exact::Delivered delivered = exact::deliver(number, layout.format, mode, masks);
  if (delivered.tiny && (masks & kMxcsrUnderflow) && flush == Flush::ByMxcsr && (mxcsr & kMxcsrFlushToZero)) {
    flags |= kMxcsrUnderflow | kMxcsrPrecision;
    return sign;
  }
  flags |= delivered.flags;
  if (delivered.infinite) return sign | layout.infinity();
  if (!(delivered.significand & layout.hidden())) return sign | delivered.significand;
  // The exponent of an unmasked exception's result is out of range; nobody sees that result.
  const u64 field = static_cast<u64>(delivered.exponent - layout.format.min_exponent);  // the hidden bit adds 1
  return sign | ((field << (layout.format.precision - 1)) + delivered.significand);
}

RoundingMode rounding_of(u32 mxcsr) { return static_cast<RoundingMode>((mxcsr >> kMxcsrRoundingShift) & 3); }

u64 fused(const Layout& layout, u64 x, u64 y, u64 z, u32 mxcsr, u32& flags) {
  if (mxcsr & kMxcsrDenormalsAreZeros)
    for (u64* operand : {&x, &y, &z})
      if (layout.is_denormal(*operand)) *operand &= layout.sign();
  if (layout.is_signalling(x) || layout.is_signalling(y) || layout.is_signalling(z)) flags |= kMxcsrInvalid;
  if (layout.is_nan(x) || layout.is_nan(y) || layout.is_nan(z)) return layout.default_nan();
  const bool undefined_product =
      (layout.is_infinite(x) && layout.is_zero(y)) || (layout.is_zero(x) && layout.is_infinite(y));
  const u64 product_sign = (x ^ y) & layout.sign(), addend_sign = z & layout.sign();
  const bool infinite_product = layout.is_infinite(x) || layout.is_infinite(y);
  if (undefined_product || (infinite_product && layout.is_infinite(z) && product_sign != addend_sign)) {
    flags |= kMxcsrInvalid;
    return layout.default_nan();
  }
  if (layout.is_denormal(x) || layout.is_denormal(y) || layout.is_denormal(z)) flags |= kMxcsrDenormal;
  if (infinite_product) return layout.infinity() | product_sign;
  if (layout.is_infinite(z)) return z;

  const RoundingMode mode = rounding_of(mxcsr);
  const u64 zero = product_sign == addend_sign ? product_sign : mode == RoundingMode::Down ? layout.sign() : 0;
  const bool zero_product = layout.is_zero(x) || layout.is_zero(y);
  if (zero_product && layout.is_zero(z)) return zero;
  Number result;
  if (zero_product) {
    result = unpack(layout, z);
  } else {
    result = exact::multiply(unpack(layout, x), unpack(layout, y));
    if (!layout.is_zero(z)) {
      const exact::Sum sum = exact::add(result, unpack(layout, z));
      if (sum.zero) return zero;
      result = sum.number;
    }
  }
  return pack(layout, result, mode, Flush::ByMxcsr, mxcsr, flags);
}

template <class U>
V128 fused_lanes(const Layout& layout, V128 x, V128 y, V128 z, u32 mxcsr, u32& flags) {
  using Array = std::array<U, 16 / sizeof(U)>;
  const auto a = std::bit_cast<Array>(x), b = std::bit_cast<Array>(y), c = std::bit_cast<Array>(z);
  Array result;
  for (usize i = 0; i < result.size(); ++i) result[i] = static_cast<U>(fused(layout, a[i], b[i], c[i], mxcsr, flags));
  return std::bit_cast<V128>(result);
}

template <class U>
V128 chosen_lanes(const Layout& layout, V128 result, V128 x, V128 y, V128 z) {
  using Array = std::array<U, 16 / sizeof(U)>;
  auto lanes = std::bit_cast<Array>(result);
  const auto a = std::bit_cast<Array>(x), b = std::bit_cast<Array>(y), c = std::bit_cast<Array>(z);
  for (usize i = 0; i < lanes.size(); ++i) {
    if (!layout.is_nan(lanes[i])) continue;
    const u64 nan = layout.is_nan(a[i]) ? a[i] : layout.is_nan(b[i]) ? b[i] : layout.is_nan(c[i]) ? c[i] : layout.default_nan();
    lanes[i] = static_cast<U>(nan | layout.quiet());
  }
  return std::bit_cast<V128>(lanes);
}

// Whether the host may do it: it has the instruction, and exceptions need not be told one from the other.
#if defined(__x86_64__)
#define VELLUM_FUSED_TARGET [[gnu::target("fma")]]
const bool kHostFuses = __builtin_cpu_supports("fma");
#else
#define VELLUM_FUSED_TARGET
constexpr bool kHostFuses = true;
#endif
// A host without SSE agrees on results and flags but for NaNs (0 * infinity + NaN is invalid on Arm, not on x86), denormal
// operands, and tiny results, of which it is told afterwards.
template <class U>
bool is_plain(V128 v) {
  if constexpr (kHostHasSse) return true;
  constexpr U kInfinity = static_cast<U>((sizeof(U) == 4 ? kSingle : kDouble).infinity());
  for (const U lane : std::bit_cast<std::array<U, 16 / sizeof(U)>>(v)) {
    const U magnitude = lane & (~U{0} >> 1);
    if (magnitude >= kInfinity || (magnitude && !(magnitude & kInfinity))) return false;
  }
  return true;
}
template <class U>
bool is_tiny(V128 v) {
  if constexpr (kHostHasSse) return false;
  constexpr U kSmallestNormal = U{1} << ((sizeof(U) == 4 ? kSingle : kDouble).format.precision - 1);
  for (const U lane : std::bit_cast<std::array<U, 16 / sizeof(U)>>(v))
    if ((lane & (~U{0} >> 1)) <= kSmallestNormal) return true;
  return false;
}
template <class U>
bool host_suffices(V128 x, V128 y, V128 z, u32 mxcsr) {
  return kHostFuses && (mxcsr & kMxcsrMasks) == kMxcsrMasks && is_plain<U>(x) && is_plain<U>(y) && is_plain<U>(z);
}

VELLUM_FUSED_TARGET V128 host_fused_f32(V128 x, V128 y, V128 z) {
  return (V128)__builtin_elementwise_fma((V128f32)x, (V128f32)y, (V128f32)z);
}
VELLUM_FUSED_TARGET V128 host_fused_f64(V128 x, V128 y, V128 z) {
  return (V128)__builtin_elementwise_fma((V128f64)x, (V128f64)y, (V128f64)z);
}

}  // namespace

V128 fused_multiply_add_f32(V128 x, V128 y, V128 z, u32 mxcsr, u32& flags) {
  if (host_suffices<u32>(x, y, z, mxcsr)) {
    const V128 result = host_fused_f32(x, y, z);
    if (!is_tiny<u32>(result)) return result;
  }
  return fused_lanes<u32>(kSingle, x, y, z, mxcsr, flags);
}
V128 fused_multiply_add_f64(V128 x, V128 y, V128 z, u32 mxcsr, u32& flags) {
  if (host_suffices<u64>(x, y, z, mxcsr)) {
    const V128 result = host_fused_f64(x, y, z);
    if (!is_tiny<u64>(result)) return result;
  }
  return fused_lanes<u64>(kDouble, x, y, z, mxcsr, flags);
}

V128 fused_nans_f32(V128 result, V128 x, V128 y, V128 z) { return chosen_lanes<u32>(kSingle, result, x, y, z); }
V128 fused_nans_f64(V128 result, V128 x, V128 y, V128 z) { return chosen_lanes<u64>(kDouble, result, x, y, z); }

u32 half_to_single(u16 bits, u32& flags) {
  const u64 sign = bits & kHalf.sign() ? kSingle.sign() : 0;
  constexpr int kShift = kSingle.format.precision - kHalf.format.precision;
  if (kHalf.is_nan(bits)) {
    if (kHalf.is_signalling(bits)) flags |= kMxcsrInvalid;
    return static_cast<u32>(sign | kSingle.infinity() | kSingle.quiet() | (bits & kHalf.fraction_mask()) << kShift);
  }
  if (kHalf.is_infinite(bits)) return static_cast<u32>(sign | kSingle.infinity());
  if (kHalf.is_zero(bits)) return static_cast<u32>(sign);
  u32 none = 0;  // it is exact
  return static_cast<u32>(pack(kSingle, unpack(kHalf, bits), RoundingMode::Nearest, Flush::Never, kMxcsrReset, none));
}

u16 single_to_half(u32 bits, u8 control, u32 mxcsr, u32& flags) {
  const u64 sign = bits & kSingle.sign() ? kHalf.sign() : 0;
  constexpr int kShift = kSingle.format.precision - kHalf.format.precision;
  if (kSingle.is_nan(bits)) {
    if (kSingle.is_signalling(bits)) flags |= kMxcsrInvalid;
    return static_cast<u16>(sign | kHalf.infinity() | kHalf.quiet() | (bits & kSingle.fraction_mask()) >> kShift);
  }
  if (kSingle.is_infinite(bits)) return static_cast<u16>(sign | kHalf.infinity());
  if (kSingle.is_denormal(bits)) {
    if (mxcsr & kMxcsrDenormalsAreZeros) return static_cast<u16>(sign);
    flags |= kMxcsrDenormal;
  }
  if (kSingle.is_zero(bits)) return static_cast<u16>(sign);
  const RoundingMode mode = control & 4 ? rounding_of(mxcsr) : static_cast<RoundingMode>(control & 3);
  return static_cast<u16>(pack(kHalf, unpack(kSingle, bits), mode, Flush::Never, mxcsr, flags));
}

}  // namespace vellum
