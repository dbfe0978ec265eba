// Packed instructions by an immediate in stencils on x86-64: there it is a hole, which can be the immediate of the host's own
// instruction. Elsewhere the operations choose by a number that they know only when they run.
#pragma once

#include "cpu/semantics/sse4.h"

#if defined(__x86_64__)
namespace vellum::semantics {

// The host's mnemonic for each operation. With AVX2 it is VEX-encoded and does vectors of 32 bytes, too.
#if defined(VELLUM_AVX2_STENCILS)
#define VELLUM_UNARY_BY_HOLE(mnemonic, ...)                                                         \
  template <>                                                                                       \
  struct ByHole<__VA_ARGS__> {                                                                      \
    static constexpr usize kLargest = 32;                                                           \
    template <class V>                                                                              \
    VELLUM_INLINE static V op(V v) {                                                                \
      V result;                                                                                     \
      asm("v" mnemonic " $vellum_hole_immediate, %1, %0" : "=x"(result) : "x"(v));                  \
      return result;                                                                                \
    }                                                                                               \
  };
#define VELLUM_SHIFT_BY_HOLE VELLUM_UNARY_BY_HOLE
#define VELLUM_BINARY_BY_HOLE(mnemonic, ...)                                                        \
  template <>                                                                                       \
  struct ByHole<__VA_ARGS__> {                                                                      \
    static constexpr usize kLargest = 32;                                                           \
    template <class V>                                                                              \
    VELLUM_INLINE static V op(V a, V b) {                                                           \
      V result;                                                                                     \
      asm("v" mnemonic " $vellum_hole_immediate, %2, %1, %0" : "=x"(result) : "x"(a), "x"(b));      \
      return result;                                                                                \
    }                                                                                               \
  };
#else
#define VELLUM_UNARY_BY_HOLE(mnemonic, ...)                                                         \
  template <>                                                                                       \
  struct ByHole<__VA_ARGS__> {                                                                      \
    static constexpr usize kLargest = 16;                                                           \
    VELLUM_INLINE static V128 op(V128 v) {                                                          \
      V128 result;                                                                                  \
      asm(mnemonic " $vellum_hole_immediate, %1, %0" : "=x"(result) : "x"(v));                      \
      return result;                                                                                \
    }                                                                                               \
  };
#define VELLUM_SHIFT_BY_HOLE(mnemonic, ...)                                                         \
  template <>                                                                                       \
  struct ByHole<__VA_ARGS__> {                                                                      \
    static constexpr usize kLargest = 16;                                                           \
    VELLUM_INLINE static V128 op(V128 v) {                                                          \
      asm(mnemonic " $vellum_hole_immediate, %0" : "+x"(v));                                        \
      return v;                                                                                     \
    }                                                                                               \
  };
#define VELLUM_BINARY_BY_HOLE(mnemonic, ...)                                                        \
  template <>                                                                                       \
  struct ByHole<__VA_ARGS__> {                                                                      \
    static constexpr usize kLargest = 16;                                                           \
    VELLUM_INLINE static V128 op(V128 a, V128 b) {                                                  \
      asm(mnemonic " $vellum_hole_immediate, %1, %0" : "+x"(a) : "x"(b));                           \
      return a;                                                                                     \
    }                                                                                               \
  };
#endif

VELLUM_SHIFT_BY_HOLE("psllw", ShiftLeft<u16>)
VELLUM_SHIFT_BY_HOLE("pslld", ShiftLeft<u32>)
VELLUM_SHIFT_BY_HOLE("psllq", ShiftLeft<u64>)
VELLUM_SHIFT_BY_HOLE("psrlw", ShiftRight<u16>)
VELLUM_SHIFT_BY_HOLE("psrld", ShiftRight<u32>)
VELLUM_SHIFT_BY_HOLE("psrlq", ShiftRight<u64>)
VELLUM_SHIFT_BY_HOLE("psraw", ShiftRight<i16>)
VELLUM_SHIFT_BY_HOLE("psrad", ShiftRight<i32>)
VELLUM_SHIFT_BY_HOLE("pslldq", ShiftBytesLeft)
VELLUM_SHIFT_BY_HOLE("psrldq", ShiftBytesRight)
VELLUM_UNARY_BY_HOLE("pshufd", ShuffleFour<u32, 0>)
VELLUM_UNARY_BY_HOLE("pshuflw", ShuffleFour<u16, 0>)
VELLUM_UNARY_BY_HOLE("pshufhw", ShuffleFour<u16, 4>)
VELLUM_BINARY_BY_HOLE("shufps", ShufflePs)
VELLUM_BINARY_BY_HOLE("shufpd", ShufflePd)
#if defined(VELLUM_AVX2_STENCILS)
VELLUM_UNARY_BY_HOLE("permq", ShuffleFour<u64, 0>)
VELLUM_UNARY_BY_HOLE("permilpd", PermutePd)
VELLUM_BINARY_BY_HOLE("palignr", AlignRight)
VELLUM_BINARY_BY_HOLE("pblendw", BlendByImmediate<u16>)
VELLUM_BINARY_BY_HOLE("blendps", BlendByImmediate<u32>)
VELLUM_BINARY_BY_HOLE("blendpd", BlendByImmediate<u64>)
VELLUM_BINARY_BY_HOLE("perm2i128", PermuteHalves)
VELLUM_BINARY_BY_HOLE("mpsadbw", MultipleSumsOfDifferences)
#endif
#undef VELLUM_SHIFT_BY_HOLE
#undef VELLUM_UNARY_BY_HOLE
#undef VELLUM_BINARY_BY_HOLE

#if defined(VELLUM_AVX2_STENCILS)
template <class C>
consteval bool halves_by_hole() { return C::kImmediateIsHole; }
VELLUM_INLINE V256 insert_by_hole(V256 whole, V128 half) {
  V256 result;
  asm("vinserti128 $vellum_hole_immediate, %2, %1, %0" : "=x"(result) : "x"(whole), "x"(half));
  return result;
}
VELLUM_INLINE V128 extract_by_hole(V256 whole) {
  V128 result;
  asm("vextracti128 $vellum_hole_immediate, %1, %0" : "=x"(result) : "x"(whole));
  return result;
}
#endif

}  // namespace vellum::semantics
#endif

#if !defined(VELLUM_AVX2_STENCILS)
namespace vellum::semantics {
template <class C>
consteval bool halves_by_hole() { return false; }
V256 insert_by_hole(V256 whole, V128 half);
V128 extract_by_hole(V256 whole);
}  // namespace vellum::semantics
#endif
