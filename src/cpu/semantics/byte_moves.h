// Operations that an immediate tells which bytes to move where. The optimizing translator knows the immediate: in its bitcode each is
// a call of a function that exists nowhere, and finds out by the operation itself, done on numbered bytes, which shuffle to put there.
#pragma once

#include "cpu/semantics/sse4.h"

// name, immediate's bits that the second 128 bits of a YMM register have for themselves, operation
#define VELLUM_BYTE_MOVES(X)                  \
  X(shuffle_dwords, 0, ShuffleFour<u32, 0>)   \
  X(shuffle_low_words, 0, ShuffleFour<u16, 0>) \
  X(shuffle_high_words, 0, ShuffleFour<u16, 4>) \
  X(permute_qwords, 2, PermutePd)             \
  X(shift_bytes_left, 0, ShiftBytesLeft)      \
  X(shift_bytes_right, 0, ShiftBytesRight)    \
  X(shuffle_two_dwords, 0, ShufflePs)         \
  X(shuffle_two_qwords, 2, ShufflePd)         \
  X(align_right, 0, AlignRight)               \
  X(blend_words, 0, BlendByImmediate<u16>)    \
  X(blend_dwords, 4, BlendByImmediate<u32>)   \
  X(blend_qwords, 2, BlendByImmediate<u64>)


// name, operation: on 32 bytes, across the 128 bits of each half
#define VELLUM_MOVES_ACROSS(X)                    \
  X(permute_four_qwords, ShuffleFour<u64, 0>)     \
  X(permute_halves, PermuteHalves)

#if defined(VELLUM_BITCODE)
namespace vellum::semantics {

// On 32 bytes where those are passed in a register; elsewhere the operation is done on each half.
#if defined(__AVX2__)
#define VELLUM_WIDE_MOVE(name)                                                                       \
  static constexpr bool kAnyWidth = true;                                                            \
  VELLUM_INLINE static V256 move(V256 a, V256 b, u64 immediate) { return vellum_wide_move_##name(a, b, immediate); }
#else
#define VELLUM_WIDE_MOVE(name)
#endif
#define VELLUM_MOVE_BY_CONSTANT(name, bits, ...)                                                                    \
  extern "C" [[gnu::const]] V128 vellum_move_##name(V128 a, V128 b, u64 immediate);                                 \
  extern "C" [[gnu::const]] V256 vellum_wide_move_##name(V256 a, V256 b, u64 immediate);                            \
  template <>                                                                                                       \
  struct ByConstant<__VA_ARGS__> {                                                                                  \
    static constexpr unsigned kControlBitsPerLane = bits;                                                           \
    VELLUM_WIDE_MOVE(name)                                                                                          \
    VELLUM_INLINE static V128 move(V128 a, V128 b, u64 immediate) { return vellum_move_##name(a, b, immediate); }   \
    template <usize Size>                                                                                           \
    VELLUM_INLINE static Raw<Size> op(Raw<Size> v, u64 immediate) { return move(v, v, immediate); }                 \
    template <usize Size>                                                                                           \
    VELLUM_INLINE static Raw<Size> op(Raw<Size> a, Raw<Size> b, u64 immediate) { return move(a, b, immediate); }    \
  };
VELLUM_BYTE_MOVES(VELLUM_MOVE_BY_CONSTANT)
#undef VELLUM_MOVE_BY_CONSTANT
#undef VELLUM_WIDE_MOVE

#if defined(__AVX2__)
#define VELLUM_MOVE_ACROSS(name, ...)                                                                               \
  extern "C" [[gnu::const]] V256 vellum_wide_move_##name(V256 a, V256 b, u64 immediate);                            \
  template <>                                                                                                       \
  struct ByConstant<__VA_ARGS__> {                                                                                  \
    static constexpr unsigned kControlBitsPerLane = 0;                                                              \
    static constexpr bool kAnyWidth = true;                                                                         \
    template <usize Size>                                                                                           \
    VELLUM_INLINE static V256 op(V256 v, u64 immediate) { return vellum_wide_move_##name(v, v, immediate); }        \
    template <usize Size>                                                                                           \
    VELLUM_INLINE static V256 op(V256 a, V256 b, u64 immediate) { return vellum_wide_move_##name(a, b, immediate); } \
  };
VELLUM_MOVES_ACROSS(VELLUM_MOVE_ACROSS)
#undef VELLUM_MOVE_ACROSS
#endif

}  // namespace vellum::semantics
#endif
