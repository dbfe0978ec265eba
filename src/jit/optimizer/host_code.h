// What of compiling regions depends on the host's instruction set: each has a file of its own in a folder of its name.
#pragma once

#include <span>

#include "jit/optimizer/host_symbols.h"
#include "jit/optimizer/region_compiler.h"

#include <llvm/ADT/StringMap.h>
#include <llvm/IR/Instructions.h>
#include <llvm/MC/MCSubtargetInfo.h>

namespace vellum::host_code {

// What the semantics' bitcode uses and the host lacks, by its features as LLVM names them; nullptr: nothing.
const char* lacks(const llvm::StringMap<bool>& features);

// Puts an instruction of the target in the place of a call of one of the program's functions (cpu/cipher.h). False: it has none.
bool use_target_instruction(llvm::CallInst& call, const llvm::MCSubtargetInfo& target);

// Whether the host has an x87 that may stand for the guest's (cpu/semantics/x87_on_host.h).
#if defined(__x86_64__) && !defined(VELLUM_PORTABLE_FLOAT)
inline constexpr bool kHasX87 = true;
#else
inline constexpr bool kHasX87 = false;
#endif
// For LLVM: puts instructions in the place of such calls.
void place_x87(llvm::Function& function);
// What optimized code of this host calls besides region_helpers().
std::span<const HostSymbol> helpers();

// The quick code generator, where kHasQuickGenerator; calls are of `symbols`. False: the region has instructions that only LLVM
// knows, or there is no room.
bool generate_quickly(llvm::Function& function, const llvm::StringMap<const void*>& symbols, CodeMemory& memory, CompiledRegion& result);

}  // namespace vellum::host_code
