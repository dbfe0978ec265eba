// x87 arithmetic without an x87 unit: every operation on random operands and control words against the host's own unit.
#include <catch2/catch.hpp>

#if defined(__x86_64__)

#include <bit>
#include <cstdlib>
#include <random>
#include <string>

#include "cpu/x87_arithmetic.h"

using namespace vellum;
using namespace vellum::x87;

namespace {

using Random = std::mt19937_64;

// Cases per operation; VELLUM_X87_CASES makes a longer run.
unsigned cases() {
  const char* text = std::getenv("VELLUM_X87_CASES");
  return text ? static_cast<unsigned>(std::strtoul(text, nullptr, 10)) : 250'000;
}

constexpr u64 kTop = u64{1} << 63;

u64 random_significand(Random& random) {
  const u64 bits = random();
  switch (random() % 8) {
    case 0: return kTop;
    case 1: return ~u64{0};
    case 2: return kTop | u64{1} << (random() % 63);
    case 3: return kTop | (~u64{0} << (random() % 64));              // few bits at the top
    case 4: return kTop | (~u64{0} >> (random() % 64));
    case 5: return (kTop | bits) & (~u64{0} << (random() % 64));     // ties for the narrower formats
    default: return kTop | bits;
  }
}

// Special values, denormals, and exponents whose sums, products and quotients meet each format's limits.
X87Register random_value(Random& random) {
  const u16 sign = random() & 1 ? 0x8000 : 0;
  u64 significand = random_significand(random);
  u16 exponent = 0;
  switch (random() % 24) {
    case 0: significand = 0; break;
    case 1: significand &= ~kTop; break;                                                     // denormal
    case 2: significand = (significand & ~kTop) >> (random() % 63); break;
    case 3: break;                                                                           // pseudo-denormal
    case 4: significand = kTop; exponent = 0x7fff; break;                                    // infinity
    case 5: exponent = 0x7fff; significand |= kTop | kTop >> 1; break;                       // quiet NaN
    case 6: exponent = 0x7fff; significand = (significand | 1) & ~(kTop >> 1); break;        // signalling NaN
    case 7: exponent = static_cast<u16>(random() & 0x7fff); significand &= ~kTop; break;     // unnormal
    case 8: exponent = static_cast<u16>(random() & 0x7fff); break;
    case 9: exponent = static_cast<u16>(1 + random() % 130); break;
    case 10: exponent = static_cast<u16>(0x7ffe - random() % 130); break;
    case 11: exponent = static_cast<u16>(0x3fff - 160 + random() % 70); break;               // limits of f32
    case 12: exponent = static_cast<u16>(0x3fff + 120 + random() % 16); break;
    case 13: exponent = static_cast<u16>(0x3fff - 1090 + random() % 80); break;              // limits of f64
    case 14: exponent = static_cast<u16>(0x3fff + 1018 + random() % 12); break;
    case 15: exponent = static_cast<u16>(0x3fff - 8240 + random() % 100); break;             // products at the limit
    case 16: exponent = static_cast<u16>(0x3fff + 8190 + random() % 8); break;
    case 17: exponent = 0x3fff; significand = kTop; break;
    default: exponent = static_cast<u16>(0x3fff - 70 + random() % 140); break;
  }
  return {significand, static_cast<u16>(exponent | sign), {}};
}

// A second operand, often near to the first.
X87Register random_partner(Random& random, const X87Register& a) {
  if (random() % 4) return random_value(random);
  X87Register b = a;
  if (random() & 1) b.sign_exponent ^= 0x8000;
  if (random() & 1) b.significand ^= random() % 3;
  const int step = static_cast<int>(random() % 5) - 2;
  const int exponent = (a.sign_exponent & 0x7fff) + step;
  if (exponent > 0 && exponent < 0x7fff) b.sign_exponent = static_cast<u16>((b.sign_exponent & 0x8000) | exponent);
  return b;
}

template <class U>
U random_bits(Random& random) {
  constexpr int kFraction = sizeof(U) == 4 ? 23 : 52;
  constexpr U kExponent = sizeof(U) == 4 ? U{0x7f800000} : static_cast<U>(0x7ff0000000000000);
  const U bits = static_cast<U>(random());
  switch (random() % 8) {
    case 0: return bits & (U{1} << (8 * sizeof(U) - 1));
    case 1: return bits & ~kExponent;
    case 2: return bits | kExponent;
    case 3: return (bits & (U{1} << (8 * sizeof(U) - 1))) | kExponent;
    case 4: return bits & ~((U{1} << (random() % kFraction)) - 1);
    default: return bits;
  }
}

// Mostly everything masked, as programs have it.
Environment random_environment(Random& random) {
  u16 control = static_cast<u16>((random() & 0x0f00) | 0x7f);
  if (random() % 4 == 0) control = static_cast<u16>(random() & 0x0f3f) | 0x40;
  return {control, 0};
}

constexpr u16 kBefore = kInvalid | kDenormal | kZeroDivide;

bool stopped(Environment e, u16 status) { return status & ~e.control & kBefore; }
// Of an operation that stops before it computes, only why it does.
u16 visible(Environment e, u16 status, u16 conditions) {
  return status & (stopped(e, status) ? kExceptions : kExceptions | conditions);
}
bool same(const X87Register& a, const X87Register& b) {
  return a.significand == b.significand && a.sign_exponent == b.sign_exponent;
}

std::string text(const X87Register& v) {
  char buffer[64];
  std::snprintf(buffer, sizeof(buffer), "%04x:%016llx", v.sign_exponent, static_cast<unsigned long long>(v.significand));
  return buffer;
}
std::string text(u16 status) {
  char buffer[16];
  std::snprintf(buffer, sizeof(buffer), "%04x", status);
  return buffer;
}

void check(const char* name, Environment e, const std::string& operands, const x87::Result& expected, const x87::Result& got,
           u16 conditions = kC1) {
  const u16 want = visible(e, expected.status, conditions), have = visible(e, got.status, conditions);
  if (want == have && (stopped(e, want) || same(expected.value, got.value))) return;
  INFO(name << " control " << text(e.control) << " of " << operands);
  FAIL_CHECK("hardware " << text(expected.value) << " " << text(want) << ", here " << text(got.value) << " " << text(have));
}

}  // namespace

TEST_CASE("portable x87: operations of two registers equal the hardware's") {
  const auto [name, op, conditions] = GENERATE(table<const char*, Binary, u16>({
      {"fadd", Binary::Add, kC1},
      {"fmul", Binary::Multiply, kC1},
      {"fsub", Binary::Subtract, kC1},
      {"fsubr", Binary::SubtractReverse, kC1},
      {"fdiv", Binary::Divide, kC1},
      {"fdivr", Binary::DivideReverse, kC1},
      {"fscale", Binary::Scale, kC1},
      {"fprem", Binary::Remainder, kConditions},
      {"fprem1", Binary::RemainderNearest, kConditions},
  }));
  Random random(static_cast<u64>(op) + 1);
  for (unsigned i = 0; i < cases(); ++i) {
    const Environment e = random_environment(random);
    const X87Register a = random_value(random), b = random_partner(random, a);
    const x87::Result expected = native::binary(op, a, b, e);
    // Without a quotient the condition codes mean nothing.
    const bool no_quotient = (expected.value.sign_exponent & 0x7fff) == 0x7fff;
    check(name, e, text(a) + " " + text(b), expected, portable::binary(op, a, b, e),
          op == Binary::Remainder || op == Binary::RemainderNearest ? (no_quotient ? 0 : conditions) : conditions);
  }
}

TEST_CASE("portable x87: operations with memory equal the hardware's") {
  const auto [name, op] = GENERATE(table<const char*, Binary>({
      {"fadd", Binary::Add}, {"fmul", Binary::Multiply}, {"fsub", Binary::Subtract}, {"fsubr", Binary::SubtractReverse},
      {"fdiv", Binary::Divide}, {"fdivr", Binary::DivideReverse},
  }));
  Random random(static_cast<u64>(op) + 100);
  for (unsigned i = 0; i < cases() / 2; ++i) {
    const Environment e = random_environment(random);
    const X87Register a = random_value(random);
    const u32 single = random_bits<u32>(random);
    const u64 wide = random_bits<u64>(random);
    check(name, e, text(a) + " and f32 " + std::to_string(single), native::binary_f32(op, a, single, e),
          portable::binary_f32(op, a, single, e));
    check(name, e, text(a) + " and f64 " + std::to_string(wide), native::binary_f64(op, a, wide, e),
          portable::binary_f64(op, a, wide, e));
  }
}

TEST_CASE("portable x87: fsqrt, frndint and fxtract equal the hardware's") {
  Random random(200);
  for (unsigned i = 0; i < cases(); ++i) {
    const Environment e = random_environment(random);
    const X87Register a = random_value(random);
    check("fsqrt", e, text(a), native::unary(Unary::SquareRoot, a, e), portable::unary(Unary::SquareRoot, a, e));
    check("frndint", e, text(a), native::unary(Unary::RoundToInteger, a, e), portable::unary(Unary::RoundToInteger, a, e));
    const PairResult want = native::pair(Pair::Extract, a, e), have = portable::pair(Pair::Extract, a, e);
    check("fxtract exponent", e, text(a), {want.st1, want.status}, {have.st1, have.status}, 0);
    check("fxtract significand", e, text(a), {want.st0, want.status}, {have.st0, have.status}, 0);
  }
}

TEST_CASE("portable x87: comparisons equal the hardware's") {
  Random random(300);
  for (unsigned i = 0; i < cases(); ++i) {
    const Environment e = random_environment(random);
    const X87Register a = random_value(random), b = random_partner(random, a);
    const u32 single = random_bits<u32>(random);
    const u64 wide = random_bits<u64>(random);
    const auto equal = [&](const char* name, const std::string& operands, u16 want, u16 have) {
      check(name, e, operands, {{}, want}, {{}, have}, kC0 | kC2 | kC3);
    };
    equal("fcom", text(a) + " " + text(b), native::compare(Comparison::Ordered, a, b, e),
          portable::compare(Comparison::Ordered, a, b, e));
    equal("fucom", text(a) + " " + text(b), native::compare(Comparison::Unordered, a, b, e),
          portable::compare(Comparison::Unordered, a, b, e));
    equal("fcom m32", text(a) + " " + std::to_string(single), native::compare_f32(a, single, e), portable::compare_f32(a, single, e));
    equal("fcom m64", text(a) + " " + std::to_string(wide), native::compare_f64(a, wide, e), portable::compare_f64(a, wide, e));
  }
}

TEST_CASE("portable x87: loads and constants equal the hardware's") {
  Random random(400);
  for (unsigned i = 0; i < cases(); ++i) {
    const Environment e = random_environment(random);
    const u32 single = random_bits<u32>(random);
    const u64 wide = random_bits<u64>(random);
    // A denormal operand does not keep a load from completing.
    const Environment load{static_cast<u16>(e.control | kDenormal), 0};
    check("fld m32", load, std::to_string(single), native::from_f32(single, load), portable::from_f32(single, load));
    check("fld m64", load, std::to_string(wide), native::from_f64(wide, load), portable::from_f64(wide, load));
    const i64 integer = static_cast<i64>(random() >> (random() % 64));
    check("fild", e, std::to_string(integer), {native::from_integer(integer), 0}, {portable::from_integer(integer), 0});
    X87Register decimal{0, static_cast<u16>(random() & 0x8000), {}};
    for (int shift = 0; shift < 64; shift += 4) decimal.significand |= (random() % 10) << shift;
    decimal.sign_exponent |= static_cast<u16>((random() % 10) << 4 | random() % 10);
    check("fbld", e, text(decimal), native::from_bcd(decimal, e), portable::from_bcd(decimal, e));
    const auto which = static_cast<Constant>(random() % 7);
    check("constant", e, std::to_string(static_cast<int>(which)), native::constant(which, e), portable::constant(which, e));
  }
}

TEST_CASE("portable x87: stores equal the hardware's") {
  Random random(500);
  for (unsigned i = 0; i < cases(); ++i) {
    const Environment e = random_environment(random);
    const X87Register a = random_value(random);
    // Nothing is stored by an unmasked invalid operation, overflow or underflow.
    const auto equal = [&](const char* name, const StoreResult& want, const StoreResult& have) {
      const bool none = want.status & ~e.control & (kBefore | kOverflow | kUnderflow);
      const x87::Result w{{none ? 0 : want.low, none ? u16{0} : want.high, {}}, want.status};
      const x87::Result h{{none ? 0 : have.low, none ? u16{0} : have.high, {}}, have.status};
      check(name, e, text(a), w, h, none ? 0 : kC1);
    };
    equal("fst m32", native::to_f32(a, e), portable::to_f32(a, e));
    equal("fst m64", native::to_f64(a, e), portable::to_f64(a, e));
    for (const unsigned size : {2u, 4u, 8u}) {
      equal("fist", native::to_integer(a, size, Rounding::AsControlled, e), portable::to_integer(a, size, Rounding::AsControlled, e));
      equal("fisttp", native::to_integer(a, size, Rounding::Truncate, e), portable::to_integer(a, size, Rounding::Truncate, e));
    }
    equal("fbstp", native::to_bcd(a, e), portable::to_bcd(a, e));
  }
}

namespace {

// Of one ulp, so that neighbours differ by 1 across binades, too.
i128 ordinal(const X87Register& v) {
  const i128 magnitude = (i128{v.sign_exponent & 0x7fff} << 63) + (v.significand & ~kTop);
  return v.sign_exponent & 0x8000 ? -magnitude : magnitude;
}

// SDM Vol. 1 8.3.10: errors below one ulp. So both results are next to the exact one, and to each other.
void check_near(const char* name, Environment e, const std::string& operands, const x87::Result& expected,
                const x87::Result& got, u16 conditions = 0) {
  i128 distance = ordinal(expected.value) - ordinal(got.value);
  if (distance < 0) distance = -distance;
  const u16 exponent = expected.value.sign_exponent & 0x7fff;
  if (distance <= 1 && exponent != 0x7fff && exponent != 0) {
    x87::Result adjusted = got;
    adjusted.value = expected.value;
    return check(name, e, operands, expected, adjusted, conditions);
  }
  if (distance <= 1 && exponent == 0 && (expected.status & kUnderflow)) return;
  check(name, e, operands, expected, got, conditions);
}

}  // namespace

TEST_CASE("portable x87: transcendental functions are within one ulp of the hardware's") {
  Random random(600);
  for (unsigned i = 0; i < cases() / 10; ++i) {
    const Environment e = random_environment(random);
    const X87Register a = random_value(random), b = random_partner(random, a);
    check_near("fsin", e, text(a), native::unary(Unary::Sine, a, e), portable::unary(Unary::Sine, a, e), kC2);
    check_near("fcos", e, text(a), native::unary(Unary::Cosine, a, e), portable::unary(Unary::Cosine, a, e), kC2);
    for (const Pair op : {Pair::Tangent, Pair::SineCosine}) {
      const PairResult want = native::pair(op, a, e), have = portable::pair(op, a, e);
      check_near("fptan or fsincos, st1", e, text(a), {want.st1, want.status}, {have.st1, have.status}, kC2);
      check_near("fptan or fsincos, st0", e, text(a), {want.st0, want.status}, {have.st0, have.status}, kC2);
    }
    check_near("fpatan", e, text(a) + " " + text(b), native::binary(Binary::Arctangent, a, b, e),
               portable::binary(Binary::Arctangent, a, b, e));
    check_near("fyl2x", e, text(a) + " " + text(b), native::binary(Binary::YLog2X, a, b, e),
               portable::binary(Binary::YLog2X, a, b, e));
    check_near("f2xm1", e, text(a), native::unary(Unary::TwoToXMinusOne, a, e), portable::unary(Unary::TwoToXMinusOne, a, e));
    check_near("fyl2xp1", e, text(a) + " " + text(b), native::binary(Binary::YLog2XPlusOne, a, b, e),
               portable::binary(Binary::YLog2XPlusOne, a, b, e));
  }
}

#endif
