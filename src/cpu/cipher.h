// The steps of AES, SHA-1, SHA-256 and carry-less multiplication that instructions make.
#pragma once

#include "cpu/semantics/context.h"

namespace vellum {

// FIPS 197; a state is 16 bytes, column by column. SDM Vol. 1 12.13.
#if defined(VELLUM_AVX2_STENCILS)  // by these hosts' own instructions
using HostCipherLanes = long long __attribute__((vector_size(16)));
VELLUM_INLINE V128 aes_encrypt_round(V128 state, V128 key) { return (V128)__builtin_ia32_aesenc128((HostCipherLanes)state, (HostCipherLanes)key); }
VELLUM_INLINE V128 aes_encrypt_last_round(V128 state, V128 key) { return (V128)__builtin_ia32_aesenclast128((HostCipherLanes)state, (HostCipherLanes)key); }
VELLUM_INLINE V128 aes_decrypt_round(V128 state, V128 key) { return (V128)__builtin_ia32_aesdec128((HostCipherLanes)state, (HostCipherLanes)key); }
VELLUM_INLINE V128 aes_decrypt_last_round(V128 state, V128 key) { return (V128)__builtin_ia32_aesdeclast128((HostCipherLanes)state, (HostCipherLanes)key); }
VELLUM_INLINE V128 aes_inverse_mix_columns(V128 state) { return (V128)__builtin_ia32_aesimc128((HostCipherLanes)state); }
#else
VELLUM_FROM_STENCILS V128 aes_encrypt_round(V128 state, V128 key);
VELLUM_FROM_STENCILS V128 aes_encrypt_last_round(V128 state, V128 key);
VELLUM_FROM_STENCILS V128 aes_decrypt_round(V128 state, V128 key);
VELLUM_FROM_STENCILS V128 aes_decrypt_last_round(V128 state, V128 key);
VELLUM_FROM_STENCILS V128 aes_inverse_mix_columns(V128 state);
#endif
VELLUM_FROM_STENCILS V128 aes_key_generation_assist(V128 key, u8 round_constant);

// The 128-bit product of two polynomials over GF(2).
#if defined(VELLUM_AVX2_STENCILS)
VELLUM_INLINE V128 carryless_multiply(u64 a, u64 b) {
  return (V128)__builtin_ia32_pclmulqdq128((HostCipherLanes)V128{a}, (HostCipherLanes)V128{b}, 0);
}
#else
VELLUM_FROM_STENCILS V128 carryless_multiply(u64 a, u64 b);
#endif

// FIPS 180-4; SDM Vol. 2B "SHA1RNDS4" and following. Operands in the instructions' order.
VELLUM_FROM_STENCILS V128 sha1_four_rounds(V128 state, V128 message, u8 function);
VELLUM_FROM_STENCILS V128 sha1_next_e(V128 state, V128 message);
VELLUM_FROM_STENCILS V128 sha1_message_1(V128 a, V128 b);
VELLUM_FROM_STENCILS V128 sha1_message_2(V128 a, V128 b);
VELLUM_FROM_STENCILS V128 sha256_two_rounds(V128 cdgh, V128 abef, V128 message_and_constants);
VELLUM_FROM_STENCILS V128 sha256_message_1(V128 a, V128 b);
VELLUM_FROM_STENCILS V128 sha256_message_2(V128 a, V128 b);

}  // namespace vellum
