// Floating-point primitives where hosts differ: denormal numbers, comparisons, minimum and maximum, conversion to integers.
#pragma once

#include <limits>

#include "cpu/floating_environment.h"
#include "cpu/semantics/packed.h"
#include "cpu/software_float.h"

namespace vellum::semantics {

enum class HostExtreme : u8 { Minimum, Maximum };
enum class HostRounding : u8 { ByControl, Truncate };

// The flags that an operation adds to begin with none; on hosts without SSE, MXCSR stands above them, for what follows.
VELLUM_INLINE u32 initial_flags(const CpuState& s) { return kHostHasSse ? 0 : s.mxcsr << 16; }
VELLUM_INLINE u32 guest_mxcsr(u32 flags) { return flags >> 16; }

// Lanes that are denormal: tested on integers, as nothing else leaves the flags alone.
template <class T, class V>
VELLUM_INLINE bool may_have_denormal(V v) {
  if constexpr (sizeof(T) == 4) return __builtin_reduce_or((as<u32>(v) & 0x7fffffff) - 1 < 0x7fffff) != 0;
  else return __builtin_reduce_or((as<u64>(v) & 0x7fffffffffffffff) - 1 < 0xfffffffffffff) != 0;
}
// Lanes from zero to the smallest normal number: what is tiny, or was before it was rounded.
template <class T, class V>
VELLUM_INLINE bool may_be_tiny(V v) {
  if constexpr (sizeof(T) == 4) return __builtin_reduce_or((as<u32>(v) & 0x7fffffff) <= 0x800000) != 0;
  else return __builtin_reduce_or((as<u64>(v) & 0x7fffffffffffffff) <= 0x10000000000000) != 0;
}

// Scalars as the lowest lanes of vectors.
template <class T>
VELLUM_INLINE V128 lowest(T value) { return from_array(std::array<T, 16 / sizeof(T)>{value}); }

// Op on lanes of type T. Without SSE the host computes with neither FTZ nor DAZ, and every case in which these, the
// denormal flag or the underflow flag could play a part is computed by integers.
template <class T, class Op, class V>
VELLUM_INLINE V host_arithmetic(V a, V b, u32& flags) {
  if constexpr (kHostHasSse) {
    return raw(Op::op(as<T>(a), as<T>(b)));
  } else {
    const u32 mxcsr = guest_mxcsr(flags);
    const auto exactly = [&] {
      return by_lanes([&](V128 x, V128 y) {
        return sizeof(T) == 4 ? exact_lanes_f32(Op::kStep, x, y, mxcsr, flags) : exact_lanes_f64(Op::kStep, x, y, mxcsr, flags);
      }, a, b);
    };
    if (may_have_denormal<T>(a) || may_have_denormal<T>(b)) [[unlikely]] return exactly();
    const V result = raw(Op::op(as<T>(a), as<T>(b)));
    if (Op::kStep != FloatStep::SquareRoot && may_be_tiny<T>(result)) [[unlikely]] return exactly();
    return result;
  }
}
// The same for scalars, given as their bits.
template <class T, class Op, class U>
VELLUM_INLINE U host_scalar_arithmetic(U a, U b, u32& flags) {
  if constexpr (kHostHasSse) {
    return std::bit_cast<U>(Op::op(std::bit_cast<T>(a), std::bit_cast<T>(b)));
  } else {
    constexpr U kMagnitude = ~U{0} >> 1, kSmallestNormal = U{1} << (sizeof(T) == 4 ? 23 : 52);
    const auto denormal = [](U v) { return (v & kMagnitude) - 1 < kSmallestNormal - 1; };
    if (denormal(a) || denormal(b)) [[unlikely]] return exact_step(Op::kStep, a, b, guest_mxcsr(flags), flags);
    const U result = std::bit_cast<U>(Op::op(std::bit_cast<T>(a), std::bit_cast<T>(b)));
    if (Op::kStep != FloatStep::SquareRoot && (result & kMagnitude) <= kSmallestNormal) [[unlikely]]
      return exact_step(Op::kStep, a, b, guest_mxcsr(flags), flags);
    return result;
  }
}

// Operands of what does not round: comparisons (which note denormal ones) and conversions (which do not).
enum class Denormals : u8 { Noted, Silent };
template <class T, Denormals Kind, class V>
VELLUM_INLINE void host_settle(V& a, V& b, u32& flags) {
  if constexpr (!kHostHasSse) {
    if (!may_have_denormal<T>(a) && !may_have_denormal<T>(b)) [[likely]] return;
    using Parts = std::array<V128, (sizeof(V) + 15) / 16>;
    Parts x{}, y{};
    std::memcpy(x.data(), &a, sizeof(V));
    std::memcpy(y.data(), &b, sizeof(V));
    u32 ignored = 0;
    for (usize i = 0; i < x.size(); ++i) {
      if constexpr (sizeof(T) == 4) settle_denormals_f32(x[i], y[i], guest_mxcsr(flags), Kind == Denormals::Noted ? flags : ignored);
      else settle_denormals_f64(x[i], y[i], guest_mxcsr(flags), Kind == Denormals::Noted ? flags : ignored);
    }
    std::memcpy(&a, x.data(), sizeof(V));
    std::memcpy(&b, y.data(), sizeof(V));
  }
}
template <class T, Denormals Kind, class U>
VELLUM_INLINE void host_settle_scalar(U& a, U& b, u32& flags) {
  if constexpr (!kHostHasSse) {
    u32 ignored = 0;
    settle_denormals(a, b, guest_mxcsr(flags), Kind == Denormals::Noted ? flags : ignored);
  }
}

// f(a, b) with settled operands. Where there is nothing to settle a and b stay as they are: variables that could change would
// cost moves between register files.
template <class T, Denormals Kind = Denormals::Noted, class V, class Function>
VELLUM_INLINE auto on_settled(V a, V b, u32& flags, Function f) {
  if constexpr (!kHostHasSse) host_settle<T, Kind>(a, b, flags);
  return f(a, b);
}
template <class T, Denormals Kind = Denormals::Noted, class U, class Function>
VELLUM_INLINE auto on_settled_scalars(U a, U b, u32& flags, Function f) {
  if constexpr (!kHostHasSse) host_settle_scalar<T, Kind>(a, b, flags);
  return f(a, b);
}

// Double to float, of vectors (the result has half the size) and of one value.
template <class V>
VELLUM_INLINE auto host_narrow(V v, u32& flags) {
  constexpr usize kSize = sizeof(V) / 2;
  const auto convert = [&] { return raw(__builtin_convertvector(as<double>(v), Lanes<float, kSize>)); };
  if constexpr (!kHostHasSse) {
    // What is tiny as a float, or zero.
    constexpr u64 kTiny = u64{1023 - 126} << 52;
    if (__builtin_reduce_or((as<u64>(v) & 0x7fffffffffffffff) <= kTiny) == 0) [[likely]] return convert();
    const auto doubles = to_array<u64>(v);
    std::array<u32, kSize / 4> lanes;
    for (usize i = 0; i < lanes.size(); ++i) lanes[i] = exact_narrow(doubles[i], guest_mxcsr(flags), flags);
    return from_array(lanes);
  } else {
    return convert();
  }
}

// CVTSS2SD and CVTSD2SS.
template <class From, class To, class U>
VELLUM_INLINE auto host_scalar_convert(U bits, u32& flags) {
  using Out = std::conditional_t<sizeof(To) == 4, u32, u64>;
  const auto convert = [&] { return std::bit_cast<Out>(static_cast<To>(std::bit_cast<From>(bits))); };
  if constexpr (!kHostHasSse && sizeof(From) == 8) {
    constexpr u64 kMagnitude = ~u64{0} >> 1;
    constexpr u64 kTiny = u64{1023 - 126} << 52;  // the smallest normal float
    if ((bits & kMagnitude) <= kTiny) [[unlikely]] return exact_narrow(bits, guest_mxcsr(flags), flags);
    return convert();
  } else {
    if constexpr (!kHostHasSse) {
      U same = bits;
      host_settle_scalar<From, Denormals::Noted>(bits, same, flags);
    }
    return convert();
  }
}

#if defined(__x86_64__) && !defined(VELLUM_PORTABLE_FLOAT)

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
  // Neither of these notes a loss of precision, which goes without saying for values out of range.
  const F rounded = Rounding == HostRounding::Truncate ? __builtin_elementwise_trunc(v) : __builtin_elementwise_nearbyint(v);
  if (rounded >= -kLimit && rounded < kLimit) {
    if (Rounding == HostRounding::Truncate) return static_cast<I>(v);
    return static_cast<I>(__builtin_elementwise_rint(v));
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
