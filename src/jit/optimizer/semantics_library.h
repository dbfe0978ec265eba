// The bitcode of the semantics, loaded function by function as it is needed.
#pragma once

#include <expected>
#include <memory>
#include <string>
#include <vector>

#include <llvm/ADT/DenseMap.h>
#include <llvm/IR/Module.h>
#include <llvm/MC/MCSubtargetInfo.h>

#include "jit/optimizer/function_body.h"

namespace vellum {

enum class OpaqueKind : u8 { None, Load, Store, Update, Condition, Flags, Leave, ByteMove };
struct Opaque {
  OpaqueKind kind = OpaqueKind::None;
  u8 size = 0;  // bytes of an access; of a ByteMove, which one it is
};

class SemanticsLibrary {
 public:
  // One per LLVMContext. Fails only if the program was built wrongly.
  static std::expected<std::unique_ptr<SemanticsLibrary>, std::string> load(llvm::LLVMContext& context);

  // Whose instructions may stand for functions. Before any function is found.
  void set_target(const llvm::MCSubtargetInfo& target) { m_target = &target; }
  llvm::Module& module() { return *m_module; }
  // The function of a row's variant (handler_index()), with its body; nullptr if there is none to inline.
  llvm::Function* find(u16 row, unsigned handler_index);
  // Likewise with the host's x87 in the place of ours (cpu/semantics/x87_on_host.h); nullptr for rows that are no x87 instruction.
  llvm::Function* find_x87_on_host(u16 row, unsigned handler_index);
  // Gives a function of the bitcode its body.
  bool materialize(llvm::Function& function);
  // What a call of this function stands for.
  Opaque opaque(const llvm::Function& function) const;
  llvm::Function* condition_body() { return m_condition_body; }
  llvm::Function* flags_body() { return m_flags_body; }
  BodyPlacer& placer() { return m_placer; }
  // Functions that turned out not to be liftable are not found again.
  void exclude(u16 row, unsigned handler_index);

 private:
  explicit SemanticsLibrary(std::unique_ptr<llvm::Module> module) : m_module(std::move(module)) {}
  bool read_tables();
  llvm::Function* by_value(llvm::Function* function, unsigned size, OpaqueKind kind);
  void pass_by_value(llvm::CallInst& call, llvm::Function* function);

  std::unique_ptr<llvm::Module> m_module;
  std::vector<llvm::Function*> m_functions;  // row * kBitcodeVariants + variant
  std::vector<llvm::Function*> m_x87_on_host;  // likewise, from m_first_x87 on
  usize m_first_x87 = 0;
  llvm::DenseMap<const llvm::Function*, Opaque> m_opaque;
  llvm::DenseMap<const llvm::Function*, llvm::Function*> m_by_value;  // accesses whose vector is passed in memory
  llvm::Function* m_condition_body = nullptr;
  llvm::Function* m_flags_body = nullptr;
  BodyPlacer m_placer;
  const llvm::MCSubtargetInfo* m_target = nullptr;
};

}  // namespace vellum
