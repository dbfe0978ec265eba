// Compiling regions for x86-64 hosts: what they must have, and the quick code generator from region to code memory.
#include "jit/optimizer/host_code.h"

#include <cstring>

#include <llvm/IR/IRBuilder.h>
#include <llvm/IR/IntrinsicsX86.h>
#include <llvm/IR/Module.h>

#include "jit/optimizer/call_stub.h"
#include "jit/optimizer/x86_64/emission.h"
#include "jit/optimizer/x86_64/selection.h"

namespace vellum::host_code {

// bitcode/meson.build.
const char* lacks(const llvm::StringMap<bool>& features) { return features.lookup("avx2") ? nullptr : "AVX2"; }

namespace {

// A function of cpu/cipher.h with vectors as arguments and result, and the instruction that does the same.
struct TargetInstruction {
  llvm::StringRef function;
  llvm::Intrinsic::ID intrinsic;
  llvm::StringRef feature;  // as LLVM names it
};
constexpr TargetInstruction kTargetInstructions[] = {
    {"aes_encrypt_round", llvm::Intrinsic::x86_aesni_aesenc, "aes"},
    {"aes_encrypt_last_round", llvm::Intrinsic::x86_aesni_aesenclast, "aes"},
    {"aes_decrypt_round", llvm::Intrinsic::x86_aesni_aesdec, "aes"},
    {"aes_decrypt_last_round", llvm::Intrinsic::x86_aesni_aesdeclast, "aes"},
    {"aes_inverse_mix_columns", llvm::Intrinsic::x86_aesni_aesimc, "aes"},
    {"carryless_multiply", llvm::Intrinsic::x86_pclmulqdq, "pclmul"},
    {"sha1_next_e", llvm::Intrinsic::x86_sha1nexte, "sha"},
    {"sha1_message_1", llvm::Intrinsic::x86_sha1msg1, "sha"},
    {"sha1_message_2", llvm::Intrinsic::x86_sha1msg2, "sha"},
    {"sha256_two_rounds", llvm::Intrinsic::x86_sha256rnds2, "sha"},
    {"sha256_message_1", llvm::Intrinsic::x86_sha256msg1, "sha"},
    {"sha256_message_2", llvm::Intrinsic::x86_sha256msg2, "sha"},
};

}  // namespace

bool use_target_instruction(llvm::CallInst& call, const llvm::MCSubtargetInfo& target) {
  const llvm::Function* callee = call.getCalledFunction();
  if (!callee || callee->isIntrinsic()) return false;
  // The number of letters stands before the name (Itanium C++ ABI 5.1.2).
  const auto names = [&](const TargetInstruction& one) {
    return callee->getName().starts_with(("_ZN6vellum" + llvm::Twine(one.function.size()) + one.function + "E").str());
  };
  const auto found = llvm::find_if(kTargetInstructions, names);
  if (found == std::end(kTargetInstructions)) return false;
  if (!target.checkFeatures(("+" + found->feature).str())) return false;
  llvm::Function* instruction = llvm::Intrinsic::getDeclaration(call.getModule(), found->intrinsic);
  llvm::IRBuilder<> b(&call);
  std::vector<llvm::Value*> arguments;
  for (unsigned i = 0; i < instruction->arg_size(); ++i) {
    llvm::Type* type = instruction->getArg(i)->getType();
    if (!type->isVectorTy()) {
      arguments.push_back(llvm::ConstantInt::get(type, 0));  // PCLMULQDQ: the low halves
      continue;
    }
    llvm::Value* argument = call.getArgOperand(i);
    if (!argument->getType()->isVectorTy()) argument = b.CreateInsertElement(llvm::Constant::getNullValue(type), argument, u64{0});
    arguments.push_back(b.CreateBitCast(argument, type));
  }
  call.replaceAllUsesWith(b.CreateBitCast(b.CreateCall(instruction, arguments), call.getType()));
  call.eraseFromParent();
  return true;
}

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
