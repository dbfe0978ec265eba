// Vectors of lanes, and the shapes that packed MMX, SSE and AVX instructions have in common.
#pragma once

#include <array>
#include <bit>
#include <utility>

#include "cpu/semantics/context.h"

namespace vellum::semantics {

template <class T, usize Size>
struct LanesOf {
  using type = T __attribute__((vector_size(Size)));
};
template <class T, usize Size>
using Lanes = typename LanesOf<T, Size>::type;
// A register's bits: 8 bytes for MMX, 16 for XMM, 32 for YMM.
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

template <class V>
VELLUM_INLINE auto low_half(V v) {
  return shuffle<[](usize i) { return i; }, sizeof(V) / sizeof(v[0]) / 2>(v, v);
}
template <class V>
VELLUM_INLINE auto high_half(V v) {
  return shuffle<[](usize i) { return i + sizeof(V) / sizeof(v[0]) / 2; }, sizeof(V) / sizeof(v[0]) / 2>(v, v);
}
// f(v...) on each 128 bits of the vectors: how most AVX instructions on YMM are defined.
template <class Function, class First, class... V>
VELLUM_INLINE auto by_lanes(Function f, First first, V... v) {
  if constexpr (sizeof(First) <= 16) return f(raw(first), raw(v)...);
  else return concatenate(f(low_half(raw(first)), low_half(raw(v))...), f(high_half(raw(first)), high_half(raw(v))...));
}
// The same 128 bits in each lane of `Size` bytes.
template <usize Size>
VELLUM_INLINE Raw<Size> repeat_lane(V128 v) {
  if constexpr (Size == 16) return v;
  else return concatenate(v, v);
}

template <class C, usize N>
inline constexpr usize kOperandSize = sizeof(typename C::template Type<N>);

// The operand that is the first source: the destination, or VEX.vvvv where the encoding has a register there. Not for
// VEX-encoded instructions with one source and an immediate.
template <class C>
inline constexpr usize kFirst = C::kForm.vex && C::kForm.operand[2].place != Place::None ? 1 : 0;
template <class C>
inline constexpr usize kSecond = kFirst<C> + 1;

// An operation may say of itself
//   kAnyWidth            its op<Size> does wide vectors as a whole; otherwise it is done on each 128 bits
//   kControlBitsPerLane  the second 128 bits take their part of imm8 that many bits higher
template <class Op>
consteval bool any_width() {
  if constexpr (requires { Op::kAnyWidth; }) return Op::kAnyWidth;
  else return false;
}
template <class Op>
consteval unsigned control_bits_per_lane() {
  if constexpr (requires { Op::kControlBitsPerLane; }) return Op::kControlBitsPerLane;
  else return 0;
}
template <class Op, class First, class... V>
VELLUM_INLINE Raw<sizeof(First)> apply(First first, V... v) {
  if constexpr (any_width<Op>()) return raw(Op::template op<sizeof(First)>(first, v...));
  else return by_lanes([](auto... lane) { return raw(Op::template op<sizeof(First) < 16 ? sizeof(First) : 16>(lane...)); }, first, v...);
}
// With a number, an immediate or a shift's count, behind the vectors.
template <class Op, class Number, class First, class... V>
VELLUM_INLINE Raw<sizeof(First)> apply_with(Number number, First first, V... v) {
  if constexpr (any_width<Op>() || sizeof(First) <= 16) {
    return raw(Op::template op<sizeof(First)>(first, v..., number));
  } else {
    const Number high = static_cast<Number>(number >> control_bits_per_lane<Op>());
    return concatenate(raw(Op::template op<16>(low_half(first), low_half(v)..., number)),
                       raw(Op::template op<16>(high_half(first), high_half(v)..., high)));
  }
}

// Op by the immediate that is a hole in the host's own instruction, on vectors of at most kLargest bytes; by_hole.h has them.
template <class Op>
struct ByHole;
template <class C, class Op, usize Size>
consteval bool is_by_hole() {
  if constexpr (C::kImmediateIsHole && Size >= 16 && requires { ByHole<Op>::kLargest; }) return Size <= ByHole<Op>::kLargest || control_bits_per_lane<Op>() == 0;
  else return false;
}
template <class Op, class First, class... V>
VELLUM_INLINE Raw<sizeof(First)> apply_by_hole(First first, V... v) {
  if constexpr (sizeof(First) <= ByHole<Op>::kLargest) return ByHole<Op>::op(raw(first), raw(v)...);
  else return by_lanes([](auto... lane) { return ByHole<Op>::op(lane...); }, first, v...);
}

// Op with an immediate that is known when code is made of it; byte_moves.h has them.
template <class Op>
struct ByConstant;
template <class C, class Op, usize Size>
consteval bool is_by_constant() {
  if constexpr (C::kImmediateIsConstant && Size >= 16) return requires { ByConstant<Op>::kControlBitsPerLane; };
  else return false;
}

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
// Operand N of a packed instruction as a vector. Legacy SSE wants 16-byte memory operands aligned, SDM Vol. 1 4.1.1;
// VEX-encoded instructions do not, 14.9.
template <usize N, class C>
VELLUM_INLINE auto read_packed(C& c) {
  if constexpr (kOperandSize<C, N> >= 16) {
    if constexpr (!C::kForm.vex) c.template require_aligned<N>(16);
    return c.template read<N>();
  } else {
    return Raw<8>{static_cast<u64>(c.template read<N>())};
  }
}
// Writes packed register operand 0, XMM, YMM or MMX.
template <class C, class V>
VELLUM_INLINE void write_packed(C& c, V value) {
  if constexpr (sizeof(V) >= 16) c.template write<0>(raw(value));
  else write_mmx<0>(c, std::bit_cast<u64>(value));
}

// The low lane of the first source.
template <class U, class C>
VELLUM_INLINE U first_scalar(C& c) { return c.template read_slot<U>(c.template operand<kFirst<C>>()); }
// Writes the destination's low lane. Legacy SSE keeps its others, VEX takes them from the first source.
template <class C, class U>
VELLUM_INLINE void write_scalar(C& c, U value) {
  if constexpr (kFirst<C> == 1) {
    auto lanes = to_array<U>(c.template read_slot<V128>(c.template operand<1>()));
    lanes[0] = value;
    c.template write<0>(from_array(lanes));
  } else {
    c.template write<0>(value);
  }
}

// Op by the host's own instruction, for vectors of any size; host_packed.h has them.
template <class Op>
struct HostPacked;
template <class Op, class V>
consteval bool on_host() {
  if constexpr (sizeof(V) >= 16) return requires { HostPacked<Op>::op(V{}, V{}); };
  else return false;
}

// An operation on halves keeps compilers from loading them one by one.
template <class Op, class C, class V>
VELLUM_INLINE void keep_operand(C& c, V& v) {
  if constexpr (!any_width<Op>()) c.keep_whole(v);
}

// destination = Op(first source, second source)
// kNeverFaults below is for register operands.
template <class Op>
struct Packed {
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    if constexpr (kOperandSize<C, 0> == 8) mmx_wait(c);
    auto b = read_packed<kSecond<C>>(c);
    auto a = read_packed<kFirst<C>>(c);
    if constexpr (on_host<Op, decltype(a)>()) {
      write_packed(c, HostPacked<Op>::op(a, b));
    } else {
      keep_operand<Op>(c, a);
      keep_operand<Op>(c, b);
      write_packed(c, apply<Op>(a, b));
    }
  }
};
// destination = Op(first source, second source, imm8)
template <class Op>
struct PackedImmediate {
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    if constexpr (kOperandSize<C, 0> == 8) mmx_wait(c);
    const auto b = read_packed<kSecond<C>>(c);
    const auto a = read_packed<kFirst<C>>(c);
    if constexpr (is_by_hole<C, Op, sizeof(a)>()) write_packed(c, apply_by_hole<Op>(a, b));
    else if constexpr (is_by_constant<C, Op, sizeof(a)>()) write_packed(c, apply_with<ByConstant<Op>>(static_cast<u8>(c.immediate()), a, b));
    else write_packed(c, apply_with<Op>(static_cast<u8>(c.immediate()), a, b));
  }
};
// destination = Op(source)
template <class Op>
struct PackedUnary {
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    if constexpr (kOperandSize<C, 0> == 8) mmx_wait(c);
    write_packed(c, apply<Op>(read_packed<1>(c)));
  }
};
// destination = Op(source, imm8)
template <class Op>
struct PackedUnaryImmediate {
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    if constexpr (kOperandSize<C, 0> == 8) mmx_wait(c);
    const auto v = read_packed<1>(c);
    if constexpr (is_by_hole<C, Op, sizeof(v)>()) write_packed(c, apply_by_hole<Op>(v));
    else if constexpr (is_by_constant<C, Op, sizeof(v)>()) write_packed(c, apply_with<ByConstant<Op>>(static_cast<u8>(c.immediate()), v));
    else write_packed(c, apply_with<Op>(static_cast<u8>(c.immediate()), v));
  }
};
// destination = Op(first source, count); the count is an immediate, or the low 64 bits of the second source.
template <class Op>
struct PackedShift {
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    if constexpr (kOperandSize<C, 0> == 8) mmx_wait(c);
    if constexpr (C::kForm.operand[kSecond<C>].place == Place::Immediate) {
      const auto v = read_packed<kFirst<C>>(c);
      if constexpr (is_by_hole<C, Op, sizeof(v)>()) write_packed(c, apply_by_hole<Op>(v));
      else if constexpr (is_by_constant<C, Op, sizeof(v)>()) write_packed(c, apply_with<ByConstant<Op>>(static_cast<u8>(c.immediate()), v));
      else write_packed(c, apply_with<Op>(u64{static_cast<u8>(c.immediate())}, v));
    } else {
      const u64 count = read_packed<kSecond<C>>(c)[0];
      write_packed(c, apply_with<Op>(count, read_packed<kFirst<C>>(c)));
    }
  }
};

}  // namespace vellum::semantics
