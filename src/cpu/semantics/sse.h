// SSE to SSSE3 data movement on XMM, and its VEX-encoded forms, SDM Vol. 1 5.5 to 5.8; packed arithmetic is in packed_integer.h.
#pragma once

#include "cpu/semantics/by_hole.h"
#include "cpu/semantics/byte_moves.h"
#include "cpu/semantics/host_packed.h"
#include "cpu/semantics/mmx.h"
#include "cpu/semantics/packed_integer.h"
#include "cpu/semantics/sse4.h"

namespace vellum::semantics {

// MOVUPS, MOVDQU, MOVLPS and the like: operand 0 takes operand 1; a shorter write to XMM keeps the upper part.
struct VectorMove {
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    c.template write<0>(static_cast<typename C::template Type<0>>(c.template read<1>()));
  }
};
// MOVAPS, MOVDQA, MOVNTPS and the like.
struct VectorMoveAligned {
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    c.template require_aligned<0>(kOperandSize<C, 0>);
    c.template require_aligned<1>(kOperandSize<C, 1>);
    c.template write<0>(c.template read<1>());
  }
};
// MOVD, MOVQ, MOVSS and MOVSD loads: the rest of the register becomes zero.
struct VectorMoveZeroExtend {
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) { c.template write<0>(V128{static_cast<u64>(c.template read<1>()), 0}); }
};
struct VectorLoadHigh {  // MOVHPS, MOVHPD, MOVLHPS
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const u64 high = c.template read<kSecond<C>>();
    c.template write<0>(V128{first_scalar<u64>(c), high});
  }
};
struct VectorStoreHigh {  // MOVHPS, MOVHPD; MOVHLPS
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) { write_scalar(c, u64{c.template read<kSecond<C>>()[1]}); }
};

// VMOVSS, VMOVSD between registers, VMOVLPS: only the low lane comes from the second source.
template <class T>
struct VectorMoveScalar {
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) { write_scalar(c, static_cast<T>(c.template read<2>())); }
};

// MOVSLDUP, MOVSHDUP, VMOVDDUP: each even or odd lane twice.
template <usize Odd, class T = u32>
struct DuplicateLanes {
  static constexpr bool kAnyWidth = true;
  template <usize Size>
  VELLUM_INLINE static auto op(Raw<Size> v) {
    return shuffle<[](usize i) { return (i & ~usize{1}) + Odd; }, Size / sizeof(T)>(as<T>(v), as<T>(v));
  }
};
struct DuplicateLow {  // MOVDDUP
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const u64 value = c.template read<1>();
    c.template write<0>(V128{value, value});
  }
};

template <class T>
struct InsertLane {  // PINSRB, PINSRW, PINSRD, PINSRQ; T is void for operand size
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using Lane = std::conditional_t<std::is_void_v<T>, typename C::template Type<kSecond<C>>, T>;
    const Lane value = static_cast<Lane>(c.template read<kSecond<C>>());
    auto lanes = as<Lane>(V128(c.template read<kFirst<C>>()));
    lanes[static_cast<usize>(c.immediate()) & (16 / sizeof(Lane) - 1)] = value;
    c.template write<0>(raw(lanes));
  }
};
template <class T>
struct ExtractLane {  // PEXTRB, PEXTRW, PEXTRD, PEXTRQ, EXTRACTPS
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using Lane = std::conditional_t<std::is_void_v<T>, typename C::template Type<0>, T>;
    const auto lanes = to_array<Lane>(c.template read<1>());
    c.template write<0>(lanes[static_cast<usize>(c.immediate()) & (lanes.size() - 1)]);
  }
};

}  // namespace vellum::semantics
