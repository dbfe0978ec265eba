// From instructions on values to bytes.
#pragma once

#include "jit/optimizer/x86_64/machine_code.h"

namespace vellum::x86_64 {

// `near` is an address from where relative jumps reach the place where the code will run, and that place from there.
void emit_code(const MachineCode& code, const Allocation& allocation, const void* near, Assembler& assembler);

}  // namespace vellum::x86_64
