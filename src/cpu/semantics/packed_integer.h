// Operations of packed integer instructions, for MMX, XMM and YMM alike, SDM Vol. 1 5.4, 5.6 to 5.10, 5.13 and 5.15.
#pragma once

#include "cpu/semantics/host_integer.h"
#include "cpu/semantics/packed.h"

namespace vellum::semantics {

// Each has op<Size>(a, b) on vectors of Size bytes; the mnemonics that use it differ in the lane type T.
#define VELLUM_LANE_OPERATION(name, expression)                     \
  template <class T>                                                \
  struct name {                                                     \
    static constexpr bool kAnyWidth = true;                         \
    template <usize Size>                                           \
    VELLUM_INLINE static auto op(Raw<Size> a_raw, Raw<Size> b_raw) { \
      using V [[maybe_unused]] = Lanes<T, Size>;                    \
      const V a = (V)a_raw, b = (V)b_raw;                           \
      return expression;                                            \
    }                                                               \
  }

VELLUM_LANE_OPERATION(LanesAdd, a + b);
VELLUM_LANE_OPERATION(LanesSubtract, a - b);
VELLUM_LANE_OPERATION(LanesAddSaturating, __builtin_elementwise_add_sat(a, b));
VELLUM_LANE_OPERATION(LanesSubtractSaturating, __builtin_elementwise_sub_sat(a, b));
VELLUM_LANE_OPERATION(LanesMinimum, __builtin_elementwise_min(a, b));
VELLUM_LANE_OPERATION(LanesMaximum, __builtin_elementwise_max(a, b));
VELLUM_LANE_OPERATION(LanesEqual, (V)(a == b));
VELLUM_LANE_OPERATION(LanesGreater, (V)(a > b));
VELLUM_LANE_OPERATION(LanesMultiplyLow, a * b);
VELLUM_LANE_OPERATION(LanesAnd, a & b);
VELLUM_LANE_OPERATION(LanesAndNot, ~a & b);
VELLUM_LANE_OPERATION(LanesOr, a | b);
VELLUM_LANE_OPERATION(LanesXor, a ^ b);
// The sign of b applied to a: zero where b is zero.
VELLUM_LANE_OPERATION(LanesSign, ((a ^ (V)(b < 0)) - (V)(b < 0)) & (V)(b != 0));
#undef VELLUM_LANE_OPERATION

// PMULHW, PMULHUW: the high half of each product. T is the lane type.
template <class T>
struct LanesMultiplyHigh {
  template <usize Size>
  VELLUM_INLINE static auto op(Raw<Size> a, Raw<Size> b) {
    using Wide = Lanes<std::conditional_t<std::is_signed_v<T>, i32, u32>, 2 * Size>;
    const Wide product = __builtin_convertvector(as<T>(a), Wide) * __builtin_convertvector(as<T>(b), Wide);
    return __builtin_convertvector(product >> 16, Lanes<T, Size>);
  }
};

// PAVGB, PAVGW.
template <class T>
struct LanesAverage {
  template <usize Size>
  VELLUM_INLINE static auto op(Raw<Size> a, Raw<Size> b) {
    using Wide = Lanes<std::conditional_t<sizeof(T) == 1, u16, u32>, 2 * Size>;
    const Wide sum = __builtin_convertvector(as<T>(a), Wide) + __builtin_convertvector(as<T>(b), Wide) + 1;
    return __builtin_convertvector(sum >> 1, Lanes<T, Size>);
  }
};

struct LanesMultiplyAdd {  // PMADDWD
  template <usize Size>
  VELLUM_INLINE static auto op(Raw<Size> a, Raw<Size> b) {
    using Wide = Lanes<i32, 2 * Size>;
    const Wide product = __builtin_convertvector(as<i16>(a), Wide) * __builtin_convertvector(as<i16>(b), Wide);
    // Wraps for four times 8000H, SDM Vol. 2B "PMADDWD".
    return (Lanes<i32, Size>)((Lanes<u32, Size>)half_lanes<0>(product) + (Lanes<u32, Size>)half_lanes<1>(product));
  }
};

struct LanesMultiplyAddSaturating {  // PMADDUBSW: unsigned bytes of a by signed bytes of b
  template <usize Size>
  VELLUM_INLINE static auto op(Raw<Size> a, Raw<Size> b) {
    using Wide = Lanes<i16, 2 * Size>;
    const Wide product = __builtin_convertvector(as<u8>(a), Wide) * __builtin_convertvector(as<i8>(b), Wide);
    return __builtin_elementwise_add_sat(half_lanes<0>(product), half_lanes<1>(product));
  }
};

struct LanesMultiplyHighRounded {  // PMULHRSW
  template <usize Size>
  VELLUM_INLINE static auto op(Raw<Size> a, Raw<Size> b) {
    using Wide = Lanes<i32, 2 * Size>;
    const Wide product = __builtin_convertvector(as<i16>(a), Wide) * __builtin_convertvector(as<i16>(b), Wide);
    return __builtin_convertvector(((product >> 14) + 1) >> 1, Lanes<i16, Size>);
  }
};

// PMULUDQ and PMULDQ: the even doublewords; T is their type.
template <class T>
struct LanesMultiplyEven {
  template <usize Size>
  VELLUM_INLINE static auto op(Raw<Size> a, Raw<Size> b) {
    using Wide = Lanes<std::conditional_t<std::is_signed_v<T>, i64, u64>, Size>;
    return __builtin_convertvector(half_lanes<0>(as<T>(a)), Wide) * __builtin_convertvector(half_lanes<0>(as<T>(b)), Wide);
  }
};

struct SumOfDifferences {  // PSADBW
  template <usize Size>
  VELLUM_INLINE static auto op(Raw<Size> a, Raw<Size> b) { return host_sums_of_differences<Size>(a, b); }
};

// PACKSSWB, PACKUSWB, PACKSSDW, PACKUSDW: signed lanes From, clamped to To.
template <class From, class To>
struct PackSaturating {
  template <usize Size>
  VELLUM_INLINE static auto op(Raw<Size> a, Raw<Size> b) {
    const auto low = splat<From, 2 * Size>(std::numeric_limits<To>::min());
    const auto high = splat<From, 2 * Size>(std::numeric_limits<To>::max());
    const auto both = concatenate(as<From>(a), as<From>(b));
    return __builtin_convertvector(__builtin_elementwise_min(__builtin_elementwise_max(both, low), high), Lanes<To, Size>);
  }
};

template <class T>
struct UnpackLow {
  template <usize Size>
  VELLUM_INLINE static auto op(Raw<Size> a, Raw<Size> b) {
    constexpr usize kLanes = Size / sizeof(T);
    return shuffle<[](usize i) { return i / 2 + (i % 2) * kLanes; }, kLanes>(as<T>(a), as<T>(b));
  }
};
template <class T>
struct UnpackHigh {
  template <usize Size>
  VELLUM_INLINE static auto op(Raw<Size> a, Raw<Size> b) {
    constexpr usize kLanes = Size / sizeof(T);
    return shuffle<[](usize i) { return kLanes / 2 + i / 2 + (i % 2) * kLanes; }, kLanes>(as<T>(a), as<T>(b));
  }
};

// Horizontal sums and differences of neighbours: PHADDW, PHADDD, PHSUBW, PHSUBD, PHADDSW, PHSUBSW.
template <class T>
struct HorizontalAdd {
  template <usize Size>
  VELLUM_INLINE static auto op(Raw<Size> a, Raw<Size> b) {
    return alternate_lanes<0>(as<T>(a), as<T>(b)) + alternate_lanes<1>(as<T>(a), as<T>(b));
  }
};
template <class T>
struct HorizontalSubtract {
  template <usize Size>
  VELLUM_INLINE static auto op(Raw<Size> a, Raw<Size> b) {
    return alternate_lanes<0>(as<T>(a), as<T>(b)) - alternate_lanes<1>(as<T>(a), as<T>(b));
  }
};
struct HorizontalAddSaturating {
  template <usize Size>
  VELLUM_INLINE static auto op(Raw<Size> a, Raw<Size> b) {
    return __builtin_elementwise_add_sat(alternate_lanes<0>(as<i16>(a), as<i16>(b)),
                                         alternate_lanes<1>(as<i16>(a), as<i16>(b)));
  }
};
struct HorizontalSubtractSaturating {
  template <usize Size>
  VELLUM_INLINE static auto op(Raw<Size> a, Raw<Size> b) {
    return __builtin_elementwise_sub_sat(alternate_lanes<0>(as<i16>(a), as<i16>(b)),
                                         alternate_lanes<1>(as<i16>(a), as<i16>(b)));
  }
};

template <class T>
struct LanesAbsolute {  // PABSB, PABSW, PABSD; the most negative value stays
  static constexpr bool kAnyWidth = true;
  template <usize Size>
  VELLUM_INLINE static auto op(Raw<Size> v) { return __builtin_elementwise_abs(as<T>(v)); }
};

struct ShuffleBytes {  // PSHUFB
  template <usize Size>
  VELLUM_INLINE static Raw<Size> op(Raw<Size> a, Raw<Size> b) {
    if constexpr (Size == 8) return Raw<8>{host_shuffle_bytes(V128{a[0], 0}, V128{b[0] & 0x8787878787878787, 0})[0]};
    else return host_shuffle_bytes(a, b);
  }
};

struct AlignRight {  // PALIGNR: a above b, shifted right by imm8 bytes
  template <usize Size>
  VELLUM_INLINE static Raw<Size> op(Raw<Size> a, Raw<Size> b, u8 count) {
    const std::array<Raw<Size>, 3> joined{b, a, Raw<Size>{}};
    if (count > 2 * Size) count = 2 * Size;
    Raw<Size> result;
    std::memcpy(&result, reinterpret_cast<const char*>(&joined) + count, Size);
    return result;
  }
};

// Four lanes T starting at lane First, each chosen by two bits of imm8; the others are kept. PSHUFD, PSHUFW,
// PSHUFHW, PSHUFLW; VPERMILPS; VPERMQ, VPERMPD.
template <class T, usize First>
struct ShuffleFour {
  static constexpr bool kAnyWidth = sizeof(T) == 8;
  template <usize Size>
  VELLUM_INLINE static Raw<Size> op(Raw<Size> v, u8 control) {
    const auto lanes = to_array<T>(v);
    auto result = lanes;
    for (usize i = 0; i < 4; ++i) result[First + i] = lanes[First + ((control >> (2 * i)) & 3)];
    return from_array(result);
  }
};

struct ShufflePs {  // SHUFPS: two lanes of a, then two of b
  template <usize Size>
  VELLUM_INLINE static Raw<Size> op(Raw<Size> a, Raw<Size> b, u8 control) {
    const auto x = to_array<u32>(a), y = to_array<u32>(b);
    return from_array(std::array<u32, 4>{x[control & 3], x[(control >> 2) & 3], y[(control >> 4) & 3], y[control >> 6]});
  }
};
struct ShufflePd {  // SHUFPD
  static constexpr unsigned kControlBitsPerLane = 2;
  template <usize Size>
  VELLUM_INLINE static Raw<Size> op(Raw<Size> a, Raw<Size> b, u8 control) {
    const auto x = to_array<u64>(a), y = to_array<u64>(b);
    return from_array(std::array<u64, 2>{x[control & 1], y[(control >> 1) & 1]});
  }
};

template <class T>
struct ShiftLeft {  // PSLLW, PSLLD, PSLLQ
  static constexpr bool kAnyWidth = true;
  template <usize Size>
  VELLUM_INLINE static Lanes<T, Size> op(Raw<Size> v, u64 count) {
    if (count >= 8 * sizeof(T)) return Lanes<T, Size>{};
    return as<T>(v) << splat<T, Size>(static_cast<T>(count));
  }
};
template <class T>
struct ShiftRight {  // PSRLW, PSRLD, PSRLQ; with a signed T PSRAW, PSRAD
  static constexpr bool kAnyWidth = true;
  template <usize Size>
  VELLUM_INLINE static Lanes<T, Size> op(Raw<Size> v, u64 count) {
    if (count >= 8 * sizeof(T)) {
      if constexpr (!std::is_signed_v<T>) return Lanes<T, Size>{};
      count = 8 * sizeof(T) - 1;
    }
    return as<T>(v) >> splat<T, Size>(static_cast<T>(count));
  }
};
struct ShiftBytesLeft {  // PSLLDQ
  template <usize Size>
  VELLUM_INLINE static Raw<Size> op(Raw<Size> v, u64 count) {
    const u128 value = std::bit_cast<u128>(v);
    return std::bit_cast<Raw<Size>>(count > 15 ? u128{0} : value << (8 * count));
  }
};
struct ShiftBytesRight {  // PSRLDQ
  template <usize Size>
  VELLUM_INLINE static Raw<Size> op(Raw<Size> v, u64 count) {
    const u128 value = std::bit_cast<u128>(v);
    return std::bit_cast<Raw<Size>>(count > 15 ? u128{0} : value >> (8 * count));
  }
};

// VPSLLVD, VPSLLVQ, VPSRLVD, VPSRLVQ: each lane by a count of its own.
enum class ShiftDirection : u8 { Left, Right };
template <class T, ShiftDirection Direction>
struct ShiftEach {
  static constexpr bool kAnyWidth = true;
  template <usize Size>
  VELLUM_INLINE static Lanes<T, Size> shift(Lanes<T, Size> v, Lanes<T, Size> count) {
    if constexpr (Direction == ShiftDirection::Right) return v >> count;
    else if constexpr (sizeof(T) == 8) return v << count;
    // Without AVX2 the compiler makes such a shift from a conversion of floats, which would raise the guest's flags. The
    // lanes of 64 bits shift by vectors of counts without.
    const auto low = raw(v) << (raw(count) & 31), high = (raw(v) >> 32) << (raw(count) >> 32) << 32;
    return as<T>((low & 0xffffffff) | high);
  }
  template <usize Size>
  VELLUM_INLINE static auto op(Raw<Size> v, Raw<Size> counts) {
    constexpr T kBits = 8 * sizeof(T);
    const auto count = as<T>(counts), masked = count & (kBits - 1);
    return select(count < kBits, shift<Size>(as<T>(v), masked), Lanes<T, Size>{});
  }
};
struct ShiftEachArithmetic {  // VPSRAVD
  static constexpr bool kAnyWidth = true;
  template <usize Size>
  VELLUM_INLINE static auto op(Raw<Size> v, Raw<Size> counts) {
    const auto count = __builtin_elementwise_min(as<u32>(counts), splat<u32, Size>(31));
    return as<i32>(v) >> as<i32>(count);
  }
};

// VPERMILPS, VPERMILPD by a vector: lane i is the one of the same 128 bits that control lane i names.
template <class T>
struct PermuteByVector {
  template <usize Size>
  VELLUM_INLINE static Raw<Size> op(Raw<Size> v, Raw<Size> control) {
    const auto lanes = to_array<T>(v), which = to_array<T>(control);
    auto result = lanes;
    for (usize i = 0; i < lanes.size(); ++i) result[i] = lanes[(sizeof(T) == 8 ? which[i] >> 1 : which[i]) & (lanes.size() - 1)];
    return from_array(result);
  }
};
struct PermutePd {  // VPERMILPD by imm8
  static constexpr unsigned kControlBitsPerLane = 2;
  template <usize Size>
  VELLUM_INLINE static Raw<Size> op(Raw<Size> v, u8 control) { return ShufflePd::op<Size>(v, v, control); }
};
struct PermuteAcross {  // VPERMD, VPERMPS: the first source names lanes of the whole second one
  static constexpr bool kAnyWidth = true;
  template <usize Size>
  VELLUM_INLINE static Raw<Size> op(Raw<Size> control, Raw<Size> v) {
    const auto lanes = to_array<u32>(v), which = to_array<u32>(control);
    auto result = lanes;
    for (usize i = 0; i < lanes.size(); ++i) result[i] = lanes[which[i] & (lanes.size() - 1)];
    return from_array(result);
  }
};
struct PermuteHalves {  // VPERM2F128, VPERM2I128: each half is one of four, or zero
  static constexpr bool kAnyWidth = true;
  template <usize Size>
  VELLUM_INLINE static Raw<Size> op(Raw<Size> a, Raw<Size> b, u8 control) {
    const std::array<V128, 4> halves{low_half(a), high_half(a), low_half(b), high_half(b)};
    const auto half = [&](unsigned chosen) { return chosen & 8 ? V128{} : halves[chosen & 3]; };
    return concatenate(half(control), half(control >> 4));
  }
};

// The sign bits of all lanes T as an integer: PMOVMSKB, MOVMSKPS, MOVMSKPD.
template <class T>
struct SignMask {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    if constexpr (kOperandSize<C, 1> == 8) mmx_wait(c);
    constexpr usize kSize = kOperandSize<C, 1>, kLanes = kSize / sizeof(T);
    using Signs = bool __attribute__((ext_vector_type(kLanes)));
    using Bits = typename UnsignedOfSize<(kLanes < 8 ? 8 : kLanes) / 8>::type;
    const auto lanes = std::bit_cast<Lanes<std::make_signed_t<T>, kSize>>(c.template read<1>());
    if constexpr (kSize == 8) enter_mmx(c);
    c.template write<0>(u32{std::bit_cast<Bits>(__builtin_convertvector(lanes < 0, Signs))});
  }
};

}  // namespace vellum::semantics
