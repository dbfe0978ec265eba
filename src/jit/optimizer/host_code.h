// What of compiling regions depends on the host's instruction set: each has a file of its own in a folder of its name.
#pragma once

#include "jit/optimizer/region_compiler.h"

#include <llvm/ADT/StringMap.h>
#include <llvm/IR/Function.h>

namespace vellum::host_code {

// What the semantics' bitcode uses and the host lacks, by its features as LLVM names them; nullptr: nothing.
const char* lacks(const llvm::StringMap<bool>& features);

// The quick code generator, where kHasQuickGenerator; calls are of `symbols`. False: the region has instructions that only LLVM
// knows, or there is no room.
bool generate_quickly(llvm::Function& function, const llvm::StringMap<const void*>& symbols, CodeMemory& memory, CompiledRegion& result);

}  // namespace vellum::host_code
