// What an instruction becomes, in words, and names for the addresses that host code mentions.
#pragma once

#include <string>

#include "cpu/block.h"

namespace vellum {

// The callout at `position`, by its function's name; empty when the instruction is none. `handler` as below.
std::string callout_name(const Block& block, unsigned position, const void* handler);
// "add Ev,Gv (01 /r): stencil, operand size 8, memory, flags dead". `handler` is the interpreter's handler that it runs, or
// nullptr for a stencil.
std::string describe_operation(const Block& block, unsigned position, const void* handler);
// "64-bit", with what else of the mode decides about code.
std::string describe_mode(u32 block_mode);
// A function of the program that host code goes to; empty when the address is none of those.
std::string host_function_name(const void* address);

}  // namespace vellum
