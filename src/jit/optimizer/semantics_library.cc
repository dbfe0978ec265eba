// The bitcode of the semantics, loaded function by function as it is needed.
#include "jit/optimizer/semantics_library.h"

#include <llvm/Bitcode/BitcodeReader.h>
#include <llvm/IR/Constants.h>
#include <llvm/IR/IRBuilder.h>
#include <llvm/IR/InlineAsm.h>
#include <llvm/IR/Instructions.h>
#include <llvm/Support/MemoryBuffer.h>

#include "cpu/interpreter/handlers.h"
#include "cpu/opcodes.h"
#include "jit/bitcode/bitcode_table.h"
#include "jit/optimizer/byte_moves.h"
#include "jit/optimizer/host_code.h"
#include "semantics_bitcode.h"

namespace vellum {

namespace {

bool is_string(u16 row) { return interpreter_row(row).flow == Flow::String; }

}  // namespace

std::expected<std::unique_ptr<SemanticsLibrary>, std::string> SemanticsLibrary::load(llvm::LLVMContext& context) {
  const llvm::StringRef bytes(reinterpret_cast<const char*>(kSemanticsBitcode), sizeof kSemanticsBitcode);
  auto module = llvm::getLazyBitcodeModule(llvm::MemoryBufferRef(bytes, "semantics"), context);
  if (!module) return std::unexpected(llvm::toString(module.takeError()));
  std::unique_ptr<SemanticsLibrary> library(new SemanticsLibrary(std::move(*module)));
  if (!library->read_tables()) return std::unexpected("the bitcode of the semantics lacks a table");
  return library;
}

bool SemanticsLibrary::read_tables() {
  const auto read = [&](const char* name, std::vector<llvm::Function*>& functions) {
    const llvm::GlobalVariable* table = m_module->getGlobalVariable(name);
    if (!table || !table->hasInitializer()) return false;
    const llvm::Constant* rows = table->getInitializer();
    const u64 count = llvm::cast<llvm::ArrayType>(rows->getType())->getNumElements() - 1;  // the last one is padding
    for (u64 i = 0; i < count; ++i) {
      const llvm::Constant* variants = rows->getAggregateElement(static_cast<unsigned>(i))->getAggregateElement(0u);
      for (unsigned k = 0; k < kBitcodeVariants; ++k)
        functions.push_back(llvm::dyn_cast<llvm::Function>(variants->getAggregateElement(k)));
    }
    return true;
  };
#define VELLUM_READ_GROUP(group)                                                             \
  if (std::string_view(#group) == "x87") m_first_x87 = m_functions.size() / kBitcodeVariants; \
  if (!read("vellum_semantics_" #group, m_functions)) return false;
  VELLUM_OPCODE_GROUPS(VELLUM_READ_GROUP)
#undef VELLUM_READ_GROUP
  if (host_code::kHasX87 && !read("vellum_semantics_x87_on_host", m_x87_on_host)) return false;
  if (m_functions.size() != opcode_rows().size() * kBitcodeVariants) return false;

  for (const unsigned size : {1u, 2u, 4u, 8u, 16u, 32u}) {
    const auto add = [&](const char* name, OpaqueKind kind) {
      if (llvm::Function* f = m_module->getFunction(name + std::to_string(size))) m_opaque[by_value(f, size, kind)] = {kind, static_cast<u8>(size)};
    };
    add("vellum_load_", OpaqueKind::Load);
    add("vellum_store_", OpaqueKind::Store);
    add("vellum_update_", OpaqueKind::Update);
  }
  if (const llvm::Function* f = m_module->getFunction("vellum_condition")) m_opaque[f] = {OpaqueKind::Condition};
  if (const llvm::Function* f = m_module->getFunction("vellum_flags")) m_opaque[f] = {OpaqueKind::Flags};
  for (usize i = 0; i < byte_moves().size(); ++i)
    if (const llvm::Function* f = m_module->getFunction(byte_moves()[i])) m_opaque[f] = {OpaqueKind::ByteMove, static_cast<u8>(i)};
  if (const llvm::Function* f = m_module->getFunction("vellum_leave_region")) m_opaque[f] = {OpaqueKind::Leave};
  m_condition_body = m_module->getFunction("vellum_condition_body");
  m_flags_body = m_module->getFunction("vellum_flags_body");
  return m_condition_body && m_flags_body && materialize(*m_condition_body) && materialize(*m_flags_body);
}

// Calling conventions without registers for vectors of 32 bytes pass them in memory: a load's result goes where the first
// argument says, and a store is given the address of its value. The function with the vector itself stands for such a one.
llvm::Function* SemanticsLibrary::by_value(llvm::Function* function, unsigned size, OpaqueKind kind) {
  const bool load = kind == OpaqueKind::Load && function->hasStructRetAttr();
  const bool store = kind == OpaqueKind::Store && function->getArg(3)->getType()->isPointerTy();
  if (!load && !store) return function;
  llvm::LLVMContext& context = m_module->getContext();
  llvm::Type* vector = llvm::FixedVectorType::get(llvm::Type::getInt64Ty(context), size / 8);
  std::vector<llvm::Type*> parameters(function->getFunctionType()->param_begin() + (load ? 1 : 0), function->getFunctionType()->param_end());
  if (store) parameters.back() = vector;
  auto* type = llvm::FunctionType::get(load ? vector : llvm::Type::getVoidTy(context), parameters, false);
  return m_by_value[function] = llvm::Function::Create(type, llvm::GlobalValue::ExternalLinkage, function->getName() + "_by_value", *m_module);
}

void SemanticsLibrary::pass_by_value(llvm::CallInst& call, llvm::Function* function) {
  llvm::IRBuilder<> b(&call);
  std::vector<llvm::Value*> arguments(call.arg_begin(), call.arg_end());
  if (function->getReturnType()->isVoidTy()) {
    arguments.back() = b.CreateAlignedLoad(function->getArg(3)->getType(), arguments.back(), call.getParamAlign(3).valueOrOne());
    b.CreateCall(function, arguments);
  } else {
    llvm::Value* result = b.CreateCall(function, llvm::ArrayRef(arguments).drop_front());
    b.CreateAlignedStore(result, arguments.front(), call.getParamAlign(0).valueOrOne());
  }
  call.eraseFromParent();
}

namespace {

// The host's conversions to integers, minimum and maximum: LLVM takes them for pure computations.
bool raises_unseen_flags(const llvm::CallInst& call) {
  const llvm::Function* callee = call.getCalledFunction();
  if (!callee) return false;
  const llvm::StringRef name = callee->getName();
  if (!name.starts_with("llvm.x86.sse.") && !name.starts_with("llvm.x86.sse2.")) return false;
  const llvm::StringRef operation = name.drop_front(name.find('.', sizeof "llvm.x86.") + 1);
  return operation.starts_with("cvt") || operation.starts_with("min") || operation.starts_with("max");
}

// An instruction whose result nobody reads must still raise its flags in MXCSR: an empty statement is given the result,
// and touches as little memory as LLVM's own constrained operations do.
void keep_flags(llvm::CallInst& call) {
  llvm::Type* type = call.getType();
  auto* statement = llvm::FunctionType::get(llvm::Type::getVoidTy(call.getContext()), {type}, false);
  auto* use = llvm::CallInst::Create(llvm::InlineAsm::get(statement, "", type->isVectorTy() ? "x" : "r", true), {&call});
  use->setMemoryEffects(llvm::MemoryEffects::inaccessibleMemOnly());
  use->setDoesNotThrow();
  use->addFnAttr(llvm::Attribute::WillReturn);
  use->insertAfter(&call);
}

}  // namespace

bool SemanticsLibrary::materialize(llvm::Function& function) {
  if (!function.isMaterializable()) return !function.isDeclaration();
  if (llvm::Error error = function.materialize()) {
    llvm::consumeError(std::move(error));
    return false;
  }
  // Regions are compiled for the host, whatever the bitcode was compiled for.
  for (const char* attribute : {"target-cpu", "target-features", "tune-cpu"}) function.removeFnAttr(attribute);
  // Clang lets every assembler statement clobber the x87 status, which costs an FWAIT behind each.
  for (llvm::BasicBlock& block : function)
    for (llvm::Instruction& instruction : llvm::make_early_inc_range(block)) {
      auto* call = llvm::dyn_cast<llvm::CallInst>(&instruction);
      if (llvm::Function* other = call ? m_by_value.lookup(call->getCalledFunction()) : nullptr) {
        pass_by_value(*call, other);
        continue;
      }
      if (call && m_target && host_code::use_target_instruction(*call, *m_target)) continue;
      if (call && raises_unseen_flags(*call)) keep_flags(*call);
      auto* assembly = call ? llvm::dyn_cast<llvm::InlineAsm>(call->getCalledOperand()) : nullptr;
      if (!assembly) continue;
      std::string constraints(assembly->getConstraintString());
      if (const auto at = constraints.find(",~{fpsr}"); at != constraints.npos) constraints.erase(at, 8);
      call->setCalledOperand(llvm::InlineAsm::get(assembly->getFunctionType(), assembly->getAsmString(), constraints, assembly->hasSideEffects(),
                                                  assembly->isAlignStack(), assembly->getDialect(), assembly->canThrow()));
    }
  return true;
}

llvm::Function* SemanticsLibrary::find(u16 row, unsigned handler_index) {
  const int variant = bitcode_variant(handler_index, is_string(row));
  if (variant < 0) return nullptr;
  llvm::Function* function = m_functions[row * kBitcodeVariants + static_cast<unsigned>(variant)];
  return function && materialize(*function) ? function : nullptr;
}

llvm::Function* SemanticsLibrary::find_x87_on_host(u16 row, unsigned handler_index) {
  const int variant = bitcode_variant(handler_index, is_string(row));
  if (variant < 0 || row < m_first_x87) return nullptr;
  const usize index = (row - m_first_x87) * kBitcodeVariants + static_cast<unsigned>(variant);
  llvm::Function* function = index < m_x87_on_host.size() ? m_x87_on_host[index] : nullptr;
  return function && materialize(*function) ? function : nullptr;
}

Opaque SemanticsLibrary::opaque(const llvm::Function& function) const {
  const auto found = m_opaque.find(&function);
  return found == m_opaque.end() ? Opaque{} : found->second;
}

void SemanticsLibrary::exclude(u16 row, unsigned handler_index) {
  const unsigned variant = static_cast<unsigned>(bitcode_variant(handler_index, is_string(row)));
  m_functions[row * kBitcodeVariants + variant] = nullptr;
  if (row < m_first_x87) return;
  if (const usize index = (row - m_first_x87) * kBitcodeVariants + variant; index < m_x87_on_host.size()) m_x87_on_host[index] = nullptr;
}

}  // namespace vellum
