// Compiling regions for x86-64 hosts: what they must have, and the quick code generator from region to code memory.
#include "jit/optimizer/host_code.h"

#include <cstring>

#include "jit/optimizer/call_stub.h"
#include "jit/optimizer/x86_64/emission.h"
#include "jit/optimizer/x86_64/selection.h"

namespace vellum::host_code {

// bitcode/meson.build.
const char* lacks(const llvm::StringMap<bool>& features) { return features.lookup("avx2") ? nullptr : "AVX2"; }

bool generate_quickly(llvm::Function& function, const llvm::StringMap<const void*>& symbols, CodeMemory& memory, CompiledRegion& result) {
  auto code = x86_64::select_instructions(function, symbols);
  if (!code) return false;
  const x86_64::Allocation allocation = x86_64::allocate(*code);
  x86_64::Assembler assembler;
  x86_64::emit_code(*code, allocation, symbols.lookup("region_exit"), assembler);
  const usize size = assembler.bytes().size();
  const CodeMemory::Place place = memory.allocate(size, 16);
  if (!place.writable || !assembler.finish(place.executable)) return false;
  std::memcpy(place.writable, assembler.bytes().data(), size);
  memory.publish(place, size);
  result.entry = reinterpret_cast<Handler>(reinterpret_cast<u64>(place.executable));
  result.code = place.executable;
  result.code_size = size;
  return true;
}

// jmp *distance(%rip)
const void* behind_stub(u64 address) {
  const auto* code = reinterpret_cast<const u8*>(address);
  if (code[0] != 0xff || code[1] != 0x25) return nullptr;
  i32 distance;
  std::memcpy(&distance, code + 2, sizeof(distance));
  const void* target;
  std::memcpy(&target, code + 6 + distance, sizeof(target));
  return target;
}

}  // namespace vellum::host_code
