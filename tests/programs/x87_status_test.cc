// What x87 instructions do to the status word where processors differ from the SDM: every engine does as the SDM says.
#include <catch2/catch.hpp>

#include "programs/machine.h"

using namespace vellum;
using namespace vellum::programs;

namespace {

// Gathers in EDX the status words that FUCOMI leaves. FXAM of -0 has set C1 each time.
const std::vector<u8> kCompareSigned = {
    0xb9, 0xb8, 0x0b, 0, 0,  // mov ecx, 3000
    0x31, 0xd2,              // xor edx, edx
    0xd9, 0xee,              // loop: fldz
    0xd9, 0xe0,              // fchs
    0xd9, 0xe5,              // fxam
    0xdb, 0xe8,              // fucomi st(0)
    0xdf, 0xe0,              // fnstsw ax
    0x09, 0xc2,              // or edx, eax
    0xdd, 0xd8,              // fstp st(0)
    0xff, 0xc9,              // dec ecx
    0x75, 0xee,              // jnz loop
    0xf4,                    // hlt
};

}  // namespace

// SDM Vol. 2A, "FCOMI": C1 is set to 0.
TEST_CASE("FUCOMI clears C1") {
  const EngineOptions options = GENERATE(
      EngineOptions{.engine = Engine::Interpreter}, EngineOptions{.engine = Engine::Baseline},
      EngineOptions{.engine = Engine::Llvm, .hot_entries = 20, .wait_for_compiler = true},
      EngineOptions{.engine = Engine::Llvm, .hot_entries = 20, .x87_code = X87Code::Host, .wait_for_compiler = true},
      EngineOptions{.engine = Engine::Tiered, .hot_entries = 20, .x87_code = X87Code::Host, .wait_for_compiler = true});
  ProgramMachine machine("machine", *parse_cpu_model("max"), options);
  Program program;
  program.environment = Environment::Long64;
  program.code = kCompareSigned;
  program.code.resize(instructions::kCodeSize, instructions::kFiller);
  program.blocks = {0};
  machine.load(program, 1);
  machine.enter({.state_seed = 1, .rflags = 0x202});
  CpuState& s = machine.core().s;
  s.x87 = {};
  s.x87.control = 0x37f;
  REQUIRE(machine.run(100'000).exit == Exit::Halted);
  CHECK((s.gpr[kRcx] & 0xffffffff) == 0);
  constexpr u64 kC1 = 0x200, kC3 = 0x4000;
  CHECK((s.gpr[kRdx] & kC1) == 0);
  CHECK((s.gpr[kRdx] & kC3) == kC3);  // of FXAM: it was reached
}
