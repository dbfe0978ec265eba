// Floating-point operations raise their flags in MXCSR, and round as it says, also where a compiler of several instructions
// sees that nobody reads the result, or what it will be.
#include <catch2/catch.hpp>

#include "instructions/emulated.h"
#include "instructions/native.h"

using namespace vellum;
using namespace vellum::instructions;

namespace {

struct Case {
  const char* text;
  std::vector<u8> code;
};

// The operation, and an instruction that overwrites its result.
const Case kCases[] = {
    {"cvtpi2ps xmm1, mm2; xorps xmm1, xmm1", {0x0f, 0x2a, 0xca, 0x0f, 0x57, 0xc9}},
    {"cvtdq2ps xmm1, xmm2; pxor xmm1, xmm1", {0x0f, 0x5b, 0xca, 0x66, 0x0f, 0xef, 0xc9}},
    {"cvtps2pd xmm1, xmm2; pxor xmm1, xmm1", {0x0f, 0x5a, 0xca, 0x66, 0x0f, 0xef, 0xc9}},
    {"cvtpd2ps xmm1, xmm2; pxor xmm1, xmm1", {0x66, 0x0f, 0x5a, 0xca, 0x66, 0x0f, 0xef, 0xc9}},
    {"cvtps2dq xmm1, xmm2; pxor xmm1, xmm1", {0x66, 0x0f, 0x5b, 0xca, 0x66, 0x0f, 0xef, 0xc9}},
    {"cvttpd2dq xmm1, xmm2; pxor xmm1, xmm1", {0x66, 0x0f, 0xe6, 0xca, 0x66, 0x0f, 0xef, 0xc9}},
    {"cvtss2si eax, xmm2; mov eax, 1", {0xf3, 0x0f, 0x2d, 0xc2, 0xb8, 1, 0, 0, 0}},
    {"cvttsd2si rax, xmm2; mov eax, 1", {0xf2, 0x48, 0x0f, 0x2c, 0xc2, 0xb8, 1, 0, 0, 0}},
    {"minps xmm1, xmm2; pxor xmm1, xmm1", {0x0f, 0x5d, 0xca, 0x66, 0x0f, 0xef, 0xc9}},
    {"maxsd xmm1, xmm2; pxor xmm1, xmm1", {0xf2, 0x0f, 0x5f, 0xca, 0x66, 0x0f, 0xef, 0xc9}},
    {"addps xmm1, xmm2; pxor xmm1, xmm1", {0x0f, 0x58, 0xca, 0x66, 0x0f, 0xef, 0xc9}},
    {"sqrtpd xmm1, xmm2; pxor xmm1, xmm1", {0x66, 0x0f, 0x51, 0xca, 0x66, 0x0f, 0xef, 0xc9}},
    {"comisd xmm1, xmm2; xor eax, eax", {0x66, 0x0f, 0x2f, 0xca, 0x31, 0xc0}},
    {"cmpltps xmm1, xmm2; pxor xmm1, xmm1", {0x0f, 0xc2, 0xca, 0x01, 0x66, 0x0f, 0xef, 0xc9}},
    // A known operand that is not a single: it is rounded as MXCSR says.
    {"mov eax, 0x1000001; movd xmm1, eax; cvtdq2ps xmm1, xmm1", {0xb8, 1, 0, 0, 1, 0x66, 0x0f, 0x6e, 0xc8, 0x0f, 0x5b, 0xc9}},
    {"mov eax, 0x1000001; cvtsi2ss xmm1, eax", {0xb8, 1, 0, 0, 1, 0xf3, 0x0f, 0x2a, 0xc8}},
    {"mov eax, 0x3fc00000; movd xmm1, eax; cvtss2si eax, xmm1", {0xb8, 0, 0, 0xc0, 0x3f, 0x66, 0x0f, 0x6e, 0xc8, 0xf3, 0x0f, 0x2d, 0xc1}},
    {"mov eax, 0x3fc00000; movd xmm1, eax; cvttss2si eax, xmm1", {0xb8, 0, 0, 0xc0, 0x3f, 0x66, 0x0f, 0x6e, 0xc8, 0xf3, 0x0f, 0x2c, 0xc1}},
};
constexpr u64 kStates = 200;

Outcome run(auto& cpu, const Case& wanted, u64 state) {
  TestCase test;
  test.code = wanted.code;
  test.state_seed = state * 0x9e3779b97f4a7c15;
  Outcome outcome;
  cpu.run(test, outcome);
  return outcome;
}

}  // namespace

TEST_CASE("Flags of results that nobody reads, and results of operands that are known") {
  std::string why;
  const auto silicon = NativeCpu::create(why);
  const auto names = engine_names();
  const auto index = GENERATE_COPY(range<usize>(0, names.size()));
  if (index > 0 && static_cast<Engine>(index) > default_engine()) return;
  EmulatedCpu reference(model_for_tests(), Engine::Interpreter), cpu(model_for_tests(), static_cast<Engine>(index));
  for (const Case& wanted : kCases)
    for (u64 state = 1; state <= kStates; ++state) {
      INFO(names[index] << ", " << wanted.text << ", state " << state);
      const Outcome expected = silicon ? run(*silicon, wanted, state) : run(reference, wanted, state);
      const Outcome got = run(cpu, wanted, state);
      REQUIRE(got.vector == expected.vector);
      REQUIRE(got.state.vector == expected.state.vector);
      REQUIRE(got.state.gpr == expected.state.gpr);
    }
  const Statistics* statistics = engine_statistics(cpu.core());
  if (static_cast<Engine>(index) == Engine::Llvm) CHECK(statistics->regions >= std::size(kCases));
}
