// AES, PCLMULQDQ, SHA, and VAES and VPCLMULQDQ, SDM Vol. 1 5.12 and 5.18.
#pragma once

#include "cpu/cipher.h"
#include "cpu/semantics/packed.h"

namespace vellum::semantics {

// destination = Function(first source, second source), on each 128 bits
template <V128 (*Function)(V128, V128)>
struct CipherStep {
  static constexpr bool kNeverFaults = true;
  template <class C>
  VELLUM_INLINE static void op(C& c) {
    const auto b = read_packed<kSecond<C>>(c);
    const auto a = c.template read<kFirst<C>>();
    c.template write<0>(by_lanes([](V128 x, V128 y) { return Function(x, y); }, a, b));
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
    const auto b = read_packed<kSecond<C>>(c);
    const auto a = c.template read<kFirst<C>>();
    const u8 control = static_cast<u8>(c.immediate());
    const auto half = [](V128 v, unsigned high) { return high & 1 ? v[1] : v[0]; };
    c.template write<0>(by_lanes(
        [=](V128 x, V128 y) { return carryless_multiply(half(x, control), half(y, control >> 4)); }, a, b));
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
