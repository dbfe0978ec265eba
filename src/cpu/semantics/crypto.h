// AES, PCLMULQDQ, SHA, SDM Vol. 1 5.12 and 5.18.
#pragma once

#include "cpu/cipher.h"
#include "cpu/semantics/packed.h"

namespace vellum::semantics {

// destination = Function(destination, source)
template <V128 (*Function)(V128, V128)>
struct CipherStep {
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const V128 b = read_packed<1>(c);
    c.template write<0>(Function(c.template read<0>(), b));
  }
};

struct AesInverseMixColumns {  // AESIMC
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) { c.template write<0>(aes_inverse_mix_columns(read_packed<1>(c))); }
};
struct AesKeyGenerationAssist {  // AESKEYGENASSIST
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    c.template write<0>(aes_key_generation_assist(read_packed<1>(c), static_cast<u8>(c.immediate())));
  }
};

struct CarrylessMultiply {  // PCLMULQDQ: imm8 bits 0 and 4 choose the quadwords
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const auto b = to_array<u64>(read_packed<1>(c)), a = to_array<u64>(c.template read<0>());
    const u8 control = static_cast<u8>(c.immediate());
    c.template write<0>(carryless_multiply(a[control & 1], b[(control >> 4) & 1]));
  }
};

struct Sha1FourRounds {  // SHA1RNDS4
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const V128 b = read_packed<1>(c);
    c.template write<0>(sha1_four_rounds(c.template read<0>(), b, static_cast<u8>(c.immediate())));
  }
};
struct Sha256TwoRounds {  // SHA256RNDS2: XMM0 holds message words plus constants
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const V128 b = read_packed<1>(c);
    const V128 message = c.template read_slot<V128>(offsetof(CpuState, vector));
    c.template write<0>(sha256_two_rounds(c.template read<0>(), b, message));
  }
};

}  // namespace vellum::semantics
