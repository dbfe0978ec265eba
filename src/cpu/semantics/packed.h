// Vectors of lanes, and the shapes that packed MMX and SSE instructions have in common.
#pragma once

#include <array>
#include <bit>
#include <utility>

#include "cpu/semantics/context.h"

// Vectors wider than the host's registers occur only inside functions that are always inlined.
#pragma clang diagnostic ignored "-Wpsabi"

namespace vellum::semantics {

template <class T, usize Size>
struct LanesOf {
  using type = T __attribute__((vector_size(Size)));
};
template <class T, usize Size>
using Lanes = typename LanesOf<T, Size>::type;
// A register's bits: 8 bytes for MMX, 16 for XMM.
template <usize Size>
using Raw = Lanes<u64, Size>;

template <class T, class V>
VELLUM_INLINE Lanes<T, sizeof(V)> as(V v) { return (Lanes<T, sizeof(V)>)v; }
template <class V>
VELLUM_INLINE Raw<sizeof(V)> raw(V v) { return (Raw<sizeof(V)>)v; }

template <class T, class V>
VELLUM_INLINE std::array<T, sizeof(V) / sizeof(T)> to_array(V v) { return std::bit_cast<std::array<T, sizeof(V) / sizeof(T)>>(v); }
template <class T, usize N>
VELLUM_INLINE Raw<N * sizeof(T)> from_array(const std::array<T, N>& lanes) { return std::bit_cast<Raw<N * sizeof(T)>>(lanes); }

template <class T, usize Size>
VELLUM_INLINE Lanes<T, Size> splat(T value) { return value - Lanes<T, Size>{}; }
// Lanes of a where the mask is all ones, of b where it is zero.
template <class V, class M>
VELLUM_INLINE V select(M mask, V a, V b) { return (V)((raw(mask) & raw(a)) | (~raw(mask) & raw(b))); }

namespace packed_detail {
template <auto Map, class V, usize... I>
VELLUM_INLINE auto shuffle(V a, V b, std::index_sequence<I...>) { return __builtin_shufflevector(a, b, Map(I)...); }
}  // namespace packed_detail

// `Count` lanes: result lane i is lane Map(i) of a and b side by side.
template <auto Map, usize Count, class V>
VELLUM_INLINE auto shuffle(V a, V b) { return packed_detail::shuffle<Map>(a, b, std::make_index_sequence<Count>()); }

// The even (odd) lanes of a, then those of b.
template <usize Odd, class V>
VELLUM_INLINE V alternate_lanes(V a, V b) {
  return shuffle<[](usize i) { return 2 * i + Odd; }, sizeof(V) / sizeof(a[0])>(a, b);
}
// The even or odd lanes of one vector, half as long.
template <usize Odd, class V>
VELLUM_INLINE auto half_lanes(V a) {
  return shuffle<[](usize i) { return 2 * i + Odd; }, sizeof(V) / sizeof(a[0]) / 2>(a, a);
}
template <class V>
VELLUM_INLINE auto concatenate(V low, V high) {
  return shuffle<[](usize i) { return i; }, 2 * sizeof(V) / sizeof(low[0])>(low, high);
}

template <class C, usize N>
inline constexpr usize kOperandSize = sizeof(typename C::template Type<N>);

// A pending x87 exception comes before any MMX instruction, SDM Vol. 3A 12.6.
template <class C>
VELLUM_INLINE void mmx_wait(C& c) {
  const CpuState& s = c.state();
  if ((s.x87.status & 0x80) && (s.cr0 & kCr0Ne)) [[unlikely]] c.raise(Vector::X87FloatingPoint, 0);
}
// Any MMX instruction but EMMS makes all eight registers valid and sets TOP to 0, SDM Vol. 1 9.5.1.
template <class C>
VELLUM_INLINE void enter_mmx(C& c) {
  X87State& x87 = c.state().x87;
  x87.status = static_cast<u16>(x87.status & ~0x3800);
  x87.valid = 0xff;
}
// Writes MMX register operand N. The part of the x87 register above it becomes all ones.
template <usize N, class C>
VELLUM_INLINE void write_mmx(C& c, u64 value) {
  enter_mmx(c);
  const u64 offset = c.template operand<N>();
  c.template write_raw<u64>(offset, value);
  c.template write_raw<u16>(offset + 8, 0xffff);
}
// Operand N of a packed instruction as a vector. Legacy SSE wants 16-byte memory operands aligned, SDM Vol. 1 4.1.1.
template <usize N, class C>
VELLUM_INLINE auto read_packed(C& c) {
  if constexpr (kOperandSize<C, N> == 16) {
    c.template require_aligned<N>(16);
    return c.template read<N>();
  } else {
    return Raw<8>{static_cast<u64>(c.template read<N>())};
  }
}
// Writes packed register operand 0, XMM or MMX.
template <class C, class V>
VELLUM_INLINE void write_packed(C& c, V value) {
  if constexpr (sizeof(V) == 16) c.template write<0>(raw(value));
  else write_mmx<0>(c, std::bit_cast<u64>(value));
}

// destination = Op(destination, source)
// kNeverFaults below is for register operands.
template <class Op>
struct Packed {
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    if constexpr (kOperandSize<C, 0> == 8) mmx_wait(c);
    const auto b = read_packed<1>(c);
    const auto a = read_packed<0>(c);
    write_packed(c, raw(Op::template op<kOperandSize<C, 0>>(a, b)));
  }
};
// destination = Op(destination, source, imm8)
template <class Op>
struct PackedImmediate {
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    if constexpr (kOperandSize<C, 0> == 8) mmx_wait(c);
    const auto b = read_packed<1>(c);
    const auto a = read_packed<0>(c);
    write_packed(c, raw(Op::template op<kOperandSize<C, 0>>(a, b, static_cast<u8>(c.immediate()))));
  }
};
// destination = Op(source)
template <class Op>
struct PackedUnary {
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    if constexpr (kOperandSize<C, 0> == 8) mmx_wait(c);
    write_packed(c, raw(Op::template op<kOperandSize<C, 0>>(read_packed<1>(c))));
  }
};
// destination = Op(source, imm8)
template <class Op>
struct PackedUnaryImmediate {
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    if constexpr (kOperandSize<C, 0> == 8) mmx_wait(c);
    write_packed(c, raw(Op::template op<kOperandSize<C, 0>>(read_packed<1>(c), static_cast<u8>(c.immediate()))));
  }
};
// destination = Op(destination, count); the count is an immediate, or the low 64 bits of the source.
template <class Op>
struct PackedShift {
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    if constexpr (kOperandSize<C, 0> == 8) mmx_wait(c);
    u64 count;
    if constexpr (C::kForm.operand[1].place == Place::Immediate) count = static_cast<u8>(c.immediate());
    else count = read_packed<1>(c)[0];
    write_packed(c, raw(Op::template op<kOperandSize<C, 0>>(read_packed<0>(c), count)));
  }
};

}  // namespace vellum::semantics
