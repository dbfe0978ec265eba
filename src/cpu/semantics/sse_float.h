// SSE to SSE4.1 floating point and its VEX-encoded forms, SDM Vol. 1 5.5 to 5.10, 5.13. Translation units that include this have FENV_ACCESS on.
#pragma once

#include "cpu/floating_environment.h"
#include "cpu/semantics/host_float.h"
#include "cpu/semantics/packed.h"
#include "cpu/software_float.h"

namespace vellum::semantics {

// The unsigned integer that holds a float or double.
template <class T>
using BitsOf = std::conditional_t<sizeof(T) == 4, u32, u64>;

// Out-of-line: the guest unmasks an exception, so the flags of this one instruction matter.
template <class C, class Function, class Inexact, class Result>
[[gnu::noinline]] void observed_sse_operation(C& c, Function& function, Inexact& inexact, Result& result) {
  struct Run {
    Function& function;
    Result& result;
    u32 software_flags;
  } run{function, result, initial_flags(c.state())};
  u32 flags = observe_sse_flags(c.state(), [](void* data) {
    Run& r = *static_cast<Run*>(data);
    r.result = r.function(r.software_flags);
  }, &run);
  flags |= run.software_flags & kMxcsrFlags;
  const u32 mxcsr = c.state().mxcsr;
  // A lane with the masked response to overflow or underflow is inexact; one with the unmasked response need not be.
  const u32 out_of_range = flags & (kMxcsrOverflow | kMxcsrUnderflow);
  if (out_of_range && !(out_of_range & (mxcsr >> kMxcsrMaskShift)) && (flags & kMxcsrPrecision) && !inexact(mxcsr))
    flags &= ~kMxcsrPrecision;
  if (sse_exception_due(c.state(), flags))
    c.raise(c.state().cr4 & kCr4Osxmmexcpt ? Vector::SimdFloatingPoint : Vector::InvalidOpcode, 0);
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
      decltype(function(std::declval<u32&>())) result{};
      observed_sse_operation(context, function_copy, inexact_copy, result);
      return result;
    }
  }
  u32 flags = initial_flags(c.state());
  const auto result = function(flags);
  if (kHostHasSse ? flags : flags & kMxcsrFlags) c.state().mxcsr |= kHostHasSse ? flags : flags & kMxcsrFlags;
  return result;
}

// Whether a lane may be a NaN (for doubles, or infinite): tested on integers, as a comparison would raise flags.
template <class T, class V>
VELLUM_INLINE bool may_have_nan(V v) {
  const auto magnitude = as<i32>(v) & 0x7fffffff;
  if constexpr (sizeof(T) == 4) return __builtin_reduce_or(magnitude > 0x7f800000) != 0;
  else return __builtin_reduce_or(raw(magnitude > 0x7fefffff) & 0xffffffff00000000) != 0;
}
template <class U>
VELLUM_INLINE bool is_nan_bits(U v) {
  if constexpr (sizeof(U) == 4) return (v & 0x7fffffff) > 0x7f800000;
  else return (v & 0x7fffffffffffffff) > 0x7ff0000000000000;
}
// The result of an operation on a and b with the NaNs that SSE delivers, whichever operand the host preferred.
template <class T, class V>
VELLUM_INLINE V with_nans(V result, V a, V b) {
  if (may_have_nan<T>(result)) [[unlikely]]
    return by_lanes([](V128 r, V128 x, V128 y) { return sizeof(T) == 4 ? chosen_nans_f32(r, x, y) : chosen_nans_f64(r, x, y); },
                    result, a, b);
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
  static constexpr FloatStep kStep = FloatStep::SquareRoot;
  template <class V> VELLUM_INLINE static V op(V, V v) { return __builtin_elementwise_sqrt(v); }
};

// The lanes of one operation on a and b, with SSE's NaNs.
template <class T, class Op, class C, class V>
VELLUM_INLINE V packed_float(C& c, V a, V b) {
  const V result = sse_operation(
      c, [=](u32& flags) { return host_arithmetic<T, Op>(a, b, flags); },
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
    const auto b = read_packed<kSecond<C>>(c), a = read_packed<kFirst<C>>(c);
    c.template write<0>(packed_float<T, Op>(c, a, b));
  }
};
template <class T, class Op>
struct FloatScalar {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const BitsOf<T> b = c.template read<kSecond<C>>(), a = first_scalar<BitsOf<T>>(c);
    const BitsOf<T> result = sse_operation(
        c, [=](u32& flags) { return host_scalar_arithmetic<T, Op>(a, b, flags); },
        [=](u32 mxcsr) { return inexact_without_bounds(Op::kStep, a, b, mxcsr); });
    write_scalar(c, with_nan(result, a, b));
  }
};
template <class T>
struct FloatPackedSquareRoot {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const auto b = read_packed<1>(c);
    const auto result = sse_operation(c, [=](u32& flags) { return host_arithmetic<T, FloatSquareRoot>(b, b, flags); });
    c.template write<0>(with_nans<T>(result, b, b));
  }
};
template <class T>
struct FloatScalarSquareRoot {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const BitsOf<T> b = c.template read<kSecond<C>>();
    const BitsOf<T> result =
        sse_operation(c, [=](u32& flags) { return host_scalar_arithmetic<T, FloatSquareRoot>(b, b, flags); });
    write_scalar(c, with_nan(result, b, b));
  }
};

// MIN, MAX: the source if either operand is a NaN or both are zeros, SDM Vol. 2B "MINPS". NaNs pass unchanged.
template <class T, HostExtreme Which>
struct FloatPackedExtreme {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const auto b = read_packed<kSecond<C>>(c), a = read_packed<kFirst<C>>(c);
    c.template write<0>(sse_operation(c, [=](u32& flags) {
      return on_settled<T>(a, b, flags, [&](auto first, auto second) {
        return by_lanes([](V128 x, V128 y) { return raw(host_extreme<Which>(as<T>(x), as<T>(y))); }, first, second);
      });
    }));
  }
};
template <class T, HostExtreme Which>
struct FloatScalarExtreme {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const BitsOf<T> b = c.template read<kSecond<C>>(), a = first_scalar<BitsOf<T>>(c);
    write_scalar(c, sse_operation(c, [=](u32& flags) {
      return on_settled_scalars<T>(a, b, flags, [&](auto first, auto second) {
        return std::bit_cast<BitsOf<T>>(host_scalar_extreme<Which>(std::bit_cast<T>(first), std::bit_cast<T>(second)));
      });
    }));
  }
};

// The sign bits of the even lanes.
template <class T, usize Size>
VELLUM_INLINE Raw<Size> even_signs() {
  return repeat_lane<Size>(sizeof(T) == 4 ? V128{0x80000000, 0x80000000} : V128{u64{1} << 63, 0});
}
// ADDSUBPS, ADDSUBPD: the difference in even lanes, the sum in odd ones. a - b is a + (-b) in every bit but a NaN's.
template <class T>
struct FloatAddSubtract {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const auto b = read_packed<kSecond<C>>(c), a = read_packed<kFirst<C>>(c);
    // A NaN that came from b has its sign to get back; NaNs of a are never touched.
    const auto result = packed_float<T, FloatAdd>(c, a, b ^ even_signs<T, sizeof(b)>());
    c.template write<0>(with_nans<T>(result, a, b));
  }
};
// In each 128 bits the even (odd) lanes of a, then those of b.
template <class T, usize Odd, class V>
VELLUM_INLINE V alternate_in_lanes(V a, V b) {
  return by_lanes([](V128 x, V128 y) { return raw(alternate_lanes<Odd>(as<BitsOf<T>>(x), as<BitsOf<T>>(y))); }, a, b);
}
// HADDPS, HADDPD, HSUBPS, HSUBPD.
template <class T, class Op>
struct FloatHorizontal {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const auto b = read_packed<kSecond<C>>(c), a = read_packed<kFirst<C>>(c);
    const auto even = alternate_in_lanes<T, 0>(a, b), odd = alternate_in_lanes<T, 1>(a, b);
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
    const auto b = read_packed<kSecond<C>>(c), a = read_packed<kFirst<C>>(c);
    const u8 control = static_cast<u8>(c.immediate());
    std::array<U, kLanes> chosen{}, delivered{};
    for (usize i = 0; i < kLanes; ++i) {
      chosen[i] = control >> (4 + i) & 1 ? ~U{0} : U{0};
      delivered[i] = control >> i & 1 ? ~U{0} : U{0};
    }
    constexpr usize kSize = sizeof(a);
    const auto x = a & repeat_lane<kSize>(from_array(chosen)), y = b & repeat_lane<kSize>(from_array(chosen));
    // Each step reports its exceptions before the next begins, SDM Vol. 2A "DPPS".
    auto sum = packed_float<T, FloatMultiply>(c, x, y);
    for (usize step = 1; step < kLanes; step *= 2)
      sum = packed_float<T, FloatAdd>(c, alternate_in_lanes<T, 0>(sum, sum), alternate_in_lanes<T, 1>(sum, sum));
    c.template write<0>(sum & repeat_lane<kSize>(from_array(delivered)));
  }
};

// The 32 predicates of VCMPPS, SDM Vol. 2A table 3-1, of which SSE has the first eight. Bits 1:0 choose EQ, LT, LE, UNORD;
// bit 2 negates; with bit 3 LT and LE become NLE and NLT of exchanged operands, EQ includes the unordered, and UNORD is
// never true; bit 4 exchanges signalling and quiet comparison.
template <class T, class V>
VELLUM_INLINE V compare_lanes(V a, V b, u8 predicate) {
  const auto equal = [](V128 x, V128 y) { return host_equal(as<T>(x), as<T>(y)); };
  const auto less = [](V128 x, V128 y) { return host_less(as<T>(x), as<T>(y)); };
  const auto less_or_equal = [](V128 x, V128 y) { return host_less_or_equal(as<T>(x), as<T>(y)); };
  const auto unordered = [](V128 x, V128 y) { return host_unordered(as<T>(x), as<T>(y)); };
  const u8 relation = predicate & 3;
  const bool upper = predicate & 8, relational = relation == 1 || relation == 2;
  bool negated = predicate & 4;
  if (relational && upper) {
    std::swap(a, b);
    negated = !negated;
  }
  if (predicate & 16) {
    if (relational) {  // quiet: lanes with a NaN compare as zeros, which is false for LT, and is cleared for LE
      const V no_order = by_lanes(unordered, a, b);
      a &= ~no_order;
      b &= ~no_order;
      const V holds = ((relation == 1) != upper ? by_lanes(less, a, b) : by_lanes(less_or_equal, a, b)) & ~no_order;
      return negated ? ~holds : holds;
    }
    static_cast<void>(by_lanes(less, a, b));  // signals
  }
  V holds;
  switch (relation) {
    case 0:
      holds = by_lanes(equal, a, b);
      if (upper) holds |= by_lanes(unordered, a, b);
      break;
    case 3:
      holds = by_lanes(unordered, a, b);
      if (upper) holds = V{};
      break;
    default: holds = (relation == 1) != upper ? by_lanes(less, a, b) : by_lanes(less_or_equal, a, b); break;
  }
  return negated ? ~holds : holds;
}

// CMPPS and the like with eight predicates, VCMPPS with all.
template <class T>
struct FloatPackedCompare {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const auto b = read_packed<kSecond<C>>(c), a = read_packed<kFirst<C>>(c);
    const u8 predicate = c.immediate() & (C::kForm.vex ? 31 : 7);
    c.template write<0>(sse_operation(c, [=](u32& flags) {
      return on_settled<T>(a, b, flags, [&](auto first, auto second) {
        return compare_lanes<T>(first, second, predicate);
      });
    }));
  }
};
template <class T>
struct FloatScalarCompare {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using Array = std::array<BitsOf<T>, 16 / sizeof(T)>;
    const BitsOf<T> b = c.template read<kSecond<C>>(), a = first_scalar<BitsOf<T>>(c);
    const u8 predicate = c.immediate() & (C::kForm.vex ? 31 : 7);
    const V128 result = sse_operation(c, [=](u32& flags) {  // the other lanes compare zeros, which raises nothing
      return on_settled_scalars<T>(a, b, flags, [&](auto first, auto second) {
        return compare_lanes<T>(from_array(Array{first}), from_array(Array{second}), predicate);
      });
    });
    write_scalar(c, to_array<BitsOf<T>>(result)[0]);
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
    const u32 flags = sse_operation(c, [=](u32& raised) -> u32 {
      return on_settled_scalars<T>(a, b, raised, [&](auto first, auto second) {
        return host_compare<Nans == NanComparison::Signalling ? HostCompare::Signalling : HostCompare::Quiet>(
            std::bit_cast<T>(first), std::bit_cast<T>(second));
      });
    });
    c.set_explicit_flags(flags);
  }
};

// Conversions. Widths are those of the operands in the row.
template <class From, class To>
struct FloatScalarConvert {  // CVTSS2SD, CVTSD2SS
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const BitsOf<From> b = c.template read<kSecond<C>>();
    write_scalar(c, sse_operation(
        c, [=](u32& flags) { return host_scalar_convert<From, To>(b, flags); },
        [=](u32 mxcsr) {
          if constexpr (sizeof(From) == 8) return narrowing_inexact_without_bounds(b, mxcsr);
          else return true;
        }));
  }
};
struct ConvertPackedToDouble {  // CVTPS2PD
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    constexpr usize kSize = kOperandSize<C, 0>;
    const auto b = std::bit_cast<Raw<kSize / 2>>(c.template read<1>());
    c.template write<0>(sse_operation(c, [=](u32& flags) {
      return on_settled<float>(b, b, flags, [&](auto singles, auto) {
        return raw(__builtin_convertvector(as<float>(singles), Lanes<double, kSize>));
      });
    }));
  }
};
struct ConvertPackedToSingle {  // CVTPD2PS
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const auto b = read_packed<1>(c);
    const auto result = sse_operation(
        c, [=](u32& flags) { return host_narrow(b, flags); },
        [=](u32 mxcsr) {
          for (const u64 lane : to_array<u64>(b))
            if (narrowing_inexact_without_bounds(lane, mxcsr)) return true;
          return false;
        });
    if constexpr (sizeof(result) == 8) c.template write<0>(V128{result[0], 0});
    else c.template write<0>(result);
  }
};
struct ConvertPackedIntegerToSingle {  // CVTDQ2PS
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const auto b = read_packed<1>(c);
    c.template write<0>(
        sse_operation(c, [=](u32&) { return raw(__builtin_convertvector(as<i32>(b), Lanes<float, sizeof(b)>)); }));
  }
};
struct ConvertPackedIntegerToDouble {  // CVTDQ2PD, exact
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    constexpr usize kSize = kOperandSize<C, 0>;
    const auto b = c.template read<1>();
    c.template write<0>(raw(__builtin_convertvector(std::bit_cast<Lanes<i32, kSize / 2>>(b), Lanes<double, kSize>)));
  }
};
template <class To>
struct ConvertIntegerToScalar {  // CVTSI2SS, CVTSI2SD
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using Signed = std::make_signed_t<typename C::template Type<kSecond<C>>>;
    const Signed b = static_cast<Signed>(c.template read<kSecond<C>>());
    write_scalar(c, sse_operation(c, [=](u32&) { return std::bit_cast<BitsOf<To>>(static_cast<To>(b)); }));
  }
};
template <class From, HostRounding Rounding>
struct ConvertScalarToInteger {  // CVTSS2SI, CVTTSS2SI, CVTSD2SI, CVTTSD2SI
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using Unsigned = typename C::template Type<0>;
    const BitsOf<From> b = c.template read<1>();
    c.template write<0>(sse_operation(c, [=](u32& flags) {
      return on_settled_scalars<From, Denormals::Silent>(b, b, flags, [&](auto value, auto) {
        return static_cast<Unsigned>(host_to_integer<Rounding, std::make_signed_t<Unsigned>>(std::bit_cast<From>(value)));
      });
    }));
  }
};
template <class From, HostRounding Rounding>
struct ConvertPackedToInteger {  // CVTPS2DQ, CVTTPS2DQ; CVTPD2DQ, CVTTPD2DQ, whose upper half becomes zero
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const auto b = read_packed<1>(c);
    const auto convert = [](V128 v) { return host_to_i32<Rounding>(as<From>(v)); };
    const auto result = sse_operation(c, [=](u32& flags) {
      return on_settled<From, Denormals::Silent>(b, b, flags, [&](auto values, auto) {
        return by_lanes(convert, values);
      });
    });
    // Doubles leave the upper half of each 128 bits empty.
    if constexpr (sizeof(result) > kOperandSize<C, 0>) c.template write<0>(V128{result[0], result[2]});
    else c.template write<0>(result);
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
    c.template write<0>(raw(__builtin_convertvector(std::bit_cast<Lanes<i32, 8>>(b), Lanes<double, 16>)));
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
    const V128 result = sse_operation(c, [=](u32& flags) {
      return on_settled<From, Denormals::Silent>(b, b, flags, [&](auto values, auto) {
        return host_to_i32<Rounding>(as<From>(values));
      });
    });
    write_mmx<0>(c, result[0]);
  }
};

// ROUNDPS, ROUNDPD, ROUNDSS, ROUNDSD.
template <class T>
struct FloatPackedRound {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const auto b = read_packed<1>(c);
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
    const BitsOf<T> b = c.template read<kSecond<C>>();
    const u8 control = static_cast<u8>(c.immediate());
    const u32 mxcsr = c.state().mxcsr;
    write_scalar(c, sse_operation(c, [=](u32& flags) {
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
  VELLUM_INLINE static void op(C& c) { write_scalar(c, Function(c.template read<kSecond<C>>())); }
};

struct StoreMxcsr {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    sync_mxcsr(c.state());
    c.template write<0>(c.state().mxcsr);
  }
};

}  // namespace vellum::semantics
