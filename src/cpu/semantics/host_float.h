// Floating-point primitives where hosts differ: comparisons, minimum and maximum, conversion to integers.
#pragma once

#include <limits>

#include "cpu/semantics/packed.h"

namespace vellum::semantics {

enum class HostExtreme : u8 { Minimum, Maximum };
enum class HostRounding : u8 { ByControl, Truncate };

#if defined(__x86_64__)

VELLUM_INLINE V128 host_equal(V128f32 a, V128f32 b) { return (V128)__builtin_ia32_cmpeqps(a, b); }
VELLUM_INLINE V128 host_less(V128f32 a, V128f32 b) { return (V128)__builtin_ia32_cmpltps(a, b); }
VELLUM_INLINE V128 host_less_or_equal(V128f32 a, V128f32 b) { return (V128)__builtin_ia32_cmpleps(a, b); }
VELLUM_INLINE V128 host_unordered(V128f32 a, V128f32 b) { return (V128)__builtin_ia32_cmpunordps(a, b); }
VELLUM_INLINE V128 host_equal(V128f64 a, V128f64 b) { return (V128)__builtin_ia32_cmpeqpd(a, b); }
VELLUM_INLINE V128 host_less(V128f64 a, V128f64 b) { return (V128)__builtin_ia32_cmpltpd(a, b); }
VELLUM_INLINE V128 host_less_or_equal(V128f64 a, V128f64 b) { return (V128)__builtin_ia32_cmplepd(a, b); }
VELLUM_INLINE V128 host_unordered(V128f64 a, V128f64 b) { return (V128)__builtin_ia32_cmpunordpd(a, b); }

template <HostExtreme Which>
VELLUM_INLINE V128f32 host_extreme(V128f32 a, V128f32 b) {
  return Which == HostExtreme::Minimum ? __builtin_ia32_minps(a, b) : __builtin_ia32_maxps(a, b);
}
template <HostExtreme Which>
VELLUM_INLINE V128f64 host_extreme(V128f64 a, V128f64 b) {
  return Which == HostExtreme::Minimum ? __builtin_ia32_minpd(a, b) : __builtin_ia32_maxpd(a, b);
}
template <HostExtreme Which>
VELLUM_INLINE float host_scalar_extreme(float a, float b) {
  const V128f32 x{a}, y{b};
  return Which == HostExtreme::Minimum ? __builtin_ia32_minss(x, y)[0] : __builtin_ia32_maxss(x, y)[0];
}
template <HostExtreme Which>
VELLUM_INLINE double host_scalar_extreme(double a, double b) {
  const V128f64 x{a}, y{b};
  return Which == HostExtreme::Minimum ? __builtin_ia32_minsd(x, y)[0] : __builtin_ia32_maxsd(x, y)[0];
}

// What does not fit becomes the integer indefinite, SDM Vol. 1 4.8.3.7.
template <HostRounding Rounding, class I>
VELLUM_INLINE I host_to_integer(float v) {
  const V128f32 x{v};
  if constexpr (sizeof(I) == 4) return Rounding == HostRounding::Truncate ? __builtin_ia32_cvttss2si(x) : __builtin_ia32_cvtss2si(x);
  else return Rounding == HostRounding::Truncate ? __builtin_ia32_cvttss2si64(x) : __builtin_ia32_cvtss2si64(x);
}
template <HostRounding Rounding, class I>
VELLUM_INLINE I host_to_integer(double v) {
  const V128f64 x{v};
  if constexpr (sizeof(I) == 4) return Rounding == HostRounding::Truncate ? __builtin_ia32_cvttsd2si(x) : __builtin_ia32_cvtsd2si(x);
  else return Rounding == HostRounding::Truncate ? __builtin_ia32_cvttsd2si64(x) : __builtin_ia32_cvtsd2si64(x);
}
template <HostRounding Rounding>
VELLUM_INLINE V128 host_to_i32(V128f32 v) {
  return Rounding == HostRounding::Truncate ? (V128)__builtin_ia32_cvttps2dq(v) : (V128)__builtin_ia32_cvtps2dq(v);
}
template <HostRounding Rounding>
VELLUM_INLINE V128 host_to_i32(V128f64 v) {
  return Rounding == HostRounding::Truncate ? (V128)__builtin_ia32_cvttpd2dq(v) : (V128)__builtin_ia32_cvtpd2dq(v);
}

// CF, PF and ZF as COMISS and UCOMISS set them, which no builtin tells all at once. They leave the assembler statement in
// registers: LLVM 19 may overwrite flags that are outputs before it has read all of them.
enum class HostCompare : u8 { Quiet, Signalling };
#define VELLUM_HOST_COMPARE(type, suffix)                                                                     \
  template <HostCompare Kind>                                                                                 \
  VELLUM_INLINE u32 host_compare(type a, type b) {                                                            \
    u8 c, z, p;                                                                                               \
    if constexpr (Kind == HostCompare::Quiet)                                                                 \
      asm volatile("ucomis" suffix " %4, %3\n\tsetb %0\n\tsete %1\n\tsetp %2" : "=r"(c), "=r"(z), "=r"(p) : "x"(a), "x"(b) : "cc"); \
    else                                                                                                      \
      asm volatile("comis" suffix " %4, %3\n\tsetb %0\n\tsete %1\n\tsetp %2" : "=r"(c), "=r"(z), "=r"(p) : "x"(a), "x"(b) : "cc");  \
    c &= 1, z &= 1, p &= 1;                                                                                   \
    return c * u32{kCf} | z * u32{kZf} | p * u32{kPf};                                                        \
  }
VELLUM_HOST_COMPARE(float, "s")
VELLUM_HOST_COMPARE(double, "d")
#undef VELLUM_HOST_COMPARE

#else

enum class HostCompare : u8 { Quiet, Signalling };
template <HostCompare Kind, class F>
VELLUM_INLINE u32 host_compare(F a, F b) {
  if constexpr (Kind == HostCompare::Signalling) {
    if (a > b) return 0;
  } else {
    if (__builtin_isgreater(a, b)) return 0;
  }
  if (__builtin_isless(a, b)) return kCf;
  return a == b ? kZf : kZf | kPf | kCf;
}

VELLUM_INLINE V128 host_equal(V128f32 a, V128f32 b) { return (V128)(a == b); }
VELLUM_INLINE V128 host_less(V128f32 a, V128f32 b) { return (V128)(a < b); }
VELLUM_INLINE V128 host_less_or_equal(V128f32 a, V128f32 b) { return (V128)(a <= b); }
VELLUM_INLINE V128 host_unordered(V128f32 a, V128f32 b) { return ~((V128)(a == a) & (V128)(b == b)); }
VELLUM_INLINE V128 host_equal(V128f64 a, V128f64 b) { return (V128)(a == b); }
VELLUM_INLINE V128 host_less(V128f64 a, V128f64 b) { return (V128)(a < b); }
VELLUM_INLINE V128 host_less_or_equal(V128f64 a, V128f64 b) { return (V128)(a <= b); }
VELLUM_INLINE V128 host_unordered(V128f64 a, V128f64 b) { return ~((V128)(a == a) & (V128)(b == b)); }

template <HostExtreme Which, class V>
VELLUM_INLINE V host_extreme(V a, V b) {
  return select(Which == HostExtreme::Minimum ? a < b : a > b, a, b);
}
template <HostExtreme Which, class T>
VELLUM_INLINE T host_scalar_extreme(T a, T b) {
  return (Which == HostExtreme::Minimum ? a < b : a > b) ? a : b;
}

template <HostRounding Rounding, class I, class F>
VELLUM_INLINE I host_to_integer(F v) {
  constexpr F kLimit = -static_cast<F>(std::numeric_limits<I>::min());  // 2^31 or 2^63
  const F rounded = Rounding == HostRounding::Truncate ? __builtin_elementwise_trunc(v) : __builtin_elementwise_rint(v);
  if (rounded >= -kLimit && rounded < kLimit) {
    if (Rounding == HostRounding::Truncate) return static_cast<I>(v);  // notes the loss of precision
    return static_cast<I>(rounded);
  }
  volatile F infinity = std::numeric_limits<F>::infinity();
  volatile F invalid = infinity - infinity;  // notes the invalid operation
  static_cast<void>(invalid);
  return std::numeric_limits<I>::min();
}
template <HostRounding Rounding>
VELLUM_INLINE V128 host_to_i32(V128f32 v) {
  V128i32 result;
  for (int i = 0; i < 4; ++i) result[i] = host_to_integer<Rounding, i32>(v[i]);
  return (V128)result;
}
template <HostRounding Rounding>
VELLUM_INLINE V128 host_to_i32(V128f64 v) {
  V128i32 result{};
  for (int i = 0; i < 2; ++i) result[i] = host_to_integer<Rounding, i32>(v[i]);
  return (V128)result;
}

#endif

}  // namespace vellum::semantics
