// Which accesses raise #SS and which #GP where an instruction makes one to the stack and one to memory: by every engine, and
// by the host's CPU where it is an x86.
#include <catch2/catch.hpp>

#include "instructions/emulated.h"
#include "instructions/native.h"

using namespace vellum;
using namespace vellum::instructions;

namespace {

constexpr u8 kStack = static_cast<u8>(Vector::StackFault), kGeneral = static_cast<u8>(Vector::GeneralProtection);
// An operand may lie here; a stack, too.
constexpr u64 kGood = kDataBase + 0x800, kAcross4GiB = 0xfffffffe, kNotCanonical = u64{1} << 47;

struct Case {
  const char* name;
  Environment environment;
  std::vector<u8> code;  // its operand is [rax]
  u64 rax, rsp;
  u8 vector;
};

const Case kCases[] = {
    {"push: the operand is read across 4 GiB", Environment::Flat32, {0xff, 0x30}, kAcross4GiB, kGood, kGeneral},
    {"push: the stack is written across 4 GiB", Environment::Flat32, {0xff, 0x30}, kGood, 1, kStack},
    {"push of a word: the stack is written across 4 GiB", Environment::Flat32, {0x66, 0xff, 0x30}, kGood, 1, kStack},
    {"push: the operand, near the stack's top, is read across 4 GiB", Environment::Flat32, {0xff, 0x30}, kAcross4GiB, 2, kGeneral},
    {"push of a register: the stack is written across 4 GiB", Environment::Flat32, {0x50}, kGood, 2, kStack},
    {"pop: the operand is written across 4 GiB", Environment::Flat32, {0x8f, 0x00}, kAcross4GiB, kGood, kGeneral},
    {"pop: the stack is read across 4 GiB", Environment::Flat32, {0x8f, 0x00}, kGood, kAcross4GiB, kStack},
    {"call: the operand is read across 4 GiB", Environment::Flat32, {0xff, 0x10}, kAcross4GiB, kGood, kGeneral},
    {"call: the stack is written across 4 GiB", Environment::Flat32, {0xff, 0x10}, kGood, 1, kStack},
    {"jmp: the operand, near the stack's top, is read across 4 GiB", Environment::Flat32, {0xff, 0x20}, kAcross4GiB, kAcross4GiB, kGeneral},
    {"ret: the stack is read across 4 GiB", Environment::Flat32, {0xc3}, kGood, kAcross4GiB, kStack},
    {"push: the operand's address is not canonical", Environment::Long64, {0xff, 0x30}, kNotCanonical, kGood, kGeneral},
    {"push: the stack's address is not canonical", Environment::Long64, {0xff, 0x30}, kGood, kNotCanonical + 8, kStack},
    {"push: neither is canonical", Environment::Long64, {0xff, 0x30}, kNotCanonical, kNotCanonical + 8, kGeneral},
    {"pop: the operand's address is not canonical", Environment::Long64, {0x8f, 0x00}, kNotCanonical, kGood, kGeneral},
    {"pop: the stack's address is not canonical", Environment::Long64, {0x8f, 0x00}, kGood, kNotCanonical, kStack},
    {"call: the stack's address is not canonical", Environment::Long64, {0xff, 0x10}, kGood, kNotCanonical + 8, kStack},
    {"jmp: the operand's address, near the stack's top, is not canonical", Environment::Long64, {0xff, 0x20}, kNotCanonical, kNotCanonical, kGeneral},
};

TestCase test_case(const Case& wanted) {
  TestCase test;
  test.environment = wanted.environment;
  test.code = wanted.code;
  test.override_mask = 1u << kRax | 1u << kRsp;
  test.overrides[kRax] = wanted.rax;
  test.overrides[kRsp] = wanted.rsp;
  // What CALL finds at kGood: its target, which is the filler, if it gets so far.
  test.patch_offset = kGood - kDataBase;
  test.patch = {0, 0, 0, kCodeBase >> 24, 0, 0, 0, 0};
  return test;
}

}  // namespace

TEST_CASE("An access to the stack raises #SS, one to the operand #GP") {
  const auto names = engine_names();
  const auto index = GENERATE_COPY(range<usize>(0, names.size()));
  if (index > 0 && static_cast<Engine>(index) > default_engine()) return;
  EmulatedCpu cpu(model_for_tests(), static_cast<Engine>(index));
  for (const Case& wanted : kCases) {
    INFO(names[index] << ", " << environment_name(wanted.environment) << ", " << wanted.name);
    Outcome outcome;
    // Hot code becomes a region.
    for (unsigned round = 0; round < 3; ++round) {
      cpu.run(test_case(wanted), outcome);
      CHECK(outcome.vector == wanted.vector);
      CHECK(outcome.error_code == 0);
      CHECK(outcome.state.rip == kCodeBase);
    }
  }
}

TEST_CASE("Silicon says the same of #SS and #GP") {
  std::string why;
  const auto cpu = NativeCpu::create(why);
  if (!cpu) return;
  for (const Case& wanted : kCases) {
    if (!cpu->supports(wanted.environment)) continue;
    INFO(environment_name(wanted.environment) << ", " << wanted.name);
    Outcome outcome;
    cpu->run(test_case(wanted), outcome);
    CHECK(outcome.vector == wanted.vector);
    CHECK(outcome.error_code == 0);
    CHECK(outcome.state.rip == kCodeBase);
  }
}
