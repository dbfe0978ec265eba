// Hot code under the options of users: found by counters, compiled in the background, entered by every kind of way, overwritten and
// compiled anew. The guest does not notice.
#include <catch2/catch.hpp>

#include "instructions/test_case.h"
#include "jit/stencil.h"
#include "programs/machine.h"

using namespace vellum;
using namespace vellum::instructions;
using namespace vellum::programs;

namespace {

constexpr u64 kSlice = 1'000'000;
constexpr unsigned kAddend = 0x1100 + 3;  // of the function on the other page

// A loop over two pages: a function called there, a jump there and back, an indirect jump, and a loop in it with conditional branches
// in both directions.
const std::vector<u8> kFirstPage = {
    0xe8, 0xfb, 0x10, 0, 0,        // 00: call 1100h
    0xb9, 7, 0, 0, 0,              // 05: mov ecx, 7
    0xf6, 0xc1, 1,                 // 0a: test cl, 1
    0x74, 4,                       // 0d: jz 13h
    0x48, 0x83, 0xc7, 5,           // 0f: add rdi, 5
    0xff, 0xc9,                    // 13: dec ecx
    0x75, 0xf3,                    // 15: jnz 0ah
    0xe9, 0xe4, 0x11, 0, 0,        // 17: jmp 1200h
};
const std::vector<u8> kFunction = {0x48, 0x83, 0xc2, 1, 0xc3};  // add rdx, 1; ret
const std::vector<u8> kWayBack = {
    0x48, 0xff, 0x03,                      // 1200: inc qword [rbx]
    0x48, 0x8d, 5, 0xf6, 0xed, 0xff, 0xff,  // 1203: lea rax, [rip - 120ah]
    0xff, 0xe0,                            // 120a: jmp rax
};

Program program() {
  Program program;
  program.environment = Environment::Long64;
  program.code.assign(kCodeSize, kFiller);
  program.blocks = {0};
  std::ranges::copy(kFirstPage, program.code.begin());
  std::ranges::copy(kFunction, program.code.begin() + 0x1100);
  std::ranges::copy(kWayBack, program.code.begin() + 0x1200);
  return program;
}

void start(ProgramMachine& machine) {
  machine.load(program(), 1);
  machine.enter({.state_seed = 1, .rflags = 0x202});
  machine.core().s.gpr[kRbx] = kDataBase;
}

}  // namespace

TEST_CASE("code that gets hot in the background runs as in the interpreter") {
  if (!have_optimizer()) {
    WARN("this host has no optimizing tier");
    return;
  }
  ProgramMachine interpreter("interpreter", *parse_cpu_model("max"), {.engine = Engine::Interpreter});
  ProgramMachine tiered("tiered", *parse_cpu_model("max"), {.engine = Engine::Tiered, .count_tiers = true});
  const Statistics* statistics = engine_statistics(tiered.core());
  REQUIRE(statistics);
  for (ProgramMachine* machine : {&interpreter, &tiered}) start(*machine);
  const auto run_both = [&](u64 insns) {
    for (u64 done = 0; done < insns; done += kSlice)
      for (ProgramMachine* machine : {&interpreter, &tiered}) machine->run(kSlice);
    CHECK(tiered.difference(interpreter) == "");
  };
  const auto run_until_in_regions = [&] {
    constexpr u64 kStep = 20 * kSlice, kMost = 100 * kStep;
    for (u64 done = 0, in_regions = 0; done < kMost && in_regions < kStep / 2; done += kStep) {
      const u64 before = statistics->region_insns_run;
      run_both(kStep);
      in_regions = statistics->region_insns_run - before;
      if (in_regions >= kStep / 2) return true;
    }
    return false;
  };
  CHECK(run_until_in_regions());
  for (const u8 addend : {2, 1, 3}) {
    const u8 bytes[] = {addend};
    for (ProgramMachine* machine : {&interpreter, &tiered}) machine->write_memory(ProgramMachine::kCodePages + kAddend, bytes);
    run_both(2 * kSlice);
  }
  CHECK(run_until_in_regions());
}
