// MMX, SSE and cipher instructions against examples of the manuals and standards.
#include <catch2/catch.hpp>

#include <array>
#include <bit>
#include <cstring>
#include <vector>

#include "cpu/bare_environment.h"
#include "cpu/cipher.h"
#include "cpu/core.h"
#include "cpu/floating_environment.h"
#include "cpu/software_float.h"
#include "cpu/string_compare.h"

using namespace vellum;

namespace {

class Board : public BareEnvironment {
 public:
};

constexpr u32 kCode = 0x1000, kData = 0x3000;

// 32-bit flat code without paging; a fault ends in a shutdown, as there is no IDT.
struct Guest {
  std::unique_ptr<GuestRam> ram = std::move(*GuestRam::create(1 << 20));
  AddressSpace memory{*ram};
  Board board;
  CpuModel model = *parse_cpu_model("max");
  CpuCore cpu{model, memory, board, 0};
  CpuState& s = cpu.s;
  Guest() {
    memory.map_ram("ram", GuestPhysAddr(0), 1 << 20, 0);
    cpu.reset();
    s.cr0 = kCr0Pe | kCr0Ne | kCr0Et;
    s.cr4 = kCr4Osfxsr | kCr4Osxmmexcpt;
    for (unsigned i = kEs; i <= kGs; ++i) {
      s.segment[i] = {};
      s.segment[i].selector = i == kCs ? 8 : 16;
      s.segment[i].attributes = i == kCs ? 0xc09b : 0xc093;
      s.segment[i].limit = 0xffffffff;
      s.segment[i].usable = true;
    }
    s.gpr[kRdi] = kData;
    cpu.update_mode();
  }
  // Runs the bytes, then HLT.
  Exit run(std::vector<u8> code) {
    code.push_back(0xf4);
    memory.write(GuestPhysAddr(kCode), code);
    s.rip = kCode;
    s.halted = false;
    return cpu.run(100);
  }
  void set(unsigned xmm, u64 low, u64 high) {
    s.vector[xmm].qword[0] = low;
    s.vector[xmm].qword[1] = high;
  }
  u64 low(unsigned xmm) const { return s.vector[xmm].qword[0]; }
  u64 high(unsigned xmm) const { return s.vector[xmm].qword[1]; }
};

// Sixteen bytes as the standards print them, first byte first.
V128 block(u64 first, u64 second) { return V128{__builtin_bswap64(first), __builtin_bswap64(second)}; }
bool same(V128 a, V128 b) { return a[0] == b[0] && a[1] == b[1]; }
// Words w[0] in the highest lane, as the SHA instructions want them.
V128 words(u32 w0, u32 w1, u32 w2, u32 w3) { return V128{w3 | u64{w2} << 32, w1 | u64{w0} << 32}; }
V128 sum(V128 a, V128 b) { return (V128)((V128u32)a + (V128u32)b); }

std::array<V128, 11> expanded_key(V128 key) {
  constexpr u8 kRoundConstants[] = {1, 2, 4, 8, 0x10, 0x20, 0x40, 0x80, 0x1b, 0x36};
  std::array<V128, 11> keys{key};
  for (unsigned i = 0; i < 10; ++i) {
    const auto assist = std::bit_cast<std::array<u32, 4>>(aes_key_generation_assist(keys[i], kRoundConstants[i]));
    auto next = std::bit_cast<std::array<u32, 4>>(keys[i]);
    next[0] ^= assist[3];
    for (unsigned j = 1; j < 4; ++j) next[j] ^= next[j - 1];
    keys[i + 1] = std::bit_cast<V128>(next);
  }
  return keys;
}

}  // namespace

TEST_CASE("AES-128 gives the ciphertext of FIPS 197 appendix B, and back") {
  const auto keys = expanded_key(block(0x2b7e151628aed2a6, 0xabf7158809cf4f3c));
  REQUIRE(same(keys[10], block(0xd014f9a8c9ee2589, 0xe13f0cc8b6630ca6)));  // appendix A.1
  const V128 plain = block(0x3243f6a8885a308d, 0x313198a2e0370734);
  V128 state = plain ^ keys[0];
  for (unsigned i = 1; i < 10; ++i) state = aes_encrypt_round(state, keys[i]);
  state = aes_encrypt_last_round(state, keys[10]);
  REQUIRE(same(state, block(0x3925841d02dc09fb, 0xdc118597196a0b32)));

  state ^= keys[10];  // equivalent inverse cipher, 5.3.5
  for (unsigned i = 9; i > 0; --i) state = aes_decrypt_round(state, aes_inverse_mix_columns(keys[i]));
  REQUIRE(same(aes_decrypt_last_round(state, keys[0]), plain));
}

TEST_CASE("SHA-1 of \"abc\" is that of FIPS 180-4's example") {
  std::array<V128, 20> w{words(0x61626380, 0, 0, 0), V128{}, V128{}, words(0, 0, 0, 24)};
  for (unsigned i = 4; i < 20; ++i) w[i] = sha1_message_2(sha1_message_1(w[i - 4], w[i - 3]) ^ w[i - 2], w[i - 1]);
  const V128 start = words(0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476);
  V128 state = start, e = sum(w[0], words(0xc3d2e1f0, 0, 0, 0)), before{};
  for (unsigned i = 0; i < 20; ++i) {
    before = state;
    state = sha1_four_rounds(state, e, static_cast<u8>(i / 5));
    if (i < 19) e = sha1_next_e(before, w[i + 1]);
  }
  REQUIRE(same(sum(state, start), words(0xa9993e36, 0x4706816a, 0xba3e2571, 0x7850c26c)));
  REQUIRE(same(sha1_next_e(before, words(0xc3d2e1f0, 0, 0, 0)), words(0x9cd0d89d, 0, 0, 0)));
}

TEST_CASE("SHA-256 of \"abc\" is that of FIPS 180-4's example") {
  static constexpr u32 k[64] = {
      0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01,
      0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc,
      0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
      0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
      0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08,
      0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
      0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};
  // Here word 0 is in the lowest lane.
  std::array<V128, 16> w{words(0, 0, 0, 0x61626380), V128{}, V128{}, words(24, 0, 0, 0)};
  for (unsigned i = 4; i < 16; ++i) {
    const V128 shifted{w[i - 2][0] >> 32 | w[i - 2][1] << 32, w[i - 2][1] >> 32 | w[i - 1][0] << 32};
    w[i] = sha256_message_2(sum(sha256_message_1(w[i - 4], w[i - 3]), shifted), w[i - 1]);
  }
  const V128 start_abef = words(0x6a09e667, 0xbb67ae85, 0x510e527f, 0x9b05688c);
  const V128 start_cdgh = words(0x3c6ef372, 0xa54ff53a, 0x1f83d9ab, 0x5be0cd19);
  V128 abef = start_abef, cdgh = start_cdgh;
  for (unsigned i = 0; i < 16; ++i) {
    V128 constants;
    std::memcpy(&constants, k + 4 * i, 16);
    const V128 message = sum(w[i], constants);
    cdgh = sha256_two_rounds(cdgh, abef, message);
    abef = sha256_two_rounds(abef, cdgh, V128{message[1], 0});
  }
  REQUIRE(same(sum(abef, start_abef), words(0xba7816bf, 0x8f01cfea, 0xb00361a3, 0x96177a9c)));
  REQUIRE(same(sum(cdgh, start_cdgh), words(0x414140de, 0x5dae2223, 0xb410ff61, 0xf20015ad)));
}

TEST_CASE("carry-less products are those of Intel's paper on PCLMULQDQ") {
  REQUIRE(same(carryless_multiply(0x63746f725d53475d, 0x5b477565726f6e5d), V128{0x929633d5d36f0451, 0x1d4d84c85c3440c0}));
  REQUIRE(same(carryless_multiply(0x7b5b546573745665, 0x4869285368617929), V128{0xd66ee03e410fd4ed, 0x1d1e1f2c592e7c45}));
}

TEST_CASE("PCMPISTRI finds a substring and its beginning at the end, SDM Vol. 2B 4.1") {
  const auto text = [](const char* s) {
    char bytes[16] = {};
    std::strncpy(bytes, s, 16);
    return std::bit_cast<V128>(bytes);
  };
  const u8 equal_ordered = 0x0c;
  const auto inside = compare_strings_implicit(text("abc"), text("xxabcabx"), equal_ordered);
  REQUIRE(inside.result == 0x0004);
  REQUIRE(string_comparison_index(inside, equal_ordered) == 2);
  REQUIRE(inside.flags == (kCf | kZf | kSf));
  const auto partial = compare_strings_implicit(text("abc"), text("xxxxxxxxxxxxxxab"), equal_ordered);
  REQUIRE(string_comparison_index(partial, equal_ordered) == 14);
  const auto none = compare_strings_implicit(text("abc"), text("xyz"), equal_ordered);
  REQUIRE(string_comparison_index(none, equal_ordered) == 16);
  REQUIRE_FALSE(none.flags & kCf);
}

TEST_CASE("PCMPESTRM ranges make a byte mask, lengths saturate") {
  const V128 range = {0x7a61, 0};  // a to z
  const V128 data = {0x5a7a4d6d41614061, 0};
  const u8 control = 0x44;  // ranges, byte mask
  const auto comparison = compare_strings_explicit(range, data, 2, 1000, control);
  REQUIRE(comparison.result == 0x0055);
  REQUIRE(comparison.flags == (kCf | kSf | kOf));
  REQUIRE(same(string_comparison_mask(comparison, control), V128{0x00ff00ff00ff00ff, 0}));
}

TEST_CASE("ROUNDSS rounds halves to even and reports precision unless told not to") {
  u32 flags = 0;
  REQUIRE(round_to_integral(std::bit_cast<u32>(2.5f), 0, kMxcsrReset, flags) == std::bit_cast<u32>(2.0f));
  REQUIRE(flags == kMxcsrPrecision);
  flags = 0;
  REQUIRE(round_to_integral(std::bit_cast<u32>(-0.5f), 8, kMxcsrReset, flags) == std::bit_cast<u32>(-0.0f));
  REQUIRE(round_to_integral(std::bit_cast<u64>(1.5), 8, kMxcsrReset, flags) == std::bit_cast<u64>(2.0));
  REQUIRE(round_to_integral(std::bit_cast<u64>(-1.25), 9, kMxcsrReset, flags) == std::bit_cast<u64>(-2.0));
  REQUIRE(round_to_integral(std::bit_cast<u64>(1.25), 12, kMxcsrReset | 0x4000, flags) == std::bit_cast<u64>(2.0));  // RC up
  REQUIRE(flags == 0);
}

TEST_CASE("RCPSS and RSQRTSS stay within 1.5 * 2^-12, SDM Vol. 2B") {
  const auto input = GENERATE(1.0f, 1.1f, 1.9999f, 3.0f, 7.7e-10f, 123456.7f, 5e20f);
  CAPTURE(input);
  const float reciprocal = std::bit_cast<float>(approximate_reciprocal(std::bit_cast<u32>(input)));
  const float root = std::bit_cast<float>(approximate_reciprocal_square_root(std::bit_cast<u32>(input)));
  REQUIRE(reciprocal * static_cast<double>(input) == Approx(1).margin(1.5 / 4096));
  REQUIRE(static_cast<double>(root) * root * input == Approx(1).margin(3.0 / 4096));
}

TEST_CASE("RCPSS and RSQRTSS of special values, SDM Vol. 2B") {
  REQUIRE(approximate_reciprocal(0x80000000) == 0xff800000);
  REQUIRE(approximate_reciprocal(0x00000001) == 0x7f800000);
  REQUIRE(approximate_reciprocal(0x7f7fffff) == 0);
  REQUIRE(approximate_reciprocal(0x7fa00000) == 0x7fe00000);
  REQUIRE(approximate_reciprocal_square_root(0xbf800000) == 0xffc00000);
  REQUIRE(approximate_reciprocal_square_root(0x80000000) == 0xff800000);
  REQUIRE(approximate_reciprocal_square_root(0x7f800000) == 0);
}

TEST_CASE("ADDPS delivers the first operand's NaN, quieted, else the second's, SDM Vol. 1 table 4-7") {
  Guest guest;
  guest.set(0, 0x7fc000017f800002, 0x3f8000007f800000);   // SNaN 2, QNaN 1, infinity, 1
  guest.set(1, 0x7fa000037fc00004, 0xff8abcdeff800000);   // QNaN 4, SNaN 3, -infinity, SNaN
  REQUIRE(guest.run({0x0f, 0x58, 0xc1}) == Exit::Halted);
  REQUIRE(guest.low(0) == 0x7fc000017fc00002);
  REQUIRE(guest.high(0) == 0xffcabcdeffc00000);
  REQUIRE((guest.s.mxcsr & kMxcsrFlags) == kMxcsrInvalid);
}

TEST_CASE("MINSD of two zeros or with a NaN is the second operand, SDM Vol. 2B MINSD") {
  Guest guest;
  guest.set(0, 0, 7);
  guest.set(1, u64{1} << 63, 0);
  REQUIRE(guest.run({0xf2, 0x0f, 0x5d, 0xc1}) == Exit::Halted);
  REQUIRE(guest.low(0) == u64{1} << 63);
  REQUIRE(guest.high(0) == 7);
  guest.set(1, 0x7ff4000000000000, 0);
  REQUIRE(guest.run({0xf2, 0x0f, 0x5d, 0xc1}) == Exit::Halted);
  REQUIRE(guest.low(0) == 0x7ff4000000000000);
  REQUIRE((guest.s.mxcsr & kMxcsrFlags) == kMxcsrInvalid);
}

TEST_CASE("rounding control and sticky flags of MXCSR take part, and STMXCSR sees them") {
  Guest guest;
  guest.memory.write_value<u32>(GuestPhysAddr(kData), kMxcsrReset | 0x4000);  // up
  guest.set(0, std::bit_cast<u64>(1.0), 0);
  guest.set(1, std::bit_cast<u64>(3.0), 0);
  // ldmxcsr [edi]; divsd xmm0, xmm1; stmxcsr [edi + 4]
  REQUIRE(guest.run({0x0f, 0xae, 0x17, 0xf2, 0x0f, 0x5e, 0xc1, 0x0f, 0xae, 0x5f, 0x04}) == Exit::Halted);
  REQUIRE(guest.low(0) == 0x3fd5555555555556);
  REQUIRE(guest.memory.read_value<u32>(GuestPhysAddr(kData + 4)) == (kMxcsrReset | 0x4000 | kMxcsrPrecision));
}

TEST_CASE("an unmasked exception leaves the destination and sets only pre-computation flags, SDM Vol. 1 11.5.3") {
  Guest guest;
  guest.s.mxcsr = kMxcsrReset & ~(kMxcsrDivideByZero << kMxcsrMaskShift);
  guest.set(0, std::bit_cast<u32>(1.0f) | u64{std::bit_cast<u32>(1.0f)} << 32, 0x3f8000003f800000);
  guest.set(1, std::bit_cast<u32>(3.0f), 0x3f8000003f800000);
  REQUIRE(guest.run({0x0f, 0x5e, 0xc1}) == Exit::Shutdown);  // 1/3 is inexact, 1/0 divides by zero
  REQUIRE(guest.low(0) == 0x3f8000003f800000);
  REQUIRE((guest.s.mxcsr & kMxcsrFlags) == kMxcsrDivideByZero);
}

TEST_CASE("LDMXCSR of a reserved bit faults") {
  Guest guest;
  guest.memory.write_value<u32>(GuestPhysAddr(kData), 0x10000 | kMxcsrReset);
  REQUIRE(guest.run({0x0f, 0xae, 0x17}) == Exit::Shutdown);
  REQUIRE(guest.s.mxcsr == kMxcsrReset);
}

TEST_CASE("legacy SSE operands in memory must be aligned, except those of unaligned moves") {
  Guest guest;
  guest.s.gpr[kRdi] = kData + 8;
  guest.memory.write_value<u64>(GuestPhysAddr(kData + 8), 0x1122334455667788);
  SECTION("MOVUPS") {
    REQUIRE(guest.run({0x0f, 0x10, 0x07}) == Exit::Halted);
    REQUIRE(guest.low(0) == 0x1122334455667788);
  }
  SECTION("MOVAPS") { REQUIRE(guest.run({0x0f, 0x28, 0x07}) == Exit::Shutdown); }
  SECTION("PADDB") { REQUIRE(guest.run({0x66, 0x0f, 0xfc, 0x07}) == Exit::Shutdown); }
}

TEST_CASE("an MMX instruction makes all x87 registers valid with TOP 0, EMMS empties them, SDM Vol. 3A table 12-2") {
  Guest guest;
  guest.s.x87.status = 0x2800;
  guest.s.x87.valid = 0;
  guest.s.x87.registers[0] = {0x7f01, 0x1234, {}};
  guest.s.x87.registers[1] = {0x01ff, 0x1234, {}};
  REQUIRE(guest.run({0x0f, 0xec, 0xc1}) == Exit::Halted);  // paddsb mm0, mm1
  REQUIRE(guest.s.x87.registers[0].significand == 0x7f00);
  REQUIRE(guest.s.x87.registers[0].sign_exponent == 0xffff);
  REQUIRE(guest.s.x87.registers[1].sign_exponent == 0x1234);
  REQUIRE((guest.s.x87.status & 0x3800) == 0);
  REQUIRE(guest.s.x87.valid == 0xff);
  REQUIRE(guest.run({0x0f, 0x77}) == Exit::Halted);
  REQUIRE(guest.s.x87.valid == 0);
}

TEST_CASE("register moves of MOVSS and MOVQ merge and zero as the manual says") {
  Guest guest;
  guest.set(0, 0x1111111111111111, 0x2222222222222222);
  guest.set(1, 0x3333333333333333, 0x4444444444444444);
  SECTION("MOVSS merges") {
    REQUIRE(guest.run({0xf3, 0x0f, 0x10, 0xc1}) == Exit::Halted);
    REQUIRE(guest.low(0) == 0x1111111133333333);
    REQUIRE(guest.high(0) == 0x2222222222222222);
  }
  SECTION("MOVQ zeroes") {
    REQUIRE(guest.run({0xf3, 0x0f, 0x7e, 0xc1}) == Exit::Halted);
    REQUIRE(guest.low(0) == 0x3333333333333333);
    REQUIRE(guest.high(0) == 0);
  }
}
