// SSE arithmetic without SSE: random operands and MXCSR settings against the host's own unit.
#include <catch2/catch.hpp>

#if defined(__x86_64__)

#include <cstdio>
#include <random>
#include <string>

#include "cpu/floating_environment.h"
#include "cpu/software_float.h"

using namespace vellum;

namespace {

using Random = std::mt19937_64;
constexpr unsigned kCases = 1'000'000;

u32 g_saved;
// What the hardware does with two operands in the low lanes, and which flags it raises.
template <class U, class Operation>
U on_hardware(Operation operation, U a, U b, u32 mxcsr, u32& flags) {
  V128 x{a, 0}, y{b, 0};
  asm volatile("stmxcsr %0\n\tldmxcsr %1" : "=m"(g_saved) : "m"(mxcsr));
  operation(x, y);
  u32 after;
  asm volatile("stmxcsr %0\n\tldmxcsr %1" : "=m"(after) : "m"(g_saved));
  flags = after & kMxcsrFlags;
  return static_cast<U>(x[0]);
}
#define ON_HARDWARE(name, text) \
  void name(V128& x, const V128& y) { asm volatile(text " %1, %0" : "+x"(x) : "x"(y)); }
ON_HARDWARE(addss, "addss")
ON_HARDWARE(subss, "subss")
ON_HARDWARE(mulss, "mulss")
ON_HARDWARE(divss, "divss")
ON_HARDWARE(sqrtss, "sqrtss")
ON_HARDWARE(addsd, "addsd")
ON_HARDWARE(subsd, "subsd")
ON_HARDWARE(mulsd, "mulsd")
ON_HARDWARE(divsd, "divsd")
ON_HARDWARE(sqrtsd, "sqrtsd")
ON_HARDWARE(cvtsd2ss, "cvtsd2ss")

template <class U>
U random_bits(Random& random) {
  constexpr int kFraction = sizeof(U) == 4 ? 23 : 52, kBias = sizeof(U) == 4 ? 127 : 1023;
  const U sign = random() & 1 ? U{1} << (8 * sizeof(U) - 1) : 0;
  U fraction = static_cast<U>(random()) & ((U{1} << kFraction) - 1);
  switch (random() % 6) {
    case 0: fraction = 0; break;
    case 1: fraction &= ~((U{1} << (random() % kFraction)) - 1); break;
    case 2: fraction |= (U{1} << (random() % kFraction)) - 1; break;
    case 3: fraction = (U{1} << kFraction) - 1; break;
    default: break;
  }
  U exponent;
  switch (random() % 8) {
    case 0: exponent = 0; break;
    case 1: exponent = 2 * kBias + 1; break;
    case 2: exponent = 1 + random() % 60; break;
    case 3: exponent = 2 * kBias - random() % 60; break;
    case 4: exponent = kBias - kBias / 2 - 30 + random() % 40; break;
    case 5: exponent = kBias + kBias / 2 - 5 + random() % 10; break;
    default: exponent = kBias - 40 + random() % 80; break;
  }
  return sign | exponent << kFraction | fraction;
}

u32 random_mxcsr(Random& random) {
  return kMxcsrMasks | (static_cast<u32>(random()) & (kMxcsrFlushToZero | kMxcsrDenormalsAreZeros | 3u << kMxcsrRoundingShift));
}

template <class U>
void check(const char* name, U a, U b, u32 mxcsr, U want, u32 want_flags, U have, u32 have_flags) {
  if (want == have && want_flags == have_flags) return;
  char text[200];
  std::snprintf(text, sizeof(text), "%s mxcsr %x of %llx %llx: hardware %llx flags %x, here %llx flags %x", name, mxcsr,
                static_cast<unsigned long long>(a), static_cast<unsigned long long>(b), static_cast<unsigned long long>(want),
                want_flags, static_cast<unsigned long long>(have), have_flags);
  FAIL_CHECK(text);
}

template <class U>
void compare(const char* name, FloatStep step, void (*hardware)(V128&, const V128&), u64 seed) {
  Random random(seed);
  for (unsigned i = 0; i < kCases; ++i) {
    const u32 mxcsr = random_mxcsr(random);
    const U a = random_bits<U>(random);
    U b = random_bits<U>(random);
    if (random() % 4 == 0) b = a ^ static_cast<U>(random() & 3) ^ (random() & 1 ? U{1} << (8 * sizeof(U) - 1) : 0);
    u32 want_flags, have_flags = 0;
    const U want = on_hardware<U>(hardware, a, b, mxcsr, want_flags);
    const U have = exact_step(step, step == FloatStep::SquareRoot ? b : a, b, mxcsr, have_flags);
    check(name, a, b, mxcsr, want, want_flags, have, have_flags);
  }
}

}  // namespace

TEST_CASE("software SSE: arithmetic equals the hardware's in result and flags") {
  compare<u32>("addss", FloatStep::Add, addss, 1);
  compare<u32>("subss", FloatStep::Subtract, subss, 2);
  compare<u32>("mulss", FloatStep::Multiply, mulss, 3);
  compare<u32>("divss", FloatStep::Divide, divss, 4);
  compare<u32>("sqrtss", FloatStep::SquareRoot, sqrtss, 5);
  compare<u64>("addsd", FloatStep::Add, addsd, 6);
  compare<u64>("subsd", FloatStep::Subtract, subsd, 7);
  compare<u64>("mulsd", FloatStep::Multiply, mulsd, 8);
  compare<u64>("divsd", FloatStep::Divide, divsd, 9);
  compare<u64>("sqrtsd", FloatStep::SquareRoot, sqrtsd, 10);
}

TEST_CASE("software SSE: narrowing equals the hardware's in result and flags") {
  Random random(11);
  for (unsigned i = 0; i < kCases; ++i) {
    const u32 mxcsr = random_mxcsr(random);
    u64 a = random_bits<u64>(random);
    if (random() & 1) a = (a & ~(u64{0x7ff} << 52)) | (1023 - 155 + random() % 40) << 52;
    u32 want_flags, have_flags = 0;
    const u32 want = on_hardware<u64>(cvtsd2ss, 0, a, mxcsr, want_flags) & 0xffffffff;
    const u32 have = exact_narrow(a, mxcsr, have_flags);
    check<u64>("cvtsd2ss", a, 0, mxcsr, want, want_flags, have, have_flags);
  }
}

#endif
