// The guest's x87 on the host's: bringing the register stack there and back, and the instructions for LLVM's code.
#include <fmt/format.h>

#include <llvm/IR/IRBuilder.h>
#include <llvm/IR/InlineAsm.h>
#include <llvm/IR/Module.h>

#include "cpu/state.h"
#include "cpu/x87_arithmetic.h"
#include "jit/optimizer/host_code.h"

namespace vellum {

namespace {

// What FNSAVE writes and FRSTOR reads outside of real mode with operands of 32 bits, SDM Vol. 1 8.1.10, figure 8-9.
struct [[gnu::packed]] Image {
  u32 control = 0, status = 0, tags = 0;  // 16 bits each
  u32 last_instruction = 0, last_code_selector = 0, last_data = 0, last_data_selector = 0;
  struct [[gnu::packed]] {
    u64 significand = 0;
    u16 sign_exponent = 0;
  } stack[8];  // the first is at the top
};
static_assert(sizeof(Image) == 108);

constexpr u32 kEmpty = 3;  // a register's two bits among the tags

unsigned top_of(u32 status) { return status >> 11 & 7; }

}  // namespace

// All exceptions are masked, and nothing of the C++ program's is on the host's register stack: the ABI leaves it empty over calls.
extern "C" void region_x87_enter(CpuState* s) {
  const X87State& x = s->x87;
  Image image;
  image.control = x.control;
  image.status = x.status;
  for (unsigned i = 0; i < 8; ++i) {
    const X87Register& from = x.registers[(top_of(x.status) + i) & 7];
    image.stack[i] = {from.significand, from.sign_exponent};
    if (!(x.valid >> i & 1)) image.tags |= kEmpty << 2 * i;  // the processor itself tells the other kinds apart
  }
  asm volatile("frstor %0" : : "m"(image));
}

// FNSAVE leaves the x87 as the ABI wants it.
extern "C" void region_x87_leave(CpuState* s) {
  Image image;
  asm volatile("fnsave %0" : "=m"(image));
  X87State& x = s->x87;
  x.control = static_cast<u16>((image.control & x87::kControlWritable) | x87::kControlAlwaysSet);
  x.status = static_cast<u16>(image.status);
  u8 valid = 0;
  for (unsigned i = 0; i < 8; ++i) {
    X87Register& to = x.registers[(top_of(image.status) + i) & 7];
    to.significand = image.stack[i].significand;
    to.sign_exponent = image.stack[i].sign_exponent;
    if ((image.tags >> 2 * i & 3) != kEmpty) valid |= static_cast<u8>(1u << i);
  }
  x.valid = valid;
}

namespace host_code {

std::span<const HostSymbol> helpers() {
  static const HostSymbol kHelpers[] = {
      {"region_x87_enter", reinterpret_cast<const void*>(&region_x87_enter)},
      {"region_x87_leave", reinterpret_cast<const void*>(&region_x87_leave)},
  };
  return kHelpers;
}

// Addresses are in RAX. LLVM itself uses no x87, so that it need not know what these change.
void place_x87(llvm::Function& function) {
  std::vector<llvm::CallInst*> calls;
  for (llvm::BasicBlock& block : function)
    for (llvm::Instruction& instruction : block)
      if (auto* call = llvm::dyn_cast<llvm::CallInst>(&instruction); call && call->getCalledFunction() && call->getCalledFunction()->getName().starts_with("vellum_x87"))
        calls.push_back(call);
  if (calls.empty()) return;
  llvm::IRBuilder<> b(&*function.getEntryBlock().getFirstInsertionPt());
  auto* buffer = b.CreateAlloca(b.getInt64Ty(), b.getInt32(2));
  for (llvm::CallInst* call : calls) {
    b.SetInsertPoint(call);
    const llvm::StringRef name = call->getCalledFunction()->getName();
    const u64 code = llvm::cast<llvm::ConstantInt>(call->getArgOperand(0))->getZExtValue();
    const std::string in_registers = fmt::format(".byte {:#x}, {:#x}", code >> 8, code & 0xff), at_rax = fmt::format(".byte {:#x}, {:#x}", code >> 8, code & 0x38);
    const auto statement = [&](const std::string& text, llvm::Type* result, const char* constraints, std::vector<llvm::Value*> arguments) -> llvm::Value* {
      std::vector<llvm::Type*> types;
      for (const llvm::Value* argument : arguments) types.push_back(argument->getType());
      auto* made = b.CreateCall(llvm::InlineAsm::get(llvm::FunctionType::get(result, types, false), text, constraints, true), arguments);
      made->setDoesNotThrow();
      return made;
    };
    llvm::Type* none = b.getVoidTy();
    if (name == "vellum_x87") {
      statement(in_registers, none, "", {});
    } else if (name.starts_with("vellum_x87_load_")) {
      b.CreateAlignedStore(call->getArgOperand(1), buffer, llvm::Align(8));
      if (call->arg_size() == 3) b.CreateAlignedStore(call->getArgOperand(2), b.CreateConstInBoundsGEP1_64(b.getInt64Ty(), buffer, 1), llvm::Align(8));
      statement(at_rax, none, "{ax},~{memory}", {buffer});
    } else if (name == "vellum_x87_store") {
      statement(at_rax, none, "{ax},~{memory}", {call->getArgOperand(1)});
    } else if (name == "vellum_x87_word") {
      llvm::Value* word;
      if (code == 0xdfe0) {
        word = statement(in_registers, b.getInt16Ty(), "={ax}", {});
      } else {
        statement(at_rax, none, "{ax},~{memory}", {buffer});
        word = b.CreateAlignedLoad(b.getInt16Ty(), buffer, llvm::Align(8));
      }
      call->replaceAllUsesWith(word);
    } else if (name == "vellum_x87_compare") {
      constexpr u32 kComparedFlags = 0x45;  // CF, PF, ZF
      auto* flags = statement(in_registers + ", 0x9f", b.getInt32Ty(), "={ax},~{flags}", {});  // LAHF
      call->replaceAllUsesWith(b.CreateAnd(b.CreateLShr(flags, 8), b.getInt32(kComparedFlags)));
    } else {
      statement(".byte 0x85, 0xc0\n" + in_registers, none, "{ax},~{flags}", {call->getArgOperand(1)});  // TEST EAX, EAX
    }
    call->eraseFromParent();
  }
}

}  // namespace host_code

}  // namespace vellum
