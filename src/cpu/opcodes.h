// The opcode table: every row of every group, in one array.
#pragma once

#include <span>
#include <string>

#include "cpu/opcode_row.h"

namespace vellum {

// Groups follow the manual's chapters; each is one .def file, and one translation unit in each engine.
#define VELLUM_OPCODE_GROUPS(X) X(integer) X(control_flow) X(strings) X(system) X(x87) X(mmx) X(sse) X(sse_float) X(crypto) \
  X(avx)

std::span<const RowSpec> opcode_rows();
// "add r/m32, r32 (01 /r)", for messages and documentation.
std::string describe_row(const RowSpec& row);

}  // namespace vellum
