// From a region in LLVM's language to x86-64 instructions on values.
#pragma once

#include <expected>
#include <string>

#include <llvm/ADT/StringMap.h>
#include <llvm/IR/Function.h>

#include "jit/optimizer/x86_64/machine_code.h"

namespace vellum::x86_64 {

// Fails, with what it is, when the function has something for which there is no instruction here. Functions that it calls are found
// by name.
std::expected<MachineCode, std::string> select_instructions(llvm::Function& function, const llvm::StringMap<const void*>& functions);

}  // namespace vellum::x86_64
