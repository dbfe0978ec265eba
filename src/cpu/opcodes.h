// The opcode table: every row of every group, in one array.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "cpu/opcode_row.h"

namespace vellum {

// Groups follow the manual's chapters; each is one .def file, and one translation unit in each engine.
#define VELLUM_OPCODE_GROUPS(X) X(integer) X(control_flow) X(strings) X(system) X(x87) X(mmx) X(sse) X(sse_float) X(crypto) \
  X(avx) X(avx_float) X(fma)

namespace opcode_table {
extern const RowSpec kRows[];
extern const usize kCount;
}  // namespace opcode_table
inline std::span<const RowSpec> opcode_rows() { return {opcode_table::kRows, opcode_table::kCount}; }
// "add r/m32, r32 (01 /r)", for messages and documentation.
std::string describe_row(const RowSpec& row);
// Of a row that is a callout: the function's name in namespace callouts, with its template argument ("push_segment<kEs>");
// of the others the name of their semantics.
std::string_view semantics_name(u16 row);

}  // namespace vellum
