// No sensitive instruction runs as it is: the opcode table, the list of what is sensitive, and docs/callouts.md agree.
#include <catch2/catch.hpp>

#include <algorithm>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include "cpu/interpreter/handlers.h"
#include "cpu/opcodes.h"

using namespace vellum;

namespace {

bool is_callout(usize row) { return interpreter_row(static_cast<u16>(row)).flow == Flow::Callout; }

// Instructions that touch system state whatever their operands, from the SDM's list of system instructions (Vol. 1 5.20,
// Vol. 3A 2.8) and from what the literature on virtualizing x86 found not to trap. By mnemonic as the table spells it;
// MOV is told by its operands.
const std::set<std::string_view> kSensitive = {
    // Segments and descriptors.
    "push_es", "push_cs", "push_ss", "push_ds", "push_fs", "push_gs", "pop_es", "pop_ss", "pop_ds", "pop_fs", "pop_gs", "les", "lds",
    "lss", "lfs", "lgs", "sldt", "str", "lldt", "ltr", "sgdt", "sidt", "lgdt", "lidt", "lar", "lsl", "verr", "verw", "swapgs",
    "rdfsbase", "rdgsbase", "wrfsbase", "wrgsbase",
    // Control state, caches, power, virtualization.
    "smsw", "lmsw", "clts", "invlpg", "invpcid", "invd", "wbinvd", "wbnoinvd", "hlt", "monitor", "mwait", "vmcall", "vmmcall",
    "vmlaunch", "vmresume", "vmrun", "encls", "getsec",
    // MSRs, time, identification.
    "rdmsr", "wrmsr", "rdtsc", "rdtscp", "rdpmc", "rdpid", "cpuid", "rdrand", "rdseed", "xgetbv", "xsetbv", "rdpkru", "wrpkru", "xsaves",
    "xrstors",
    // Flags.
    "pushf", "popf", "cli", "sti", "clac", "stac",
    // Interrupts and far transfers.
    "int", "int3", "int1", "into", "iret", "call_far", "jmp_far", "ret_far", "syscall", "sysret", "sysenter", "sysexit", "rsm",
    // Ports.
    "in", "out", "ins", "outs",
};

bool touches_system_state(const RowSpec& row) {
  if (row.has(kPrivileged) || kSensitive.contains(row.mnemonic)) return true;
  return std::ranges::any_of(row.operands, [](const OperandSpec& operand) {
    return operand.kind == OperandKind::Segment || operand.kind == OperandKind::Control || operand.kind == OperandKind::Debug ||
           operand.kind == OperandKind::FarPointer || operand.width == OperandWidth::Far;
  });
}

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) parts.push_back(part);
  return parts;
}

// What stands between backquotes.
std::vector<std::string> quoted(const std::string& cell) {
  const auto parts = split(cell, '`');
  std::vector<std::string> result;
  for (usize i = 1; i < parts.size(); i += 2) result.push_back(parts[i]);
  return result;
}

struct DocumentedRow {
  std::vector<std::string> mnemonics, encodings, functions;
};

std::vector<DocumentedRow> documented() {
  std::ifstream file(VELLUM_CALLOUTS_DOC);
  REQUIRE(file.good());
  std::vector<DocumentedRow> rows;
  for (std::string line; std::getline(file, line);) {
    const auto cells = split(line, '|');
    if (cells.size() < 6 || quoted(cells[1]).empty()) continue;
    // The functions come first in the last cell, before a colon.
    rows.push_back({quoted(cells[1]), quoted(cells[2]), quoted(cells[5].substr(0, cells[5].find(':')))});
  }
  return rows;
}

}  // namespace

TEST_CASE("a row that touches system state is a callout") {
  std::set<std::string> wrong;
  for (usize row = 0; row < opcode_rows().size(); ++row)
    if (touches_system_state(opcode_rows()[row]) && !is_callout(row)) wrong.insert(describe_row(opcode_rows()[row]));
  for (const auto& row : wrong) UNSCOPED_INFO(row);
  CHECK(wrong.empty());
}

TEST_CASE("every callout has its function") {
  for (usize row = 0; row < opcode_rows().size(); ++row)
    if (is_callout(row)) {
      INFO(describe_row(opcode_rows()[row]));
      CHECK(interpreter_row(static_cast<u16>(row)).callout != nullptr);
    }
}

TEST_CASE("docs/callouts.md names every callout, and nothing else") {
  std::map<std::pair<std::string, std::string>, std::string> in_table;  // function, by mnemonic and encoding
  for (usize row = 0; row < opcode_rows().size(); ++row)
    if (is_callout(row)) {
      const std::string_view name = semantics_name(static_cast<u16>(row));
      in_table[{opcode_rows()[row].mnemonic, opcode_rows()[row].encoding}] = name.substr(0, name.find('<'));
    }
  const auto rows = documented();
  REQUIRE(rows.size() > 30);
  std::set<std::pair<std::string, std::string>> in_document;
  for (const DocumentedRow& row : rows)
    for (const std::string& encoding : row.encodings) {
      const auto found = std::ranges::find_if(row.mnemonics, [&](const std::string& mnemonic) { return in_table.contains({mnemonic, encoding}); });
      INFO(fmt::format("{} {}", fmt::join(row.mnemonics, ", "), encoding));
      REQUIRE(found != row.mnemonics.end());
      CHECK(std::ranges::find(row.functions, in_table.at({*found, encoding})) != row.functions.end());
      CHECK(in_document.insert({*found, encoding}).second);
    }
  std::set<std::string> missing;
  for (const auto& [row, function] : in_table)
    if (!in_document.contains(row)) missing.insert(fmt::format("{} ({}): {}", row.first, row.second, function));
  for (const auto& row : missing) UNSCOPED_INFO(row);
  CHECK(missing.empty());
}
