// Most of the flags that guest instructions set are wanted only if a later access faults, or at the region's exits.
#include "jit/optimizer/sinking.h"

#include <llvm/ADT/PostOrderIterator.h>
#include <llvm/ADT/SmallPtrSet.h>
#include <llvm/ADT/SmallVector.h>
#include <llvm/IR/CFG.h>
#include <llvm/IR/Instructions.h>
#include <llvm/IR/IntrinsicInst.h>
#include <llvm/IR/ProfDataUtils.h>

#include "state/integers.h"

namespace vellum {

namespace {

constexpr u64 kColdShare = 1000;  // a branch that is taken once in more than this leads to a cold block
constexpr usize kMaxCopies = 8;   // of one computation; more would make code that nobody runs take time to compile

using Blocks = llvm::SmallPtrSet<const llvm::BasicBlock*, 32>;

bool is_unlikely(const llvm::BasicBlock& from, const llvm::BasicBlock& to) {
  const llvm::Instruction* terminator = from.getTerminator();
  llvm::SmallVector<u32, 4> weights;
  if (!llvm::extractBranchWeights(*terminator, weights) || weights.size() != terminator->getNumSuccessors()) return false;
  u64 sum = 0, there = 0;
  for (unsigned s = 0; s < weights.size(); ++s) {
    sum += weights[s];
    if (terminator->getSuccessor(s) == &to) there += weights[s];
  }
  return there * kColdShare < sum;
}

// Blocks that seldom run, and those that end the region: they run once at most.
Blocks find_aside(const llvm::Function& function) {
  Blocks cold, aside;
  for (const llvm::BasicBlock* block : llvm::ReversePostOrderTraversal<const llvm::Function*>(&function)) {
    const bool is_cold = block != &function.getEntryBlock() &&
                         llvm::all_of(llvm::predecessors(block), [&](const llvm::BasicBlock* from) { return cold.contains(from) || is_unlikely(*from, *block); });
    if (is_cold) cold.insert(block);
    if (is_cold || llvm::isa<llvm::ReturnInst>(block->getTerminator())) aside.insert(block);
  }
  return aside;
}

bool can_move(const llvm::Instruction& instruction) {
  if (!instruction.getType()->isIntegerTy()) return false;
  if (llvm::isa<llvm::BinaryOperator>(instruction) || llvm::isa<llvm::ICmpInst>(instruction) || llvm::isa<llvm::SelectInst>(instruction)) return true;
  if (const auto* cast = llvm::dyn_cast<llvm::CastInst>(&instruction)) return cast->getSrcTy()->isIntegerTy();
  const auto* intrinsic = llvm::dyn_cast<llvm::IntrinsicInst>(&instruction);
  if (!intrinsic) return false;
  switch (intrinsic->getIntrinsicID()) {
    case llvm::Intrinsic::ctpop:
    case llvm::Intrinsic::fshl:
    case llvm::Intrinsic::fshr:
    case llvm::Intrinsic::bswap: return true;
    default: return false;
  }
}

// Where a value must be there for this use.
llvm::BasicBlock* block_of(const llvm::Use& use) {
  auto* user = llvm::cast<llvm::Instruction>(use.getUser());
  if (auto* phi = llvm::dyn_cast<llvm::PHINode>(user)) return phi->getIncomingBlock(use);
  return user->getParent();
}

void sink(llvm::Instruction& instruction, const Blocks& aside) {
  llvm::SmallVector<llvm::BasicBlock*, kMaxCopies> blocks;
  for (const llvm::Use& use : instruction.uses()) {
    llvm::BasicBlock* block = block_of(use);
    if (!aside.contains(block)) return;
    if (llvm::is_contained(blocks, block)) continue;
    if (blocks.size() == kMaxCopies) return;
    blocks.push_back(block);
  }
  for (llvm::BasicBlock* block : blocks) {
    llvm::Instruction* copy = instruction.clone();
    copy->insertInto(block, block->getFirstInsertionPt());
    instruction.replaceUsesWithIf(copy, [&](const llvm::Use& use) { return block_of(use) == block && use.getUser() != copy; });
  }
  instruction.eraseFromParent();
}

}  // namespace

void sink_into_cold_blocks(llvm::Function& function) {
  const Blocks aside = find_aside(function);
  // Users come before what they use.
  for (llvm::BasicBlock* block : llvm::post_order(&function)) {
    if (aside.contains(block)) continue;
    for (llvm::Instruction& instruction : llvm::make_early_inc_range(llvm::reverse(*block)))
      if (can_move(instruction)) sink(instruction, aside);
  }
}

}  // namespace vellum
