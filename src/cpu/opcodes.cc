// The opcode table's rows without their semantics.
#include "cpu/opcodes.h"

#include <fmt/format.h>

namespace vellum {

namespace opcode_table {

// Not constexpr: each row is its own constant evaluation, all of them together pass the compiler's limit of steps.
const RowSpec kRows[] = {
#define ROW(mnemonic, encoding, operands, feature, attributes, ...) \
  row_spec(#mnemonic, encoding, operands, Feature::feature, attributes),
#include "cpu/opcodes/all.def"
#undef ROW
};
const usize kCount = std::size(kRows);

}  // namespace opcode_table

namespace {

constexpr std::string_view kSemantics[] = {
#define ROW(mnemonic, encoding, operands, feature, attributes, ...) #__VA_ARGS__,
#include "cpu/opcodes/all.def"
#undef ROW
};

}  // namespace

std::string describe_row(const RowSpec& row) {
  return fmt::format("{} {} ({})", row.mnemonic, row.operand_text, row.encoding);
}

std::string_view semantics_name(u16 row) {
  std::string_view name = kSemantics[row];
  constexpr std::string_view kPrefix = "CalloutTo<callouts::";
  if (name.starts_with(kPrefix)) name = name.substr(kPrefix.size(), name.size() - kPrefix.size() - 1);
  return name;
}

}  // namespace vellum
