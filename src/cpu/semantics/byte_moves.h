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

#if defined(VELLUM_BITCODE)
namespace vellum::semantics {

#define VELLUM_MOVE_BY_CONSTANT(name, bits, ...)                                                                \
  extern "C" [[gnu::const]] V128 vellum_move_##name(V128 a, V128 b, u64 immediate);                             \
  template <>                                                                                                   \
  struct ByConstant<__VA_ARGS__> {                                                                              \
    static constexpr unsigned kControlBitsPerLane = bits;                                                       \
    template <usize Size>                                                                                       \
    VELLUM_INLINE static V128 op(V128 v, u64 immediate) { return vellum_move_##name(v, v, immediate); }          \
    template <usize Size>                                                                                       \
    VELLUM_INLINE static V128 op(V128 a, V128 b, u64 immediate) { return vellum_move_##name(a, b, immediate); }  \
  };
VELLUM_BYTE_MOVES(VELLUM_MOVE_BY_CONSTANT)
#undef VELLUM_MOVE_BY_CONSTANT

}  // namespace vellum::semantics
#endif
