// Bodies of functions in a form from which copies are made quickly: numbered values, blocks in the order of control.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include <llvm/ADT/ArrayRef.h>
#include <llvm/ADT/DenseMap.h>
#include <llvm/ADT/STLFunctionalExtras.h>
#include <llvm/IR/Instructions.h>

#include "state/integers.h"

namespace vellum {

// One function's body. Arguments have the first numbers, instructions with results the next.
class FunctionBody {
 public:
  explicit FunctionBody(const llvm::Function& function);

  struct Operand {
    llvm::Value* fixed;  // the same in each copy, unless nullptr
    u32 number;
  };
  struct Instruction {
    llvm::Instruction* original;
    u32 first_operand, operand_count;
    u32 number;  // of its result
  };
  struct Phi {
    llvm::PHINode* original;
    u32 number;
    std::vector<Operand> incoming;  // by block number; {nullptr, kNone} where control does not come from
  };
  struct Block {
    std::vector<Phi> phis;
    u32 first, last;              // instructions, the last is the terminator
    std::vector<u32> successors;  // block numbers, in the order of the terminator's operands
    bool loop_head = false;       // control comes to it from a block that stands behind it, too
  };
  static constexpr u32 kNone = ~0u;

  std::span<const Operand> operands(const Instruction& instruction) const {
    return std::span(m_operands).subspan(instruction.first_operand, instruction.operand_count);
  }
  const std::vector<Block>& blocks() const { return m_blocks; }
  const Instruction& instruction(u32 index) const { return m_instructions[index]; }
  u32 values() const { return m_values; }

 private:
  std::vector<Block> m_blocks;  // in reverse post-order
  std::vector<Instruction> m_instructions;
  std::vector<Operand> m_operands;
  u32 m_values = 0;
};

// Where control goes on behind a copy, at the end of a block without terminator; nullptr: nowhere.
struct PlacedBody {
  llvm::BasicBlock* end = nullptr;
  llvm::Value* result = nullptr;  // nullptr: void
};

class BodyPlacer {
 public:
  enum class Treatment : u8 { Keep, Place, Note, Make };
  // What becomes of a call inside a body: it stays, its callee's body takes its place, it stays and is noted, or Make puts something else
  // at the end of the block, of which it returns the value.
  using Treat = llvm::function_ref<Treatment(llvm::Function&)>;
  using Make = llvm::function_ref<llvm::Value*(llvm::Function&, llvm::ArrayRef<llvm::Value*> arguments, llvm::BasicBlock* at)>;

  // Copies `callee`'s body to the end of `at`, a block without terminator, simplified by what is known of the arguments.
  // Variables go to the front of `variables`. False: calls are nested too deep.
  bool place(llvm::Function& callee, llvm::ArrayRef<llvm::Value*> arguments, llvm::BasicBlock* at, llvm::BasicBlock& variables,
             Treat treat, Make make, PlacedBody& placed, unsigned depth = 0);
  // Puts the body in the place of a call. Nothing inside is placed in turn.
  void replace(llvm::CallInst& call, llvm::BasicBlock& variables);

  // Calls that Treat wanted noted, since the last look.
  std::vector<llvm::CallInst*> take_noted() { return std::exchange(m_noted, {}); }

 private:
  const FunctionBody& body_of(const llvm::Function& function);
  llvm::Value* simplified(llvm::Instruction& original, llvm::ArrayRef<llvm::Value*> operands) const;

  llvm::DenseMap<const llvm::Function*, std::unique_ptr<FunctionBody>> m_bodies;
  std::vector<llvm::CallInst*> m_noted;
  // Of loops being copied: they lack the values that come from behind, and nothing may be concluded from the others.
  unsigned m_unfinished_phis = 0;
};

}  // namespace vellum
