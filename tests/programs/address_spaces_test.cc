// A new CR3 leaves code in the upper half that is mapped globally as it is known: nothing has to be looked up again.
#include <catch2/catch.hpp>

#include "instructions/bare_cpu.h"
#include "programs/machine.h"

using namespace vellum;
using namespace vellum::instructions;
using namespace vellum::programs;

namespace {

constexpr u64 kGlobal = 0x100;  // of a page table entry, SDM Vol. 3A table 5-17
constexpr u64 kLoop = 0x1aff0;  // physical; an instruction there lies on two pages

const std::vector<u8> kCode = {
    0x0f, 0x22, 0xd8,                             // mov cr3, rax
    0x0f, 0x1f, 0x40, 0x00,                       // nop
    0x0f, 0x1f, 0x40, 0x00,                       // nop
    0x48, 0xbb, 1, 2, 3, 4, 5, 6, 7, 8,           // mov rbx, imm64, from the page's last byte but four on
    0xff, 0xc9,                                   // dec ecx
    0x75, 0xe7,                                   // jnz to the start
    0xf4,                                         // hlt
};

// How often the upper half's generation changes in later rounds of the loop.
u32 changes(bool global) {
  ProgramMachine machine("machine", *parse_cpu_model("max"), {.engine = Engine::Baseline});
  Program program;
  program.environment = Environment::Long64;
  program.code.assign(kCodeSize, kFiller);
  program.blocks = {0};
  machine.load(program, 1);
  machine.enter({.state_seed = 1, .rflags = 0x2, .supervisor = true});
  machine.write_memory(kLoop, kCode);
  const u8 large_page[] = {kPresent | kWrite | kLarge, static_cast<u8>(global ? kGlobal >> 8 : 0)};
  machine.write_memory(kKernelPd, large_page);
  CpuCore& cpu = machine.core();
  cpu.s.cr4 |= kCr4Pge;
  cpu.s.rip = kKernel + kLoop;
  cpu.s.gpr[kRax] = cpu.s.cr3;
  cpu.s.gpr[kRcx] = 1000;
  cpu.flush_tlb();
  cpu.update_mode();
  machine.run(600);
  REQUIRE(!cpu.s.halted);
  const u32 before = cpu.s.jump_generation[1];
  machine.run(600);
  REQUIRE(!cpu.s.halted);
  return cpu.s.jump_generation[1] - before;
}

}  // namespace

TEST_CASE("global code that lies on two pages is still known under a new CR3") {
  CHECK(changes(true) == 0);
  CHECK(changes(false) > 50);
}
