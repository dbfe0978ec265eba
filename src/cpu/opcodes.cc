// The opcode table's rows without their semantics.
#include "cpu/opcodes.h"

#include <fmt/format.h>

namespace vellum {

namespace {

// Not constexpr: each row is its own constant evaluation, all of them together pass the compiler's limit of steps.
const RowSpec kRows[] = {
#define ROW(mnemonic, encoding, operands, feature, attributes, ...) \
  row_spec(#mnemonic, encoding, operands, Feature::feature, attributes),
#include "cpu/opcodes/all.def"
#undef ROW
};

}  // namespace

std::span<const RowSpec> opcode_rows() { return kRows; }

std::string describe_row(const RowSpec& row) {
  return fmt::format("{} {} ({})", row.mnemonic, row.operand_text, row.encoding);
}

}  // namespace vellum
