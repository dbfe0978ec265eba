// Accesses of an instruction to two pages at once, in code that engines compile as a whole.
#include <catch2/catch.hpp>

#include "instructions/emulated.h"

using namespace vellum;
using namespace vellum::instructions;

namespace {

struct Case {
  const char* text;
  std::vector<u8> code;
};
const Case kCases[] = {
    {"add [rax], rcx", {0x48, 0x01, 0x08}},          {"not qword [rax]", {0x48, 0xf7, 0x10}},
    {"lock add [rax], rcx", {0xf0, 0x48, 0x01, 0x08}}, {"xchg [rax], rcx", {0x48, 0x87, 0x08}},
    {"mov [rax], rcx", {0x48, 0x89, 0x08}},          {"mov rcx, [rax]", {0x48, 0x8b, 0x08}},
    {"fisttp qword [rax]", {0xdd, 0x08}},            {"fstp tword [rax]", {0xdb, 0x38}},
    {"movups [rax], xmm1", {0x0f, 0x11, 0x08}},      {"vmovups [rax], ymm1", {0xc5, 0xfc, 0x11, 0x08}},
    {"add [rax], ecx; mov [rax + 4], rdx; inc word [rax + 5]", {0x01, 0x08, 0x48, 0x89, 0x50, 0x04, 0x66, 0xff, 0x40, 0x05}},
};

}  // namespace

TEST_CASE("Accesses across two pages") {
  const auto names = engine_names();
  const auto index = GENERATE_COPY(range<usize>(0, names.size()));
  if (index > 0 && static_cast<Engine>(index) > default_engine()) return;
  EmulatedCpu reference(model_for_tests(), Engine::Interpreter), cpu(model_for_tests(), static_cast<Engine>(index));
  for (const Case& wanted : kCases)
    for (u64 state = 1; state <= 40; ++state) {
      INFO(names[index] << ", " << wanted.text << ", state " << state);
      TestCase test;
      test.code = wanted.code;
      test.state_seed = state * 0x9e3779b97f4a7c15;
      test.override_mask = 1u << kRax;
      test.overrides[kRax] = kDataBase + 0x1000 - 1 - state % 8;
      Outcome expected, got;
      reference.run(test, expected);
      cpu.run(test, got);
      REQUIRE(got.vector == expected.vector);
      REQUIRE(got.state.gpr == expected.state.gpr);
      REQUIRE(got.state.vector == expected.state.vector);
      REQUIRE(got.memory == expected.memory);
    }
}
