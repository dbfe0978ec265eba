// A small region whose loops run long is compiled again by LLVM, and the guest does not notice.
#include <catch2/catch.hpp>

#include "programs/machine.h"

using namespace vellum;
using namespace vellum::programs;

namespace {

constexpr u64 kInstructions = 200'000, kSlice = 1000;

// Sums up in RDX, and writes a count to memory each time that the inner loop is done.
const std::vector<u8> kLoops = {
    0xb9, 0xe8, 3, 0, 0,  // mov ecx, 1000
    0x48, 0x01, 0xca,     // add rdx, rcx
    0xff, 0xc9,           // dec ecx
    0x75, 0xf9,           // jnz to the addition
    0x48, 0xff, 0x03,     // inc qword [rbx]
    0xeb, 0xef,           // jmp to the start
};

// The CPU behind kInstructions of it.
std::unique_ptr<ProgramMachine> run_loops(const EngineOptions& options) {
  auto machine = std::make_unique<ProgramMachine>("machine", *parse_cpu_model("max"), options);
  Program program;
  program.environment = Environment::Long64;
  program.code = kLoops;
  program.code.resize(instructions::kCodeSize, instructions::kFiller);
  program.blocks = {0};
  machine->load(program, 1);
  machine->enter({.state_seed = 1, .rflags = 0x202});
  machine->core().s.gpr[kRbx] = instructions::kDataBase;
  for (u64 done = 0; done < kInstructions; done += kSlice) machine->run(kSlice);
  return machine;
}

}  // namespace

TEST_CASE("a region whose loops run long is promoted once") {
  const auto interpreter = run_loops({.engine = Engine::Interpreter});
  const auto tiered = run_loops({.engine = Engine::Tiered, .hot_entries = 20, .passes_until_promoted = 1000, .wait_for_compiler = true});
  const Statistics* statistics = engine_statistics(tiered->core());
  REQUIRE(statistics);
  CHECK((statistics->regions_promoted >= 1) == kHasQuickGenerator);  // elsewhere LLVM makes it the first time
  CHECK(statistics->regions > statistics->quick_regions);
  const CpuState &a = interpreter->core().s, &b = tiered->core().s;
  for (unsigned i = 0; i < 16; ++i) CHECK(a.gpr[i] == b.gpr[i]);
  CHECK(a.rip == b.rip);
  CHECK(interpreter->core().retired() == tiered->core().retired());
}
