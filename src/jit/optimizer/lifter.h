// From a region's instructions to one LLVM function: the bitcode of their semantics inlined, and the parts of CpuState that
// they use as values instead of memory.
#pragma once

#include <expected>
#include <optional>
#include <string>
#include <vector>

#include <llvm/ADT/DenseMap.h>
#include <llvm/IR/IRBuilder.h>
#include <llvm/IR/Instructions.h>

#include "jit/optimizer/region.h"
#include "jit/optimizer/semantics_library.h"

namespace vellum {

// A part of CpuState that lives in a value: a register, or a field that does not change while the region runs.
struct Slot {
  u32 offset = 0;  // in CpuState, bytes
  u32 size = 0;
  bool read_only = false;
  llvm::Type* type = nullptr;
  llvm::AllocaInst* variable = nullptr;  // until values replace it
};

// Calls of opaque accesses carry the state that a helper must find in memory: an operand bundle of this name, with the
// index into LiftedRegion::spills and the values.
inline constexpr const char* kStateBundle = "vellum-state";

struct LiftedRegion {
  llvm::Function* function = nullptr;  // in the library's module
  std::vector<Slot> slots;
  std::vector<std::vector<u16>> spills;  // per access: the slots whose memory may be out of date
  bool loops = false;                    // control may come back to a block without leaving the region
  bool wide_vectors = false;             // some vector slot is wider than 16 bytes
  bool x87_on_host = false;              // between region_x87_enter() and region_x87_leave() the host's x87 is the guest's
};

// Conditions and flags whose operation is known become plain compares.
enum class Unknown : u8 { Keep, Call };  // what becomes of the others
void fold_conditions(llvm::Function& function, SemanticsLibrary& library, Unknown unknown);

class Lifter {
 public:
  Lifter(SemanticsLibrary& library, const Region& region);
  // Fails when an instruction turns out not to be liftable, which the library remembers: try again.
  std::expected<LiftedRegion, std::string> lift();

 private:
  struct InlinedInsn {
    llvm::AllocaInst* shadow;  // stands for CpuState in the inlined code until its accesses are rewritten
    const BoundInsn* original;
    u16 row;
    u8 variant;
    bool placed;                // its body is where it belongs
  };
  struct Access {
    llvm::Instruction* instruction;  // load or store
    u32 offset;
    u32 size;
    const InlinedInsn* insn;
  };
  enum class Event : u8 { Write, Spill, Synchronize, Opaque };

  llvm::Value* state_field(llvm::IRBuilderBase& b, u64 offset);
  llvm::Constant* number(u64 value);
  llvm::Value* rip_of(llvm::IRBuilderBase& b, u64 offset, unsigned code_size_bytes);
  void find_returns();
  template <class Function>
  void for_successors(usize block, Function function) const;
  void find_loop_heads();
  void find_x87_stacks();
  void choose_x87(unsigned count);
  void call_x87_helper(llvm::IRBuilderBase& b, const char* name);
  u64 longest_path(int block);
  void emit_entry();
  void emit_block(int index);
  void emit_insns(int index, llvm::IRBuilder<>& b);
  llvm::Value* charge(llvm::IRBuilder<>& b, int index);
  llvm::Value* may_run(llvm::IRBuilder<>& b, llvm::Value* budget, u64 count);
  void go_to(llvm::IRBuilder<>& b, int block);
  void leave(llvm::IRBuilder<>& b, llvm::Value* rip);
  u64 distance_of(const RegionBlock& block) const;
  void return_to_run_loop(llvm::IRBuilder<>& b, int index);
  void tail_call(llvm::IRBuilder<>& b, llvm::Value* callee, const BoundInsn* insn);
  llvm::Value* place_semantics(llvm::IRBuilder<>& b, llvm::Function& function, const RegionBlock& block, unsigned position, u64 x87_stack);
  bool collect_accesses(const InlinedInsn& insn);
  struct SlotShape;
  std::optional<SlotShape> shape_at(u32 offset) const;
  std::optional<SlotShape> x87_shape_at(u32 offset) const;
  int slot_at(u32 offset, u32 size) const;
  void leave_for_handlers();
  void make_slots();
  bool rewrite(const Access& access);
  llvm::Value* read_part(llvm::IRBuilderBase& b, const Slot& slot, u32 inner, llvm::Type* type);
  llvm::Value* replace_part(llvm::IRBuilderBase& b, const Slot& slot, llvm::Value* old, u32 inner, llvm::Value* value);
  void track_state();
  void store_slots(llvm::Instruction* before, const std::vector<u16>& slots);
  void reload_slots(llvm::Instruction* behind);
  void bracket_x87(llvm::CallInst* call, bool leaves);

  SemanticsLibrary& m_library;
  const Region& m_region;
  llvm::LLVMContext& m_context;
  llvm::Type *m_i8, *m_i32, *m_i64, *m_pointer;
  llvm::Function* m_function = nullptr;
  llvm::Value* m_state = nullptr;         // CpuState in memory
  llvm::AllocaInst* m_budget = nullptr;
  llvm::AllocaInst* m_code_base = nullptr;
  llvm::Function* m_spill_marker = nullptr;  // called where the state goes to memory
  llvm::Function* m_exit_marker = nullptr;   // the same, but the running block does not matter any more
  llvm::Value* m_entry_base = nullptr;
  llvm::BasicBlock* m_entry = nullptr;
  llvm::BasicBlock* m_entry_end = nullptr;  // where the checks in front of the region are made
  std::vector<llvm::BasicBlock*> m_heads, m_bodies;  // of region blocks: with and without the check
  std::vector<bool> m_checked;                        // loop heads and the entry
  std::vector<u64> m_path;                            // longest way to the next check, in instructions; 0: not known yet
  std::vector<std::vector<int>> m_indirect;           // by region block: where its indirect transfer may go
  bool m_uses_x87 = false;
  // By region block: the register stack when it is entered, as the bitcode's x87_stack(). Unless it is known everywhere the x87
  // registers stay in memory.
  std::vector<u64> m_x87_stack;
  bool m_x87_stack_known = false;
  struct Leave {
    llvm::CallInst* call;
    Handler handler;
    const BoundInsn* original;
  };
  std::vector<Leave> m_leaves;  // where an instruction gives up
  std::vector<InlinedInsn> m_inlined;
  std::vector<Access> m_accesses;
  std::vector<llvm::CallInst*> m_synchronizing;  // calls that get CpuState: they may read and write all of it
  std::vector<llvm::CallInst*> m_observing;      // calls that only read it, or leave for good
  LiftedRegion m_result;
  llvm::DenseMap<const llvm::Value*, u16> m_slot_of;
  std::string m_error;
};

}  // namespace vellum
