// Random guest programs: blocks of random instructions, joined by jumps, calls, returns and loops, some of which store
// into the code.
#pragma once

#include <array>
#include <vector>

#include "instructions/generator.h"

namespace vellum::programs {

using instructions::Environment;
using instructions::Random;

// Linear address at which the code pages are found a second time. In segmented code FS is a data segment over the code
// segment, and GS one over this.
inline constexpr u64 kCodeAlias = 0x11000000;
// A word of data that hardly any random operand hits: how many more blocks a bounded program runs, at most kMostFuel.
inline constexpr u16 kFuelOffset = 0x40;
inline constexpr u16 kMostFuel = 200;
// Room in front of a bounded program's first block for a jump to any.
inline constexpr unsigned kEntryJump = 8;

struct ProgramOptions {
  std::vector<u16> rows;       // to choose plain instructions from
  std::vector<u16> favoured;   // of these, those that half of the instructions are of
  bool stores_to_code = true;
  bool bounded = false;        // ends by itself, and uses nothing but the code pages and the data pages
};

struct Program {
  Environment environment = Environment::Long64;
  std::vector<u8> code;        // all of the code pages, from kCodeBase
  std::vector<u16> blocks;     // where each begins
  unsigned first = 0, last = 0;  // its first byte, and the one behind its last
};

class ProgramGenerator {
 public:
  ProgramGenerator(const CpuModel& model, instructions::GeneratorOptions generator, ProgramOptions options);
  Program make(u64 seed, Environment environment);

 private:
  class Builder;
  instructions::Generator m_generator;
  Decoder m_decoder;
  ProgramOptions m_options;
};

// A bounded program, begun at one of its blocks, as a case for silicon.
instructions::TestCase test_case(const Program& program, unsigned block, u16 fuel, u64 state_seed, u32 memory_seed, u32 rflags);

}  // namespace vellum::programs
