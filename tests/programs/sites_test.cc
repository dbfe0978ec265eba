// Ways to other pages whose mapping changes again and again are given up, and still lead where the mapping says.
#include <catch2/catch.hpp>

#include <cstring>

#include "cpu/floating_environment.h"
#include "instructions/bare_cpu.h"
#include "jit/statistics.h"
#include "jit/stencil.h"
#include "programs/machine.h"

using namespace vellum;
using namespace vellum::instructions;
using namespace vellum::programs;

namespace {

constexpr unsigned kLoop = 30;             // instructions of one round
constexpr unsigned kFirst = 0x1000;        // offset of the page whose mapping changes
constexpr unsigned kMappings = 2 * kMostSiteMisses;
constexpr unsigned kOtherPage = 2;         // the physical page with the other version

// Every kind of way to another page: a call and its return, a jump, a conditional jump, an indirect call and jump, the end of a page.
void put_code(std::vector<u8>& code, unsigned at, std::initializer_list<u8> bytes) { std::ranges::copy(bytes, code.begin() + at); }
void put_transfer(std::vector<u8>& code, unsigned at, std::initializer_list<u8> opcode, unsigned target) {
  put_code(code, at, opcode);
  const unsigned end = at + static_cast<unsigned>(opcode.size()) + 4;
  const u32 distance = target - end;
  for (unsigned i = 0; i < 4; ++i) code[end - 4 + i] = static_cast<u8>(distance >> 8 * i);
}

constexpr unsigned kCall = 0, kJump = 5, kConditional = 0x20, kBack = 0x40, kIndirectCall = 0x45, kIndirectJump = kIndirectCall + 8, kEnd = 0xff8;

Program program(Environment environment) {
  Program program;
  program.environment = environment;
  program.code.assign(kCodeSize, kFiller);
  program.blocks = {0};
  std::vector<u8>& code = program.code;
  put_transfer(code, kCall, {0xe8}, 0x1100);
  put_transfer(code, kJump, {0xe9}, 0x1200);
  put_code(code, kConditional, {0x39, 0xdb});  // cmp ebx, ebx
  put_transfer(code, kConditional + 2, {0x0f, 0x84}, 0x1300);
  put_transfer(code, kBack, {0xe8}, kIndirectCall);
  put_code(code, kIndirectCall, {0x58});  // pop eax, which is where it stands
  put_transfer(code, kIndirectCall + 1, {0x05}, 0x1500 + 6);  // add eax, the way to 0x1500
  put_code(code, kIndirectCall + 6, {0xff, 0xd0});            // call eax
  put_transfer(code, kIndirectJump, {0x05}, 0x1400 - 0x1500 + kIndirectJump + 5);
  put_code(code, kIndirectJump + 5, {0xff, 0xe0});  // jmp eax
  put_code(code, kEnd, {0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90});
  put_code(code, kFirst, {0x83, 0xc5, 7});  // add ebp, 7
  put_transfer(code, kFirst + 3, {0xe9}, 0);
  put_code(code, 0x1100, {0x83, 0xc2, 1, 0xc3});  // add edx, 1; ret
  put_code(code, 0x1200, {0x83, 0xc6, 3});        // add esi, 3
  put_transfer(code, 0x1203, {0xe9}, kConditional);
  put_code(code, 0x1300, {0x83, 0xc7, 5});        // add edi, 5
  put_transfer(code, 0x1303, {0xe9}, kBack);
  put_code(code, 0x1400, {0x83, 0xc1, 9});        // add ecx, 9
  put_transfer(code, 0x1403, {0xe9}, kEnd);
  put_code(code, 0x1500, {0x83, 0xc1, 2, 0xc3});  // add ecx, 2; ret
  return program;
}

// The same additions with other numbers.
std::vector<u8> other_page(const Program& program) {
  std::vector<u8> page(program.code.begin() + kFirst, program.code.begin() + kFirst + 0x1000);
  for (const unsigned at : {0x0, 0x100, 0x200, 0x300, 0x400, 0x500}) page[at + 2] = static_cast<u8>(page[at + 2] + 0x10);
  return page;
}

u16 misses(CpuCore& cpu, unsigned offset, Way way) {
  const Block* block = cpu.blocks.find(ProgramMachine::kCodePages + offset, cpu.s.mode & kBlockModeMask);
  REQUIRE(block);
  return block->site_misses[way == Way::FarNext];
}

// The interpreter and the baseline with the program, one beside the other.
struct Pair {
  explicit Pair(const Program& code) {
    on_both([&](ProgramMachine& one) {
      one.load(code, 1);
      one.write_memory(ProgramMachine::kCodePages + kOtherPage * kPageSize, other_page(code));
      one.enter({.state_seed = 1, .rflags = 2});
    });
  }
  void on_both(auto action) {
    action(reference);
    action(machine);
  }
  void run_rounds(unsigned rounds, u64 base) {
    on_both([&](ProgramMachine& one) {
      const auto stop = one.run(rounds * kLoop);
      REQUIRE(stop.exit == Exit::BudgetSpent);
    });
    REQUIRE(machine.difference(reference) == "");
    REQUIRE(machine.core().s.rip == base);
  }
  // The first round tells the jump cache of the new mapping, the second one misses.
  void map_and_run(unsigned page) {
    on_both([&](ProgramMachine& one) { one.map_code_page(kCodeBase + kFirst, page, true); });
    run_rounds(3, kCodeBase);
  }
  u64 site_links() { return engine_statistics(machine.core())->site_links; }

  ProgramMachine reference{"interpreter", *parse_cpu_model("max"), {.engine = Engine::Interpreter}};
  ProgramMachine machine{"baseline", *parse_cpu_model("max"), {.engine = Engine::Baseline}};
};

}  // namespace

TEST_CASE("a way to a page of other code again and again is given up, and leads where the page is") {
  if (!have_stencils()) return;
  const Environment where = GENERATE(Environment::Long64, Environment::Flat32);  // where a site that is given up hands on the RIP, and where it reads its instruction
  CAPTURE(where);
  Pair pair(program(where));
  CpuCore& cpu = pair.machine.core();
  const u64 edx = cpu.s.gpr[kRdx];
  u32 sum = 0;
  for (unsigned i = 0; i < kMappings; ++i) {
    pair.map_and_run(i % 2 ? 1 : kOtherPage);
    sum += 3 * (i % 2 ? 1 : 0x11);
  }
  CHECK(misses(cpu, kCall, Way::FarTaken) == kMostSiteMisses);
  CHECK(misses(cpu, kJump, Way::FarTaken) == kMostSiteMisses);
  CHECK(misses(cpu, kConditional, Way::FarTaken) == kMostSiteMisses);
  CHECK(misses(cpu, kIndirectCall, Way::FarTaken) == kMostSiteMisses);
  CHECK(misses(cpu, kIndirectJump, Way::FarTaken) == kMostSiteMisses);
  CHECK(misses(cpu, kEnd, Way::FarNext) == kMostSiteMisses);
  CHECK(misses(cpu, kCall, Way::FarNext) <= 1);  // the block behind the call stays where it is
  CHECK(static_cast<u32>(cpu.s.gpr[kRdx]) == static_cast<u32>(edx + sum));

  const u64 links = pair.site_links();
  pair.map_and_run(kOtherPage);
  pair.map_and_run(1);
  pair.map_and_run(kOtherPage);
  CHECK(misses(cpu, kJump, Way::FarTaken) == kMostSiteMisses);
  CHECK(static_cast<u32>(cpu.s.gpr[kRdx]) == static_cast<u32>(edx + sum + 3 * (0x11 + 1 + 0x11)));
  CHECK(pair.site_links() == links);
}

TEST_CASE("ways to a page lead there again when it is mapped anew") {
  if (!have_stencils()) return;
  const Environment where = GENERATE(Environment::Long64, Environment::Flat32);
  CAPTURE(where);
  Pair pair(program(where));
  pair.run_rounds(3, kCodeBase);
  const u64 links = pair.site_links();
  CHECK(links > 0);
  for (unsigned i = 0; i < kMappings; ++i) pair.map_and_run(1);
  CpuCore& cpu = pair.machine.core();
  for (const auto& [offset, way] : {std::pair(kCall, Way::FarTaken), {kCall, Way::FarNext}, {kJump, Way::FarTaken}, {kConditional, Way::FarTaken}, {kIndirectCall, Way::FarTaken}, {kIndirectCall, Way::FarNext},
                                    {kIndirectJump, Way::FarTaken}, {kEnd, Way::FarNext}})
    CHECK(misses(cpu, offset, way) == 1);
  CHECK(pair.site_links() == links);
}

TEST_CASE("code that is mapped at two places keeps its ways") {
  if (!have_stencils()) return;
  const Environment where = GENERATE(Environment::Long64, Environment::Flat32);
  CAPTURE(where);
  Pair pair(program(where));
  pair.run_rounds(3, kCodeBase);
  const u64 links = pair.site_links();
  pair.on_both([&](ProgramMachine& one) {
    one.map_code_page(kCodeAlias, 0, true);
    one.map_code_page(kCodeAlias + kFirst, 1, true);
  });
  for (unsigned i = 0; i < kMappings; ++i) {
    const u64 base = i % 2 ? kCodeBase : kCodeAlias;
    pair.on_both([&](ProgramMachine& one) { one.core().s.rip = base; });
    pair.run_rounds(3, base);
  }
  CHECK(pair.site_links() == links);
  // The other page at one of the two places: the distance is the same, what is found there is not.
  pair.on_both([&](ProgramMachine& one) { one.map_code_page(kCodeAlias + kFirst, kOtherPage, false); });
  for (unsigned i = 0; i < kMappings; ++i) {
    const u64 base = i % 2 ? kCodeBase : kCodeAlias;
    pair.on_both([&](ProgramMachine& one) { one.core().s.rip = base; });
    pair.run_rounds(3, base);
  }
}

TEST_CASE("what was found before the generations of the mapping wrapped is not taken for what is found now") {
  if (!have_stencils()) return;
  Pair pair(program(Environment::Long64));
  constexpr unsigned kFlushes = 1u << kJumpGenerationBits;  // each begins a generation for either half, so that this is twice around
  // So many that the mapping's generation is, once, what it was when the other page was found.
  for (unsigned fewer = 0; fewer < 16; ++fewer) {
    pair.map_and_run(1);
    for (unsigned i = fewer; i < kFlushes; ++i) pair.machine.core().flush_tlb();
    pair.map_and_run(kOtherPage);
  }
}

// The way to it stays on its page, and is never linked: where the instruction ends is looked up each time.
TEST_CASE("an instruction across the end of a page is read where its second page is mapped") {
  if (!have_stencils()) return;
  const Environment where = GENERATE(Environment::Long64, Environment::Flat32);
  CAPTURE(where);
  constexpr unsigned kAcross = 0xffd, kLast = 0xfe0;
  Program code;
  code.environment = where;
  code.code.assign(kCodeSize, kFiller);
  code.blocks = {0};
  put_transfer(code.code, 0, {0xe9}, kLast);
  std::fill(code.code.begin() + kLast, code.code.begin() + kAcross, u8{0x90});
  put_code(code.code, kLast, {0x83, 0xc5, 1});                // add ebp, 1
  put_code(code.code, kAcross, {0x81, 0xc7, 1, 0, 2, 3});     // add edi, 0x03020001; other_page() has 0x13020001
  put_transfer(code.code, kAcross + 6, {0xe9}, 0);
  static_assert(kAcross - kLast - 3 + 4 == kLoop);
  Pair pair(code);
  const u64 edi = pair.machine.core().s.gpr[kRdi];
  u32 sum = 0;
  for (unsigned i = 0; i < kMappings; ++i) {
    pair.map_and_run(i % 2 ? 1 : kOtherPage);
    sum += 3 * (i % 2 ? 0x03020001 : 0x13020001);
  }
  CHECK(static_cast<u32>(pair.machine.core().s.gpr[kRdi]) == static_cast<u32>(edi + sum));
}

// The page behind the call may have been found since in another mode, which is then that of now, but not the call's.
TEST_CASE("a return in another mode than the call's goes on in the mode of now") {
  if (!have_stencils()) return;
  const Environment where = GENERATE(Environment::Long64, Environment::Flat32);
  CAPTURE(where);
  Program code;
  code.environment = where;
  code.code.assign(kCodeSize, kFiller);
  code.blocks = {0};
  put_transfer(code.code, 0, {0xe8}, 0x1100);
  put_code(code.code, 5, {0x0f, 0x51, 0xc0});  // sqrtps xmm0, xmm0
  put_transfer(code.code, 8, {0xe9}, 0x1200);
  put_code(code.code, 0x1100, {0xc3});
  put_transfer(code.code, 0x1200, {0xe9}, 0x20);
  put_code(code.code, 0x20, {0x83, 0xc7, 5});  // add edi, 5
  put_transfer(code.code, 0x23, {0xe9}, 0);
  constexpr unsigned kRound = 7;
  Pair pair(code);
  const auto set_masks = [&](u32 mxcsr) {
    pair.on_both([&](ProgramMachine& one) {
      write_mxcsr(one.core().s, mxcsr);
      one.core().update_mode();
    });
  };
  const auto run_at = [&](u64 offset, u64 insns) {
    pair.on_both([&](ProgramMachine& one) {
      one.core().s.rip = kCodeBase + offset;
      one.run(insns);
    });
    REQUIRE(pair.machine.difference(pair.reference) == "");
  };
  set_masks(0x1f80);
  run_at(0, 3 * kRound + 1);  // ends in front of the RET
  REQUIRE(pair.machine.core().s.rip == kCodeBase + 0x1100);
  set_masks(0x1f00);  // invalid operations fault
  run_at(0x1200, 3);  // finds the first page in this mode
  pair.on_both([&](ProgramMachine& one) {
    const float negative[4] = {-1, -1, -1, -1};
    std::memcpy(&one.core().s.vector[0], negative, sizeof negative);
  });
  run_at(0x1100, kRound);
  CHECK(pair.machine.core().s.rip != kCodeBase + 0x1200);
}

// Which the caller of both may see where another program, in its own address space, has called from the same place of the stack.
TEST_CASE("a return to another instruction than the one behind the call goes there, whatever the mapping's generation") {
  if (!have_stencils()) return;
  const Environment where = GENERATE(Environment::Long64, Environment::Flat32);
  CAPTURE(where);
  constexpr unsigned kBehind = 5, kPad = 8;
  Program code;
  code.environment = where;
  code.code.assign(kCodeSize, kFiller);
  code.blocks = {0};
  put_transfer(code.code, 0, {0xe8}, 0x1100);
  for (unsigned at = kBehind; at + kPad <= kFirst; at += kPad) {
    put_code(code.code, at, {0x83, 0xc7, static_cast<u8>(at / kPad)});  // add edi, another number at each
    put_transfer(code.code, at + 3, {0xe9}, 0);
  }
  put_code(code.code, 0x1100, {0x01, 0x04, 0x24, 0xc3});  // add [rsp], eax; ret
  Pair pair(code);
  const auto run_at = [&](u64 offset, u64 eax, u64 insns) {
    pair.on_both([&](ProgramMachine& one) {
      one.core().s.rip = kCodeBase + offset;
      one.core().s.gpr[kRax] = eax;
      one.run(insns);
    });
    REQUIRE(pair.machine.difference(pair.reference) == "");
  };
  CpuState& s = pair.machine.core().s;
  unsigned elsewhere = 0;
  for (unsigned i = 0; i < 64; ++i) {
    run_at(0, 0, 3 * 5 + 1);  // ends behind the call
    const u64 before = s.place_key[kCodeBase >> 63];
    pair.on_both([&](ProgramMachine& one) { one.core().flush_tlb(); });
    const unsigned distance = (before ^ s.place_key[kCodeBase >> 63]) & kPageMask;
    if (kBehind + distance + kPad > kFirst) continue;
    elsewhere += distance != 0;
    run_at(0x1100, distance, 4);
  }
  CHECK(elsewhere > 0);
}
