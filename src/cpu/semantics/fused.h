// FMA and F16C, SDM Vol. 1 14.4 and 14.5. Translation units that include this have FENV_ACCESS on.
#pragma once

#include "cpu/exact_float.h"
#include "cpu/semantics/sse_float.h"

namespace vellum::semantics {

// Operands 1, 2 and 3 as the digits say: the first two are multiplied.
enum class FusedOrder : u8 { Order132, Order213, Order231 };
// What happens to the product's and the addend's signs. The last two alternate between odd and even lanes.
enum class FusedSigns : u8 { Add, Subtract, NegativeAdd, NegativeSubtract, AddSubtract, SubtractAdd };

// x * y + z with SSE's exceptions and the signs asked for; NaNs come out with the signs that they had.
template <class T, FusedSigns Signs, class C, class V>
VELLUM_INLINE V fused_lanes(C& c, V x, V y, V z) {
  using enum FusedSigns;
  constexpr usize kSize = sizeof(V);
  const V all = raw(splat<BitsOf<T>, kSize>(BitsOf<T>{1} << (8 * sizeof(T) - 1))), even = even_signs<T, kSize>();
  const V signed_x = Signs == NegativeAdd || Signs == NegativeSubtract ? x ^ all : x;
  const V signed_z = Signs == Subtract || Signs == NegativeSubtract ? z ^ all
                     : Signs == AddSubtract                         ? z ^ even
                     : Signs == SubtractAdd                         ? z ^ all ^ even
                                                                    : z;
  const u32 mxcsr = c.state().mxcsr;
  const V result = sse_operation(c, [=](u32& flags) {
    return by_lanes([&flags, mxcsr](V128 a, V128 b, V128 d) {
      return sizeof(T) == 4 ? fused_multiply_add_f32(a, b, d, mxcsr, flags) : fused_multiply_add_f64(a, b, d, mxcsr, flags);
    }, signed_x, y, signed_z);
  });
  if (may_have_nan<T>(result)) [[unlikely]]
    return by_lanes([](V128 r, V128 a, V128 b, V128 d) {
      return sizeof(T) == 4 ? fused_nans_f32(r, a, b, d) : fused_nans_f64(r, a, b, d);
    }, result, x, y, z);
  return result;
}
template <class T, FusedOrder Order, FusedSigns Signs, class C, class V>
VELLUM_INLINE V fused_ordered(C& c, V first, V second, V third) {
  switch (Order) {
    case FusedOrder::Order132: return fused_lanes<T, Signs>(c, first, third, second);
    case FusedOrder::Order213: return fused_lanes<T, Signs>(c, second, first, third);
    case FusedOrder::Order231: return fused_lanes<T, Signs>(c, second, third, first);
  }
}

template <class T, FusedOrder Order, FusedSigns Signs>
struct FusedPacked {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const auto third = c.template read<2>();
    c.template write<0>(fused_ordered<T, Order, Signs>(c, c.template read<0>(), c.template read<1>(), third));
  }
};
template <class T, FusedOrder Order, FusedSigns Signs>
struct FusedScalar {  // the destination's other lanes stay
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using U = BitsOf<T>;
    using Array = std::array<U, 16 / sizeof(U)>;
    const U third = c.template read<2>();
    auto lanes = to_array<U>(c.template read<0>());
    const U second = to_array<U>(c.template read<1>())[0];
    const V128 result = fused_ordered<T, Order, Signs>(c, from_array(Array{lanes[0]}), from_array(Array{second}), from_array(Array{third}));
    lanes[0] = to_array<U>(result)[0];
    c.template write<0>(from_array(lanes));
  }
};

struct ConvertHalfToSingle {  // VCVTPH2PS
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    constexpr usize kLanes = kOperandSize<C, 0> / 4;
    const auto halves = std::bit_cast<std::array<u16, kLanes>>(c.template read<1>());
    c.template write<0>(sse_operation(c, [=](u32& flags) {
      std::array<u32, kLanes> lanes;
      for (usize i = 0; i < kLanes; ++i) lanes[i] = half_to_single(halves[i], flags);
      return from_array(lanes);
    }));
  }
};
struct ConvertSingleToHalf {  // VCVTPS2PH
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const auto lanes = to_array<u32>(c.template read<1>());
    const u8 control = static_cast<u8>(c.immediate());
    const u32 mxcsr = c.state().mxcsr;
    const auto convert = [=](u32& flags) {
      std::array<u16, lanes.size()> halves;
      for (usize i = 0; i < lanes.size(); ++i) halves[i] = single_to_half(lanes[i], control, mxcsr, flags);
      return std::bit_cast<typename C::template Type<0>>(halves);
    };
    // A fault of the store comes before #XM, and before MXCSR changes.
    if constexpr (!C::kSseMasked) {
      if (c.state().sse_unmasked) [[unlikely]] {
        constexpr unsigned kSize = kOperandSize<C, 0>;
        if constexpr (C::template kIsMemory<0>) c.probe_write(c.address(kSize, AccessType::Write), kSize);
        c.template write<0>(sse_operation(c, convert));
        return;
      }
    }
    u32 flags = 0;
    c.template write<0>(convert(flags));
    c.state().mxcsr |= flags;
  }
};

}  // namespace vellum::semantics
