// Packed operations that compilers do not make the host's own instruction of: in stencils for hosts with AVX2, and for the optimizing
// translator, whose quick generator knows the instructions and not what they are made of.
#pragma once

#include "cpu/semantics/packed_integer.h"

#if defined(__AVX2__) && (defined(VELLUM_AVX2_STENCILS) || defined(VELLUM_BITCODE))
namespace vellum::semantics {

#define VELLUM_HOST_PACKED(type, builtin, ...)                                                                                \
  template <>                                                                                                                 \
  struct HostPacked<__VA_ARGS__> {                                                                                            \
    VELLUM_INLINE static V128 op(V128 a, V128 b) { return raw(__builtin_ia32_##builtin##128(as<type>(a), as<type>(b))); }      \
    VELLUM_INLINE static V256 op(V256 a, V256 b) { return raw(__builtin_ia32_##builtin##256(as<type>(a), as<type>(b))); }      \
  };
VELLUM_HOST_PACKED(short, pmaddwd, LanesMultiplyAdd)
VELLUM_HOST_PACKED(char, pmaddubsw, LanesMultiplyAddSaturating)
VELLUM_HOST_PACKED(short, pmulhrsw, LanesMultiplyHighRounded)
VELLUM_HOST_PACKED(short, pmulhw, LanesMultiplyHigh<i16>)
VELLUM_HOST_PACKED(short, pmulhuw, LanesMultiplyHigh<u16>)
VELLUM_HOST_PACKED(char, pavgb, LanesAverage<u8>)
VELLUM_HOST_PACKED(short, pavgw, LanesAverage<u16>)
VELLUM_HOST_PACKED(char, psignb, LanesSign<i8>)
VELLUM_HOST_PACKED(short, psignw, LanesSign<i16>)
VELLUM_HOST_PACKED(int, psignd, LanesSign<i32>)
VELLUM_HOST_PACKED(short, packsswb, PackSaturating<i16, i8>)
VELLUM_HOST_PACKED(short, packuswb, PackSaturating<i16, u8>)
VELLUM_HOST_PACKED(int, packssdw, PackSaturating<i32, i16>)
VELLUM_HOST_PACKED(int, packusdw, PackSaturating<i32, u16>)
VELLUM_HOST_PACKED(char, psadbw, SumOfDifferences)
VELLUM_HOST_PACKED(char, pshufb, ShuffleBytes)
VELLUM_HOST_PACKED(short, phaddw, HorizontalAdd<u16>)
VELLUM_HOST_PACKED(int, phaddd, HorizontalAdd<u32>)
VELLUM_HOST_PACKED(short, phsubw, HorizontalSubtract<u16>)
VELLUM_HOST_PACKED(int, phsubd, HorizontalSubtract<u32>)
VELLUM_HOST_PACKED(short, phaddsw, HorizontalAddSaturating)
VELLUM_HOST_PACKED(short, phsubsw, HorizontalSubtractSaturating)
#undef VELLUM_HOST_PACKED

template <>
struct HostPacked<PermuteAcross> {
  VELLUM_INLINE static V256 op(V256 control, V256 v) { return raw(__builtin_ia32_permvarsi256(as<int>(v), as<int>(control))); }
};

template <class T, usize Half, class V>
VELLUM_INLINE V unpack_lanes(V a, V b) {
  constexpr usize kLanes = sizeof(V) / sizeof(T), kGroup = 16 / sizeof(T);
  return raw(shuffle<[](usize i) { return i / kGroup * kGroup + Half * kGroup / 2 + i % kGroup / 2 + i % 2 * kLanes; }, kLanes>(as<T>(a), as<T>(b)));
}
template <class T>
struct HostPacked<UnpackLow<T>> {
  template <class V>
  VELLUM_INLINE static V op(V a, V b) { return unpack_lanes<T, 0>(a, b); }
};
template <class T>
struct HostPacked<UnpackHigh<T>> {
  template <class V>
  VELLUM_INLINE static V op(V a, V b) { return unpack_lanes<T, 1>(a, b); }
};

}  // namespace vellum::semantics
#endif
