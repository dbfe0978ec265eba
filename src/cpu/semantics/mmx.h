// MMX and SSE's MMX-register instructions, SDM Vol. 1 5.4; packed arithmetic is in packed_integer.h.
#pragma once

#include "cpu/semantics/packed_integer.h"

namespace vellum::semantics {

struct EmptyMmxState {  // EMMS: all tags empty, TOP 0, SDM Vol. 3A table 12-2
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    mmx_wait(c);
    enter_mmx(c);
    c.state().x87.valid = 0;
  }
};

// MOVD and MOVQ into an MMX register, from a general register, memory or MMX.
struct MmxLoad {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    mmx_wait(c);
    write_mmx<0>(c, c.template read<1>());
  }
};
// MOVD and MOVQ out of an MMX register to a general register or memory; MOVNTQ.
struct MmxStore {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    mmx_wait(c);
    c.template write<0>(static_cast<typename C::template Type<0>>(c.template read<1>()));
    enter_mmx(c);
  }
};

struct MmxInsertWord {  // PINSRW
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    mmx_wait(c);
    const u16 word = static_cast<u16>(c.template read<1>());
    auto lanes = to_array<u16>(c.template read<0>());
    lanes[c.immediate() & 3] = word;
    write_mmx<0>(c, std::bit_cast<u64>(lanes));
  }
};
struct MmxExtractWord {  // PEXTRW
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    mmx_wait(c);
    const auto lanes = to_array<u16>(c.template read<1>());
    enter_mmx(c);
    c.template write<0>(lanes[c.immediate() & 3]);
  }
};

// MASKMOVQ and MASKMOVDQU: bytes of operand 0 whose mask byte in operand 1 has its top bit set go to DS:rDI. All bytes
// must be writable, chosen or not: the manual leaves it open, silicon (AMD Zen) checks so.
struct MaskedStore {
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    constexpr unsigned kSize = kOperandSize<C, 0>;
    if constexpr (kSize == 8) {
      mmx_wait(c);
      enter_mmx(c);  // stays even if the store faults, as on silicon
    }
    const auto data = to_array<u8>(c.template read<0>());
    const auto mask = to_array<u8>(c.template read<1>());
    const u64 linear = c.linear(c.wrap_offset(c.template gpr<u64>(kRdi)), kSize, AccessType::Write);
    c.probe_write(linear, kSize);
    for (unsigned i = 0; i < kSize; ++i)
      if (mask[i] & 0x80) c.template store<u8>(linear + i, data[i]);
  }
};

struct MoveMmxToXmm {  // MOVQ2DQ
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    mmx_wait(c);
    const u64 value = c.template read<1>();
    enter_mmx(c);
    c.template write<0>(V128{value, 0});
  }
};

}  // namespace vellum::semantics
