// Compiling regions for AArch64 hosts: LLVM generates the code of all of them.
#include "jit/optimizer/host_code.h"

#include <cstring>

#include "jit/optimizer/call_stub.h"

namespace vellum::host_code {

const char* lacks(const llvm::StringMap<bool>&) { return nullptr; }

bool use_target_instruction(llvm::CallInst&, const llvm::MCSubtargetInfo&) { return false; }

void place_x87(llvm::Function&) {}
std::span<const HostSymbol> helpers() { return {}; }

bool generate_quickly(llvm::Function&, const llvm::StringMap<const void*>&, CodeMemory&, CompiledRegion&) { return false; }

// movz x16, #a, lsl #48; movk x16, #b, lsl #32; movk x16, #c, lsl #16; movk x16, #d; br x16
const void* behind_stub(u64 address) {
  u32 code[5];
  std::memcpy(code, reinterpret_cast<const void*>(address), sizeof(code));
  constexpr u32 kImmediate = 0xffff << 5, kMoves[] = {0xd2e00010, 0xf2c00010, 0xf2a00010, 0xf2800010}, kBranch = 0xd61f0200;
  if (code[4] != kBranch) return nullptr;
  u64 target = 0;
  for (unsigned i = 0; i < 4; ++i) {
    if ((code[i] & ~kImmediate) != kMoves[i]) return nullptr;
    target = target << 16 | (code[i] & kImmediate) >> 5;
  }
  return reinterpret_cast<const void*>(target);
}

}  // namespace vellum::host_code
