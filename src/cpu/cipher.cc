// The steps of AES, SHA-1, SHA-256 and carry-less multiplication that instructions make: in portable code, and by the host's
// own instructions where it has them.
#include "cpu/cipher.h"

#include <array>
#include <bit>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace vellum {

namespace {

using Bytes16 = std::array<u8, 16>;
using Words4 = std::array<u32, 4>;

Bytes16 bytes_of(V128 v) { return std::bit_cast<Bytes16>(v); }
Words4 words_of(V128 v) { return std::bit_cast<Words4>(v); }
template <class T>
V128 vector_of(const T& lanes) { return std::bit_cast<V128>(lanes); }

// Multiplication in GF(2^8) modulo x^8 + x^4 + x^3 + x + 1, FIPS 197 4.2.
constexpr u8 multiply(u8 a, u8 b) {
  u8 product = 0;
  for (; b; b >>= 1) {
    if (b & 1) product ^= a;
    a = static_cast<u8>((a << 1) ^ (a & 0x80 ? 0x1b : 0));
  }
  return product;
}

struct AesTables {
  std::array<u8, 256> sbox{}, inverse_sbox{};
  // One column of (Inv)MixColumns for a byte in its first row, after (Inv)SubBytes.
  std::array<u32, 256> encrypt{}, decrypt{};
};

constexpr u32 column(u8 value, u8 row0, u8 row1, u8 row2, u8 row3) {
  return multiply(value, row0) | static_cast<u32>(multiply(value, row1)) << 8 | static_cast<u32>(multiply(value, row2)) << 16 |
         static_cast<u32>(multiply(value, row3)) << 24;
}

const AesTables kAes = [] {
  AesTables t;
  // Powers of the generator 3 give inverses: 3^i has the inverse 3^(255 - i).
  std::array<u8, 256> power{}, logarithm{};
  u8 value = 1;
  for (unsigned i = 0; i < 255; ++i) {
    power[i] = value;
    logarithm[value] = static_cast<u8>(i);
    value = multiply(value, 3);
  }
  for (unsigned i = 0; i < 256; ++i) {
    const u8 inverse = i ? power[(255 - logarithm[i]) % 255] : u8{0};
    const u8 substituted = static_cast<u8>(inverse ^ std::rotl(inverse, 1) ^ std::rotl(inverse, 2) ^ std::rotl(inverse, 3) ^
                                           std::rotl(inverse, 4) ^ 0x63);  // FIPS 197 5.1.1
    t.sbox[i] = substituted;
    t.inverse_sbox[substituted] = static_cast<u8>(i);
  }
  for (unsigned i = 0; i < 256; ++i) {
    t.encrypt[i] = column(t.sbox[i], 2, 1, 1, 3);
    t.decrypt[i] = column(t.inverse_sbox[i], 14, 9, 13, 11);
  }
  return t;
}();

// (Inv)ShiftRows: row r of column c comes from column c + r (or c - r).
constexpr unsigned shifted(unsigned c, unsigned row) { return 4 * ((c + row) & 3) + row; }
constexpr unsigned inverse_shifted(unsigned c, unsigned row) { return 4 * ((c - row) & 3) + row; }

template <unsigned (*Source)(unsigned, unsigned)>
V128 table_round(V128 state, V128 key, const std::array<u32, 256>& table) {
  const Bytes16 s = bytes_of(state);
  Words4 result;
  for (unsigned c = 0; c < 4; ++c)
    result[c] = table[s[Source(c, 0)]] ^ std::rotl(table[s[Source(c, 1)]], 8) ^ std::rotl(table[s[Source(c, 2)]], 16) ^
                std::rotl(table[s[Source(c, 3)]], 24);
  return vector_of(result) ^ key;
}

template <unsigned (*Source)(unsigned, unsigned)>
V128 last_round(V128 state, V128 key, const std::array<u8, 256>& box) {
  const Bytes16 s = bytes_of(state);
  Bytes16 result;
  for (unsigned c = 0; c < 4; ++c)
    for (unsigned row = 0; row < 4; ++row) result[4 * c + row] = box[s[Source(c, row)]];
  return vector_of(result) ^ key;
}

// The host's own instructions, where it has them.
#if defined(__x86_64__)
using Words = int __attribute__((vector_size(16)));
using Quads = long long __attribute__((vector_size(16)));
struct HostInstructions {
  bool aes = __builtin_cpu_supports("aes"), carryless = __builtin_cpu_supports("pclmul"), sha = has_sha();
  static bool has_sha() {  // CPUID leaf 7, EBX bit 29; __builtin_cpu_supports() of older compilers does not know it
    unsigned eax, ebx, ecx, edx;
    return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && (ebx >> 29 & 1);
  }
};
const HostInstructions kHost;
#define VELLUM_HOST_AES(name) \
  [[gnu::target("aes")]] V128 host_##name(V128 a, V128 b) { return (V128)__builtin_ia32_##name##128((Quads)a, (Quads)b); }
VELLUM_HOST_AES(aesenc)
VELLUM_HOST_AES(aesenclast)
VELLUM_HOST_AES(aesdec)
VELLUM_HOST_AES(aesdeclast)
#undef VELLUM_HOST_AES
[[gnu::target("aes")]] V128 host_aesimc(V128 a) { return (V128)__builtin_ia32_aesimc128((Quads)a); }
[[gnu::target("pclmul")]] V128 host_carryless(V128 a, V128 b) { return (V128)__builtin_ia32_pclmulqdq128((Quads)a, (Quads)b, 0); }
#define VELLUM_HOST_SHA(name) \
  [[gnu::target("sha")]] V128 host_##name(V128 a, V128 b) { return (V128)__builtin_ia32_##name((Words)a, (Words)b); }
VELLUM_HOST_SHA(sha1nexte)
VELLUM_HOST_SHA(sha1msg1)
VELLUM_HOST_SHA(sha1msg2)
VELLUM_HOST_SHA(sha256msg1)
VELLUM_HOST_SHA(sha256msg2)
#undef VELLUM_HOST_SHA
[[gnu::target("sha")]] V128 host_sha256_rounds(V128 a, V128 b, V128 k) {
  return (V128)__builtin_ia32_sha256rnds2((Words)a, (Words)b, (Words)k);
}
[[gnu::target("sha")]] V128 host_sha1_rounds(V128 a, V128 b, u8 function) {
  switch (function & 3) {
    case 0: return (V128)__builtin_ia32_sha1rnds4((Words)a, (Words)b, 0);
    case 1: return (V128)__builtin_ia32_sha1rnds4((Words)a, (Words)b, 1);
    case 2: return (V128)__builtin_ia32_sha1rnds4((Words)a, (Words)b, 2);
    default: return (V128)__builtin_ia32_sha1rnds4((Words)a, (Words)b, 3);
  }
}
#else
struct HostInstructions {
  bool aes = false, carryless = false, sha = false;
};
constexpr HostInstructions kHost;
V128 host_aesimc(V128 a) { return a; }
V128 host_sha256_rounds(V128 a, V128, V128) { return a; }
V128 host_sha1_rounds(V128 a, V128, u8) { return a; }
#define VELLUM_HOST_LACKS(name) V128 host_##name(V128 a, V128) { return a; }
VELLUM_HOST_LACKS(aesenc)
VELLUM_HOST_LACKS(aesenclast)
VELLUM_HOST_LACKS(aesdec)
VELLUM_HOST_LACKS(aesdeclast)
VELLUM_HOST_LACKS(carryless)
VELLUM_HOST_LACKS(sha1nexte)
VELLUM_HOST_LACKS(sha1msg1)
VELLUM_HOST_LACKS(sha1msg2)
VELLUM_HOST_LACKS(sha256msg1)
VELLUM_HOST_LACKS(sha256msg2)
#undef VELLUM_HOST_LACKS
#endif

u32 substitute_word(u32 word) {
  u32 result = 0;
  for (unsigned i = 0; i < 4; ++i) result |= static_cast<u32>(kAes.sbox[static_cast<u8>(word >> 8 * i)]) << 8 * i;
  return result;
}

// FIPS 180-4 4.1.
u32 choose(u32 x, u32 y, u32 z) { return (x & y) ^ (~x & z); }
u32 parity(u32 x, u32 y, u32 z) { return x ^ y ^ z; }
u32 majority(u32 x, u32 y, u32 z) { return (x & y) ^ (x & z) ^ (y & z); }
u32 big_sigma_0(u32 x) { return std::rotr(x, 2) ^ std::rotr(x, 13) ^ std::rotr(x, 22); }
u32 big_sigma_1(u32 x) { return std::rotr(x, 6) ^ std::rotr(x, 11) ^ std::rotr(x, 25); }
u32 small_sigma_0(u32 x) { return std::rotr(x, 7) ^ std::rotr(x, 18) ^ (x >> 3); }
u32 small_sigma_1(u32 x) { return std::rotr(x, 17) ^ std::rotr(x, 19) ^ (x >> 10); }

}  // namespace

V128 aes_encrypt_round(V128 state, V128 key) {
  if (kHost.aes) return host_aesenc(state, key);
  return table_round<shifted>(state, key, kAes.encrypt);
}
V128 aes_decrypt_round(V128 state, V128 key) {
  if (kHost.aes) return host_aesdec(state, key);
  return table_round<inverse_shifted>(state, key, kAes.decrypt);
}
V128 aes_encrypt_last_round(V128 state, V128 key) {
  if (kHost.aes) return host_aesenclast(state, key);
  return last_round<shifted>(state, key, kAes.sbox);
}
V128 aes_decrypt_last_round(V128 state, V128 key) {
  if (kHost.aes) return host_aesdeclast(state, key);
  return last_round<inverse_shifted>(state, key, kAes.inverse_sbox);
}

V128 aes_inverse_mix_columns(V128 state) {
  if (kHost.aes) return host_aesimc(state);
  const Bytes16 s = bytes_of(state);
  Words4 result{};
  for (unsigned i = 0; i < 16; ++i) result[i / 4] ^= std::rotl(column(s[i], 14, 9, 13, 11), static_cast<int>(8 * (i % 4)));
  return vector_of(result);
}

V128 aes_key_generation_assist(V128 key, u8 round_constant) {
  const Words4 k = words_of(key);
  const u32 x1 = substitute_word(k[1]), x3 = substitute_word(k[3]);
  return vector_of(Words4{x1, std::rotr(x1, 8) ^ round_constant, x3, std::rotr(x3, 8) ^ round_constant});
}

V128 carryless_multiply(u64 a, u64 b) {
  if (kHost.carryless) return host_carryless(V128{a, 0}, V128{b, 0});
  u64 low = 0, high = 0;
  for (unsigned i = 0; i < 64; ++i) {
    const u64 mask = -(b >> i & 1);
    low ^= (a << i) & mask;
    if (i) high ^= (a >> (64 - i)) & mask;
  }
  return V128{low, high};
}

V128 sha1_four_rounds(V128 state, V128 message, u8 function) {
  if (kHost.sha) return host_sha1_rounds(state, message, function);
  constexpr u32 kConstants[] = {0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6};
  const Words4 s = words_of(state), w = words_of(message);
  u32 a = s[3], b = s[2], c = s[1], d = s[0], e = 0;  // E is already part of the first message word
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned f = function & 3;
    const u32 mixed = f == 0 ? choose(b, c, d) : f == 2 ? majority(b, c, d) : parity(b, c, d);
    const u32 next = mixed + std::rotl(a, 5) + w[3 - i] + e + kConstants[f];
    e = d;
    d = c;
    c = std::rotl(b, 30);
    b = a;
    a = next;
  }
  return vector_of(Words4{d, c, b, a});
}

V128 sha1_next_e(V128 state, V128 message) {
  if (kHost.sha) return host_sha1nexte(state, message);
  Words4 w = words_of(message);
  w[3] += std::rotl(words_of(state)[3], 30);
  return vector_of(w);
}

V128 sha1_message_1(V128 a, V128 b) {
  if (kHost.sha) return host_sha1msg1(a, b);
  const Words4 x = words_of(a), y = words_of(b);
  return vector_of(Words4{x[0] ^ y[2], x[1] ^ y[3], x[2] ^ x[0], x[3] ^ x[1]});
}

V128 sha1_message_2(V128 a, V128 b) {
  if (kHost.sha) return host_sha1msg2(a, b);
  const Words4 x = words_of(a), y = words_of(b);
  const u32 w16 = std::rotl(x[3] ^ y[2], 1), w17 = std::rotl(x[2] ^ y[1], 1), w18 = std::rotl(x[1] ^ y[0], 1);
  return vector_of(Words4{std::rotl(x[0] ^ w16, 1), w18, w17, w16});
}

V128 sha256_two_rounds(V128 cdgh, V128 abef, V128 message_and_constants) {
  if (kHost.sha) return host_sha256_rounds(cdgh, abef, message_and_constants);
  const Words4 x = words_of(cdgh), y = words_of(abef), wk = words_of(message_and_constants);
  u32 a = y[3], b = y[2], c = x[3], d = x[2], e = y[1], f = y[0], g = x[1], h = x[0];
  for (unsigned i = 0; i < 2; ++i) {
    const u32 t1 = h + big_sigma_1(e) + choose(e, f, g) + wk[i];
    const u32 t2 = big_sigma_0(a) + majority(a, b, c);
    h = g;
    g = f;
    f = e;
    e = d + t1;
    d = c;
    c = b;
    b = a;
    a = t1 + t2;
  }
  return vector_of(Words4{f, e, b, a});
}

V128 sha256_message_1(V128 a, V128 b) {
  if (kHost.sha) return host_sha256msg1(a, b);
  const Words4 x = words_of(a);
  return vector_of(Words4{x[0] + small_sigma_0(x[1]), x[1] + small_sigma_0(x[2]), x[2] + small_sigma_0(x[3]),
                          x[3] + small_sigma_0(words_of(b)[0])});
}

V128 sha256_message_2(V128 a, V128 b) {
  if (kHost.sha) return host_sha256msg2(a, b);
  const Words4 x = words_of(a), y = words_of(b);
  const u32 w16 = x[0] + small_sigma_1(y[2]), w17 = x[1] + small_sigma_1(y[3]);
  return vector_of(Words4{w16, w17, x[2] + small_sigma_1(w16), x[3] + small_sigma_1(w17)});
}

}  // namespace vellum
