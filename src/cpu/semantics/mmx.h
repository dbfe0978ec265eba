// MMX and SSE's MMX-register instructions, SDM Vol. 1 5.4; packed arithmetic is in packed_integer.h.
#pragma once

#include "cpu/semantics/packed_integer.h"

namespace vellum::semantics {

struct EmptyMmxState {  // EMMS: all tags empty; TOP stays, SDM Vol. 1 9.6.3
  template <class C>
  VELLUM_INLINE static void op(C& c) { c.state().x87.valid = 0; }
};

// MOVD and MOVQ into an MMX register, from a general register, memory or MMX.
struct MmxLoad {
  template <class C>
  VELLUM_INLINE static void op(C& c) { write_mmx<0>(c, c.template read<1>()); }
};
// MOVD and MOVQ out of an MMX register to a general register or memory; MOVNTQ.
struct MmxStore {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    c.template write<0>(static_cast<typename C::template Type<0>>(c.template read<1>()));
    enter_mmx(c);
  }
};

struct MmxInsertWord {  // PINSRW
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const u16 word = static_cast<u16>(c.template read<1>());
    auto lanes = to_array<u16>(c.template read<0>());
    lanes[c.immediate() & 3] = word;
    write_mmx<0>(c, std::bit_cast<u64>(lanes));
  }
};
struct MmxExtractWord {  // PEXTRW
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const auto lanes = to_array<u16>(c.template read<1>());
    enter_mmx(c);
    c.template write<0>(lanes[c.immediate() & 3]);
  }
};

// MASKMOVQ and MASKMOVDQU: bytes of operand 0 whose mask byte in operand 1 has its top bit set go to DS:rDI. A fault in
// the middle leaves some bytes written, as the manual allows; the instruction then starts over with the same result.
struct MaskedStore {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const auto data = to_array<u8>(c.template read<0>());
    const auto mask = to_array<u8>(c.template read<1>());
    const u64 rdi = c.template gpr<u64>(kRdi);
    const unsigned size = c.address_size();
    for (usize i = 0; i < data.size(); ++i) {
      if (!(mask[i] & 0x80)) continue;
      const u64 offset = size == 8 ? rdi + i : size == 4 ? static_cast<u32>(rdi + i) : static_cast<u16>(rdi + i);
      c.template store<u8>(c.linear(offset, 1, AccessType::Write), data[i]);
    }
    if constexpr (kOperandSize<C, 0> == 8) enter_mmx(c);
  }
};

struct MoveMmxToXmm {  // MOVQ2DQ
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const u64 value = c.template read<1>();
    enter_mmx(c);
    c.template write<0>(V128{value, 0});
  }
};

}  // namespace vellum::semantics
