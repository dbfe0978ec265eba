// Makes random test cases from the opcode table's rows.
#pragma once

#include <vector>

#include "cpu/decoder.h"
#include "instructions/test_case.h"

namespace vellum::instructions {

struct GeneratorOptions {
  std::vector<u16> rows;                  // indices into opcode_rows() to choose from
  std::vector<u16> last_only;             // of these: those that stand only at a sequence's end
  std::vector<std::string> small_counts;  // mnemonics whose 16-bit operands are shifted by at most 15
  std::vector<std::string> w0_outside_64; // mnemonics that have VEX.W only in 64-bit code
  std::vector<Environment> environments;
  u32 memory_seed = 0;
};

class Generator {
 public:
  Generator(const CpuModel& model, GeneratorOptions options) : m_decoder(model), m_options(std::move(options)) {}
  // The case with this number; equal for equal options and seed. `row` tells which row its last instruction is of.
  TestCase make(u64 seed, u16& row);
  // One instruction of this row, to stand at `code_offset`; its overrides are the registers that it relies on. Without
  // code when the row has no encoding here that the dice found. Equal for equal arguments, whatever the offset, but for
  // what counts from it.
  TestCase make_one(u64 seed, u16 row, Environment environment, u16 code_offset);

 private:
  struct Builder;
  Decoder m_decoder;
  GeneratorOptions m_options;
};

}  // namespace vellum::instructions
