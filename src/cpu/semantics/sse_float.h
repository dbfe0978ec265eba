// SSE to SSE4.1 floating point, SDM Vol. 1 5.5 to 5.10. Translation units that include this have FENV_ACCESS on.
#pragma once

#include "cpu/floating_environment.h"
#include "cpu/semantics/host_float.h"
#include "cpu/semantics/packed.h"
#include "cpu/software_float.h"

namespace vellum::semantics {

// The unsigned integer that holds a float or double.
template <class T>
using BitsOf = std::conditional_t<sizeof(T) == 4, u32, u64>;
template <class T>
using Packed128 = Lanes<T, 16>;

// Out-of-line: the guest unmasks an exception, so the flags of this one instruction matter.
template <class C, class Function, class Inexact>
[[gnu::noinline]] auto observed_sse_operation(C& c, Function& function, Inexact& inexact) {
  using Result = decltype(function(std::declval<u32&>()));
  struct Run {
    Function& function;
    u32 software_flags;
    Result result;
  } run{function, 0, {}};
  u32 flags = observe_sse_flags(c.state(), [](void* data) {
    Run& r = *static_cast<Run*>(data);
    r.result = r.function(r.software_flags);
  }, &run);
  const u32 mxcsr = c.state().mxcsr;
  // A lane with the masked response to overflow or underflow is inexact; one with the unmasked response need not be.
  const u32 out_of_range = flags & (kMxcsrOverflow | kMxcsrUnderflow);
  if (out_of_range && !(out_of_range & (mxcsr >> kMxcsrMaskShift)) && (flags & kMxcsrPrecision) && !inexact(mxcsr))
    flags &= ~kMxcsrPrecision;
  if (sse_exception_due(c.state(), flags | run.software_flags))
    c.raise(c.state().cr4 & kCr4Osxmmexcpt ? Vector::SimdFloatingPoint : Vector::InvalidOpcode, 0);
  return run.result;
}

// For operations whose results always fit, or are inexact whenever they do not.
struct AlwaysInexact {
  bool operator()(u32) const { return true; }
};

// Does the arithmetic of an instruction: function(flags) returns the result and adds to `flags` what it raises without
// the host's knowledge. It may run twice. Whatever faults by an unmasked exception faults here. inexact(mxcsr) tells
// whether a result out of range would be inexact even so; see inexact_without_bounds().
template <class C, class Function, class Inexact = AlwaysInexact>
VELLUM_INLINE auto sse_operation(C& c, Function function, Inexact inexact = {}) {
  if constexpr (!C::kSseMasked) {
    if (c.state().sse_unmasked) [[unlikely]] {
      C context = c;  // copies, so that the originals can stay in registers
      Function function_copy = function;
      Inexact inexact_copy = inexact;
      return observed_sse_operation(context, function_copy, inexact_copy);
    }
  }
  u32 flags = 0;
  const auto result = function(flags);
  if (flags) c.state().mxcsr |= flags;
  return result;
}

// Whether a lane may be a NaN (for doubles, or infinite): tested on integers, as a comparison would raise flags.
template <class T>
VELLUM_INLINE bool may_have_nan(V128 v) {
  const auto magnitude = as<i32>(v) & 0x7fffffff;
  if constexpr (sizeof(T) == 4) return __builtin_reduce_or(magnitude > 0x7f800000) != 0;
  else return __builtin_reduce_or((magnitude > 0x7fefffff) & Lanes<i32, 16>{0, -1, 0, -1}) != 0;
}
template <class U>
VELLUM_INLINE bool is_nan_bits(U v) {
  if constexpr (sizeof(U) == 4) return (v & 0x7fffffff) > 0x7f800000;
  else return (v & 0x7fffffffffffffff) > 0x7ff0000000000000;
}
// The result of an operation on a and b with the NaNs that SSE delivers, whichever operand the host preferred.
template <class T>
VELLUM_INLINE V128 with_nans(V128 result, V128 a, V128 b) {
  if (may_have_nan<T>(result)) [[unlikely]]
    return sizeof(T) == 4 ? chosen_nans_f32(result, a, b) : chosen_nans_f64(result, a, b);
  return result;
}
template <class U>
VELLUM_INLINE U with_nan(U result, U a, U b) {
  if (is_nan_bits(result)) [[unlikely]] return chosen_nan(a, b);
  return result;
}

// Operations, on vectors and on scalars.
struct FloatAdd {
  static constexpr FloatStep kStep = FloatStep::Add;
  template <class V> VELLUM_INLINE static V op(V a, V b) { return a + b; }
};
struct FloatSubtract {
  static constexpr FloatStep kStep = FloatStep::Subtract;
  template <class V> VELLUM_INLINE static V op(V a, V b) { return a - b; }
};
struct FloatMultiply {
  static constexpr FloatStep kStep = FloatStep::Multiply;
  template <class V> VELLUM_INLINE static V op(V a, V b) { return a * b; }
};
struct FloatDivide {
  static constexpr FloatStep kStep = FloatStep::Divide;
  template <class V> VELLUM_INLINE static V op(V a, V b) { return a / b; }
};
struct FloatSquareRoot {
  template <class V> VELLUM_INLINE static V op(V v) { return __builtin_elementwise_sqrt(v); }
};

// The lanes of one operation on a and b, with SSE's NaNs.
template <class T, class Op, class C>
VELLUM_INLINE V128 packed_float(C& c, V128 a, V128 b) {
  const V128 result = sse_operation(
      c, [=](u32&) { return raw(Op::op((Packed128<T>)a, (Packed128<T>)b)); },
      [=](u32 mxcsr) {
        const auto x = to_array<BitsOf<T>>(a), y = to_array<BitsOf<T>>(b);
        for (usize i = 0; i < x.size(); ++i)
          if (inexact_without_bounds(Op::kStep, x[i], y[i], mxcsr)) return true;
        return false;
      });
  return with_nans<T>(result, a, b);
}

// destination = destination Op source, with SSE's NaNs.
template <class T, class Op>
struct FloatPacked {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const V128 b = read_packed<1>(c), a = read_packed<0>(c);
    c.template write<0>(packed_float<T, Op>(c, a, b));
  }
};
template <class T, class Op>
struct FloatScalar {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const BitsOf<T> b = c.template read<1>(), a = c.template read<0>();
    const BitsOf<T> result = sse_operation(
        c, [=](u32&) { return std::bit_cast<BitsOf<T>>(Op::op(std::bit_cast<T>(a), std::bit_cast<T>(b))); },
        [=](u32 mxcsr) { return inexact_without_bounds(Op::kStep, a, b, mxcsr); });
    c.template write<0>(with_nan(result, a, b));
  }
};
template <class T>
struct FloatPackedSquareRoot {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const V128 b = read_packed<1>(c);
    const V128 result = sse_operation(c, [=](u32&) { return raw(FloatSquareRoot::op((Packed128<T>)b)); });
    c.template write<0>(with_nans<T>(result, b, b));
  }
};
template <class T>
struct FloatScalarSquareRoot {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const BitsOf<T> b = c.template read<1>();
    const BitsOf<T> result =
        sse_operation(c, [=](u32&) { return std::bit_cast<BitsOf<T>>(FloatSquareRoot::op(std::bit_cast<T>(b))); });
    c.template write<0>(with_nan(result, b, b));
  }
};

// MIN, MAX: the source if either operand is a NaN or both are zeros, SDM Vol. 2B "MINPS". NaNs pass unchanged.
template <class T, HostExtreme Which>
struct FloatPackedExtreme {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const V128 b = read_packed<1>(c), a = read_packed<0>(c);
    c.template write<0>(sse_operation(
        c, [=](u32&) { return raw(host_extreme<Which>((Packed128<T>)a, (Packed128<T>)b)); }));
  }
};
template <class T, HostExtreme Which>
struct FloatScalarExtreme {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const BitsOf<T> b = c.template read<1>(), a = c.template read<0>();
    c.template write<0>(sse_operation(c, [=](u32&) {
      return std::bit_cast<BitsOf<T>>(host_scalar_extreme<Which>(std::bit_cast<T>(a), std::bit_cast<T>(b)));
    }));
  }
};

// ADDSUBPS, ADDSUBPD: the difference in even lanes, the sum in odd ones. a - b is a + (-b) in every bit but a NaN's.
template <class T>
struct FloatAddSubtract {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    constexpr V128 kEvenSigns = sizeof(T) == 4 ? V128{0x80000000, 0x80000000} : V128{u64{1} << 63, 0};
    const V128 b = read_packed<1>(c), a = read_packed<0>(c);
    // A NaN that came from b has its sign to get back; NaNs of a are never touched.
    const V128 result = packed_float<T, FloatAdd>(c, a, b ^ kEvenSigns);
    c.template write<0>(with_nans<T>(result, a, b));
  }
};
// HADDPS, HADDPD, HSUBPS, HSUBPD.
template <class T, class Op>
struct FloatHorizontal {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const V128 b = read_packed<1>(c), a = read_packed<0>(c);
    const V128 even = raw(alternate_lanes<0>(as<BitsOf<T>>(a), as<BitsOf<T>>(b)));
    const V128 odd = raw(alternate_lanes<1>(as<BitsOf<T>>(a), as<BitsOf<T>>(b)));
    c.template write<0>(packed_float<T, Op>(c, even, odd));
  }
};

// DPPS, DPPD: products of the lanes that imm8[7:4] chooses, summed pairwise, into the lanes that imm8[3:0] chooses.
template <class T>
struct FloatDotProduct {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using U = BitsOf<T>;
    constexpr usize kLanes = 16 / sizeof(T);
    const V128 b = read_packed<1>(c), a = read_packed<0>(c);
    const u8 control = static_cast<u8>(c.immediate());
    std::array<U, kLanes> chosen{}, delivered{};
    for (usize i = 0; i < kLanes; ++i) {
      chosen[i] = control >> (4 + i) & 1 ? ~U{0} : U{0};
      delivered[i] = control >> i & 1 ? ~U{0} : U{0};
    }
    const V128 x = a & from_array(chosen), y = b & from_array(chosen);
    // Each step reports its exceptions before the next begins, SDM Vol. 2A "DPPS".
    V128 sum = packed_float<T, FloatMultiply>(c, x, y);
    for (usize step = 1; step < kLanes; step *= 2) {
      const V128 left = raw(alternate_lanes<0>(as<U>(sum), as<U>(sum)));
      const V128 right = raw(alternate_lanes<1>(as<U>(sum), as<U>(sum)));
      sum = packed_float<T, FloatAdd>(c, left, right);
    }
    c.template write<0>(sum & from_array(delivered));
  }
};

// CMPPS and the like with their eight predicates, SDM Vol. 2A table 3-1: 0 EQ, 1 LT, 2 LE, 3 UNORD, and their negations.
template <class T>
struct FloatPackedCompare {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const V128 b = read_packed<1>(c), a = read_packed<0>(c);
    const u8 predicate = c.immediate() & 7;
    const V128 result = sse_operation(c, [=](u32&) {
      const auto x = (Packed128<T>)a, y = (Packed128<T>)b;
      switch (predicate & 3) {
        case 0: return host_equal(x, y);
        case 1: return host_less(x, y);
        case 2: return host_less_or_equal(x, y);
        default: return host_unordered(x, y);
      }
    });
    c.template write<0>(predicate & 4 ? ~result : result);
  }
};
template <class T>
struct FloatScalarCompare {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const BitsOf<T> b = c.template read<1>(), a = c.template read<0>();
    const u8 predicate = c.immediate() & 7;
    const bool holds = sse_operation(c, [=](u32&) {
      const T x = std::bit_cast<T>(a), y = std::bit_cast<T>(b);
      switch (predicate & 3) {
        case 0: return x == y;
        case 1: return x < y;
        case 2: return x <= y;
        default: return static_cast<bool>(__builtin_isunordered(x, y));
      }
    });
    c.template write<0>(holds != ((predicate & 4) != 0) ? ~BitsOf<T>{0} : BitsOf<T>{0});
  }
};

// COMISS (invalid for any NaN) and UCOMISS (invalid for signalling ones), SDM Vol. 2A "COMISS".
enum class NanComparison : u8 { Signalling, Quiet };
template <class T, NanComparison Nans>
struct FloatCompareToFlags {
  static constexpr FlagEffect kFlags{kArithmeticFlags, 0};
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const BitsOf<T> b = c.template read<1>(), a = c.template read<0>();
    const u32 flags = sse_operation(c, [=](u32&) -> u32 {
      const T x = std::bit_cast<T>(a), y = std::bit_cast<T>(b);
      if constexpr (Nans == NanComparison::Signalling) {
        if (x > y) return 0;
      } else {
        if (__builtin_isgreater(x, y)) return 0;
      }
      if (__builtin_isless(x, y)) return kCf;
      return x == y ? kZf : kZf | kPf | kCf;
    });
    c.set_explicit_flags(flags);
  }
};

// Conversions. Widths are those of the operands in the row.
template <class From, class To>
struct FloatScalarConvert {  // CVTSS2SD, CVTSD2SS
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const BitsOf<From> b = c.template read<1>();
    c.template write<0>(sse_operation(
        c, [=](u32&) { return std::bit_cast<BitsOf<To>>(static_cast<To>(std::bit_cast<From>(b))); },
        [=](u32 mxcsr) {
          if constexpr (sizeof(From) == 8) return narrowing_inexact_without_bounds(b, mxcsr);
          else return true;
        }));
  }
};
struct ConvertPackedToDouble {  // CVTPS2PD
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const u64 b = c.template read<1>();
    c.template write<0>(sse_operation(c, [=](u32&) {
      return raw(__builtin_convertvector(std::bit_cast<Lanes<float, 8>>(b), Packed128<double>));
    }));
  }
};
struct ConvertPackedToSingle {  // CVTPD2PS
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const V128 b = read_packed<1>(c);
    const u64 result = sse_operation(
        c, [=](u32&) { return std::bit_cast<u64>(__builtin_convertvector((Packed128<double>)b, Lanes<float, 8>)); },
        [=](u32 mxcsr) {
          return narrowing_inexact_without_bounds(b[0], mxcsr) || narrowing_inexact_without_bounds(b[1], mxcsr);
        });
    c.template write<0>(V128{result, 0});
  }
};
struct ConvertPackedIntegerToSingle {  // CVTDQ2PS
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const V128 b = read_packed<1>(c);
    c.template write<0>(sse_operation(c, [=](u32&) { return raw(__builtin_convertvector(as<i32>(b), Packed128<float>)); }));
  }
};
struct ConvertPackedIntegerToDouble {  // CVTDQ2PD, exact
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const u64 b = c.template read<1>();
    c.template write<0>(raw(__builtin_convertvector(std::bit_cast<Lanes<i32, 8>>(b), Packed128<double>)));
  }
};
template <class To>
struct ConvertIntegerToScalar {  // CVTSI2SS, CVTSI2SD
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using Signed = std::make_signed_t<typename C::template Type<1>>;
    const Signed b = static_cast<Signed>(c.template read<1>());
    c.template write<0>(sse_operation(c, [=](u32&) { return std::bit_cast<BitsOf<To>>(static_cast<To>(b)); }));
  }
};
template <class From, HostRounding Rounding>
struct ConvertScalarToInteger {  // CVTSS2SI, CVTTSS2SI, CVTSD2SI, CVTTSD2SI
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using Unsigned = typename C::template Type<0>;
    const BitsOf<From> b = c.template read<1>();
    c.template write<0>(sse_operation(c, [=](u32&) {
      return static_cast<Unsigned>(host_to_integer<Rounding, std::make_signed_t<Unsigned>>(std::bit_cast<From>(b)));
    }));
  }
};
template <class From, HostRounding Rounding>
struct ConvertPackedToInteger {  // CVTPS2DQ, CVTTPS2DQ; CVTPD2DQ, CVTTPD2DQ, whose upper half becomes zero
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const V128 b = read_packed<1>(c);
    c.template write<0>(sse_operation(c, [=](u32&) { return host_to_i32<Rounding>((Packed128<From>)b); }));
  }
};

// Conversions with MMX registers. From memory they leave the x87 state alone: SDM Vol. 2A "CVTPI2PD", and silicon does so
// for CVTPI2PS as well. To MMX registers the x87 state changes even if an unmasked SSE exception follows.
struct ConvertMmxToSingle {  // CVTPI2PS
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    if constexpr (!C::template kIsMemory<1>) mmx_wait(c);
    const u64 b = c.template read<1>();
    if constexpr (!C::template kIsMemory<1>) enter_mmx(c);
    const u64 result = sse_operation(c, [=](u32&) {
      return std::bit_cast<u64>(__builtin_convertvector(std::bit_cast<Lanes<i32, 8>>(b), Lanes<float, 8>));
    });
    c.template write<0>(result);
  }
};
struct ConvertMmxToDouble {  // CVTPI2PD
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    if constexpr (!C::template kIsMemory<1>) mmx_wait(c);
    const u64 b = c.template read<1>();
    if constexpr (!C::template kIsMemory<1>) enter_mmx(c);
    c.template write<0>(raw(__builtin_convertvector(std::bit_cast<Lanes<i32, 8>>(b), Packed128<double>)));
  }
};
template <class From, HostRounding Rounding>
struct ConvertToMmx {  // CVTPS2PI, CVTTPS2PI, CVTPD2PI, CVTTPD2PI
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    mmx_wait(c);
    V128 b;
    if constexpr (sizeof(From) == 4) b = V128{c.template read<1>(), 0};
    else b = read_packed<1>(c);
    enter_mmx(c);
    const V128 result = sse_operation(c, [=](u32&) { return host_to_i32<Rounding>((Packed128<From>)b); });
    write_mmx<0>(c, result[0]);
  }
};

// ROUNDPS, ROUNDPD, ROUNDSS, ROUNDSD.
template <class T>
struct FloatPackedRound {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const V128 b = read_packed<1>(c);
    const u8 control = static_cast<u8>(c.immediate());
    const u32 mxcsr = c.state().mxcsr;
    c.template write<0>(sse_operation(c, [=](u32& flags) {
      auto lanes = to_array<BitsOf<T>>(b);
      for (auto& lane : lanes) lane = round_to_integral(lane, control, mxcsr, flags);
      return from_array(lanes);
    }));
  }
};
template <class T>
struct FloatScalarRound {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const BitsOf<T> b = c.template read<1>();
    const u8 control = static_cast<u8>(c.immediate());
    const u32 mxcsr = c.state().mxcsr;
    c.template write<0>(sse_operation(c, [=](u32& flags) {
      return round_to_integral(b, control, mxcsr, flags);
    }));
  }
};

// RCPPS, RCPSS, RSQRTPS, RSQRTSS: no exceptions.
template <u32 (*Function)(u32)>
struct FloatPackedApproximate {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    auto lanes = to_array<u32>(read_packed<1>(c));
    for (u32& lane : lanes) lane = Function(lane);
    c.template write<0>(from_array(lanes));
  }
};
template <u32 (*Function)(u32)>
struct FloatScalarApproximate {
  template <class C>
  VELLUM_INLINE static void op(C& c) { c.template write<0>(Function(c.template read<1>())); }
};

struct StoreMxcsr {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    sync_mxcsr(c.state());
    c.template write<0>(c.state().mxcsr);
  }
};

}  // namespace vellum::semantics
