// SSE4.1 and SSE4.2 integer instructions, and their VEX-encoded forms, SDM Vol. 1 5.10 and 5.11.
#pragma once

#include "cpu/semantics/packed_integer.h"
#include "cpu/string_compare.h"

namespace vellum::semantics {

// PMOVSX, PMOVZX: the low lanes From, widened to To.
template <class From, class To>
struct ExtendLanes {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    constexpr usize kLanes = kOperandSize<C, 0> / sizeof(To);
    static_assert(kLanes * sizeof(From) == kOperandSize<C, 1>);
    using Source = Lanes<From, kLanes * sizeof(From)>;
    c.template write<0>(raw(__builtin_convertvector(std::bit_cast<Source>(c.template read<1>()), Lanes<To, kOperandSize<C, 0>>)));
  }
};

// PBLENDVB, BLENDVPS, BLENDVPD: the sign bits of XMM0, or of VEX's fourth operand, choose the second source's lanes.
template <class T>
struct BlendByRegister {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const auto b = read_packed<kSecond<C>>(c);
    const auto a = c.template read<kFirst<C>>();
    Raw<kOperandSize<C, 0>> mask;
    if constexpr (C::kForm.vex) mask = c.template read<3>();
    else mask = c.template read_slot<V128>(offsetof(CpuState, vector));
    c.template write<0>(select(as<T>(mask) < 0, b, a));
  }
};
// PBLENDW, BLENDPS, BLENDPD: bit i of imm8 chooses the source's lane i.
template <class T>
struct BlendByImmediate {
  static constexpr bool kAnyWidth = sizeof(T) > 2;  // VPBLENDW uses its eight bits twice
  template <usize Size>
  VELLUM_INLINE static auto op(Raw<Size> a, Raw<Size> b, u8 control) {
    std::array<T, Size / sizeof(T)> bits;
    for (usize i = 0; i < bits.size(); ++i) bits[i] = static_cast<T>(1u << i);
    const auto chosen = as<T>(from_array(bits)) & static_cast<T>(control);
    return select(chosen != 0, b, a);
  }
};

// Flags of PTEST and its kin: ZF = no common bits, CF = all of b within a; of those bits that count.
template <class C, class V>
VELLUM_INLINE void set_test_flags(C& c, V a, V b, V counting) {
  const V common = a & b & counting, outside = ~a & b & counting;
  c.set_explicit_flags((__builtin_reduce_or(common) == 0 ? kZf : 0) | (__builtin_reduce_or(outside) == 0 ? kCf : 0));
}
struct TestBits {  // PTEST
  static constexpr FlagEffect kFlags{kArithmeticFlags, 0};
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const auto b = read_packed<1>(c);
    const auto a = c.template read<0>();
    set_test_flags(c, a, b, ~decltype(a){});
  }
};

template <class T>
struct TestSigns {  // VTESTPS, VTESTPD: PTEST of the lanes' sign bits
  static constexpr FlagEffect kFlags{kArithmeticFlags, 0};
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const auto b = read_packed<1>(c);
    const auto a = c.template read<0>();
    set_test_flags(c, a, b, raw(splat<T, sizeof(a)>(T{1} << (8 * sizeof(T) - 1))));
  }
};

struct MultipleSumsOfDifferences {  // MPSADBW
  static constexpr unsigned kControlBitsPerLane = 3;
  template <usize Size>
  VELLUM_INLINE static Raw<Size> op(Raw<Size> a, Raw<Size> b, u8 control) {
    const auto blocks = to_array<u8>(a), reference = to_array<u8>(b);
    const usize block = control & 4, base = (control & 3) * 4u;
    std::array<u16, 8> sums;
    for (usize i = 0; i < 8; ++i) {
      unsigned sum = 0;
      for (usize j = 0; j < 4; ++j) {
        const int difference = blocks[block + i + j] - reference[base + j];
        sum += static_cast<unsigned>(difference < 0 ? -difference : difference);
      }
      sums[i] = static_cast<u16>(sum);
    }
    return from_array(sums);
  }
};

struct MinimumPosition {  // PHMINPOSUW
  template <usize Size>
  VELLUM_INLINE static Raw<Size> op(Raw<Size> v) {
    const auto words = to_array<u16>(v);
    u64 minimum = words[0], position = 0;
    for (usize i = 1; i < words.size(); ++i) {
      if (words[i] < minimum) {
        minimum = words[i];
        position = i;
      }
    }
    return Raw<Size>{minimum | position << 16, 0};
  }
};

struct InsertSingle {  // INSERTPS
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const u8 control = static_cast<u8>(c.immediate());
    u32 value;
    if constexpr (C::template kIsMemory<kSecond<C>>) value = c.template read<kSecond<C>>();
    else value = to_array<u32>(c.template read<kSecond<C>>())[control >> 6];
    auto lanes = to_array<u32>(c.template read<kFirst<C>>());
    lanes[(control >> 4) & 3] = value;
    for (usize i = 0; i < 4; ++i)
      if (control >> i & 1) lanes[i] = 0;
    c.template write<0>(from_array(lanes));
  }
};

// PCMPESTRI, PCMPESTRM, PCMPISTRI, PCMPISTRM.
enum class StringLength : u8 { Explicit, Implicit };  // in rAX and rDX, or up to a zero
enum class StringResult : u8 { Index, Mask };         // into ECX, or XMM0

// T is the width of explicit lengths: REX.W makes them 64 bits wide.
template <StringLength Length, StringResult Result, class T = u32>
struct CompareStrings {
  static constexpr FlagEffect kFlags{kArithmeticFlags, 0};
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const V128 b = c.template read<1>();  // no alignment needed, SDM Vol. 2A table 2-19 (exceptions type 4)
    const V128 a = c.template read<0>();
    const u8 control = static_cast<u8>(c.immediate());
    StringComparison comparison;
    if constexpr (Length == StringLength::Explicit) {
      using Signed = std::make_signed_t<T>;
      const i64 first = static_cast<Signed>(c.template gpr<T>(kRax)), second = static_cast<Signed>(c.template gpr<T>(kRdx));
      comparison = compare_strings_explicit(a, b, first, second, control);
    } else {
      comparison = compare_strings_implicit(a, b, control);
    }
    if constexpr (Result == StringResult::Index) c.template set_gpr<u32>(kRcx, string_comparison_index(comparison, control));
    else if constexpr (C::kForm.vex) c.write_vector(offsetof(CpuState, vector), string_comparison_mask(comparison, control));
    else c.template write_raw<V128>(offsetof(CpuState, vector), string_comparison_mask(comparison, control));
    c.set_explicit_flags(comparison.flags);
  }
};

}  // namespace vellum::semantics
