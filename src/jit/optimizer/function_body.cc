// Copies bodies of functions, and simplifies them on the way: an instruction whose operands have become constants folds, and
// what only lay behind a branch not taken is never made.
#include "jit/optimizer/function_body.h"

#include <algorithm>

#include <llvm/ADT/PostOrderIterator.h>
#include <llvm/Analysis/ConstantFolding.h>
#include <llvm/Analysis/InstructionSimplify.h>
#include <llvm/IR/CFG.h>
#include <llvm/IR/IntrinsicInst.h>
#include <llvm/IR/Module.h>

namespace vellum {

namespace {

constexpr unsigned kMaxDepth = 64;

bool is_only_a_hint(const llvm::Instruction& instruction) {
  return instruction.isLifetimeStartOrEnd() || llvm::isa<llvm::DbgInfoIntrinsic>(instruction) || llvm::isa<llvm::AssumeInst>(instruction);
}

}  // namespace

FunctionBody::FunctionBody(const llvm::Function& function) {
  llvm::DenseMap<const llvm::Value*, u32> number_of;
  llvm::DenseMap<const llvm::BasicBlock*, u32> block_of;
  for (const llvm::Argument& argument : function.args()) number_of[&argument] = m_values++;
  const llvm::ReversePostOrderTraversal<const llvm::Function*> order(&function);
  for (const llvm::BasicBlock* block : order) {
    const u32 number = static_cast<u32>(block_of.size());
    block_of[block] = number;
    for (const llvm::Instruction& instruction : *block)
      if (!instruction.getType()->isVoidTy()) number_of[&instruction] = m_values++;
  }
  const auto operand_of = [&](llvm::Value* value) {
    const auto found = number_of.find(value);
    return found == number_of.end() ? Operand{value, kNone} : Operand{nullptr, found->second};
  };
  for (const llvm::BasicBlock* const_block : order) {
    auto* block = const_cast<llvm::BasicBlock*>(const_block);
    const u32 number = static_cast<u32>(m_blocks.size());
    Block& copy = m_blocks.emplace_back();
    for (llvm::PHINode& phi : block->phis()) {
      Phi& made = copy.phis.emplace_back(&phi, number_of.at(&phi), std::vector<Operand>(block_of.size(), Operand{nullptr, kNone}));
      for (unsigned i = 0; i < phi.getNumIncomingValues(); ++i)
        if (const auto from = block_of.find(phi.getIncomingBlock(i)); from != block_of.end()) made.incoming[from->second] = operand_of(phi.getIncomingValue(i));
    }
    for (const llvm::BasicBlock* from : llvm::predecessors(block))
      if (const auto found = block_of.find(from); found != block_of.end() && found->second >= number) copy.loop_head = true;
    copy.first = static_cast<u32>(m_instructions.size());
    for (llvm::Instruction& instruction : *block) {
      if (llvm::isa<llvm::PHINode>(instruction) || is_only_a_hint(instruction)) continue;
      Instruction& made = m_instructions.emplace_back(&instruction, static_cast<u32>(m_operands.size()), instruction.getNumOperands(), kNone);
      if (const auto found = number_of.find(&instruction); found != number_of.end()) made.number = found->second;
      for (llvm::Value* operand : instruction.operand_values()) m_operands.push_back(operand_of(operand));
    }
    copy.last = static_cast<u32>(m_instructions.size()) - 1;
    for (const llvm::BasicBlock* to : llvm::successors(block)) copy.successors.push_back(block_of.at(to));
  }
}

const FunctionBody& BodyPlacer::body_of(const llvm::Function& function) {
  std::unique_ptr<FunctionBody>& body = m_bodies[&function];
  if (!body) body = std::make_unique<FunctionBody>(function);
  return *body;
}

// What an instruction with these operands is equal to; nullptr: only itself.
llvm::Value* BodyPlacer::simplified(llvm::Instruction& original, llvm::ArrayRef<llvm::Value*> operands) const {
  const llvm::DataLayout& layout = original.getModule()->getDataLayout();
  if (!m_unfinished_phis) return llvm::simplifyInstructionWithOperands(&original, operands, llvm::SimplifyQuery(layout));
  llvm::SmallVector<llvm::Constant*, 8> constants;
  for (llvm::Value* operand : operands) {
    auto* constant = llvm::dyn_cast<llvm::Constant>(operand);
    if (!constant) return nullptr;
    constants.push_back(constant);
  }
  return llvm::ConstantFoldInstOperands(&original, constants, layout);
}

bool BodyPlacer::place(llvm::Function& callee, llvm::ArrayRef<llvm::Value*> arguments, llvm::BasicBlock* at, llvm::BasicBlock& variables,
                       Treat treat, Make make, PlacedBody& placed, unsigned depth) {
  placed = {};
  if (depth > kMaxDepth) return false;
  const FunctionBody& body = body_of(callee);
  llvm::Function* function = at->getParent();
  llvm::LLVMContext& context = function->getContext();

  // Ways into a block: open ones come from the end of a block that has no terminator yet.
  struct Edge {
    llvm::BasicBlock* from;
    u32 number;  // of the original it comes from
    bool open;
  };
  struct State {
    llvm::SmallVector<Edge, 2> edges;
    llvm::BasicBlock* made = nullptr;
    llvm::SmallVector<llvm::PHINode*, 2> phis;  // of a loop head that has been copied
    bool copied = false;
  };
  std::vector<State> states(body.blocks().size());
  std::vector<llvm::Value*> values(body.values());
  std::ranges::copy(arguments, values.begin());
  const auto value_of = [&](const FunctionBody::Operand& operand) { return operand.fixed ? operand.fixed : values[operand.number]; };
  const auto made = [&](u32 number) {
    llvm::BasicBlock*& block = states[number].made;
    if (!block) block = llvm::BasicBlock::Create(context, "", function);
    return block;
  };
  const auto add_edge = [&](u32 to, Edge edge) {
    State& state = states[to];
    if (!state.copied) {
      state.edges.push_back(edge);
      return;
    }
    // Back to a loop head.
    for (usize i = 0; i < state.phis.size(); ++i) state.phis[i]->addIncoming(value_of(body.blocks()[to].phis[i].incoming[edge.number]), edge.from);
    if (edge.open) llvm::BranchInst::Create(state.made, edge.from);
  };
  struct Return {
    llvm::BasicBlock* from;
    llvm::Value* value;
  };
  llvm::SmallVector<Return, 4> returns;
  llvm::SmallVector<llvm::Value*, 24> operands;

  unsigned unfinished_phis = 0;
  states[0].edges.push_back({at, FunctionBody::kNone, true});
  for (u32 number = 0; number < body.blocks().size(); ++number) {
    const FunctionBody::Block& original = body.blocks()[number];
    State& state = states[number];
    if (state.edges.empty()) continue;
    llvm::BasicBlock* block;
    if (state.edges.size() == 1 && state.edges[0].open && !original.loop_head) {
      block = state.edges[0].from;
    } else {
      block = made(number);
      for (const Edge& edge : state.edges)
        if (edge.open) llvm::BranchInst::Create(block, edge.from);
    }
    for (const FunctionBody::Phi& phi : original.phis) {
      const auto from = [&](const Edge& edge) { return value_of(phi.incoming[edge.number]); };
      llvm::Value* only = from(state.edges[0]);
      if (!original.loop_head && std::ranges::all_of(state.edges, [&](const Edge& edge) { return from(edge) == only; })) {
        values[phi.number] = only;
        continue;
      }
      auto* copy = llvm::PHINode::Create(phi.original->getType(), static_cast<unsigned>(state.edges.size()), "", block);
      for (const Edge& edge : state.edges) copy->addIncoming(from(edge), edge.from);
      if (original.loop_head) {
        state.phis.push_back(copy);
        ++m_unfinished_phis;
        ++unfinished_phis;
      }
      values[phi.number] = copy;
    }
    state.copied = true;

    bool goes_on = true;
    for (u32 index = original.first; index < original.last && goes_on; ++index) {
      const FunctionBody::Instruction& instruction = body.instruction(index);
      operands.clear();
      bool worth_simplifying = false;
      for (const FunctionBody::Operand& operand : body.operands(instruction)) {
        llvm::Value* value = value_of(operand);
        worth_simplifying |= !operand.fixed && (llvm::isa<llvm::Constant>(value) || (!operands.empty() && operands[0] == value));
        operands.push_back(value);
      }
      if (auto* call = llvm::dyn_cast<llvm::CallInst>(instruction.original); call && call->getCalledFunction()) {
        llvm::Function& inner = *call->getCalledFunction();
        const Treatment treatment = inner.isIntrinsic() ? Treatment::Keep : treat(inner);
        if (treatment == Treatment::Place) {
          PlacedBody result;
          const std::vector<llvm::Value*> inner_arguments(operands.begin(), operands.begin() + call->arg_size());
          if (!place(inner, inner_arguments, block, variables, treat, make, result, depth + 1)) {
            m_unfinished_phis -= unfinished_phis;
            return false;
          }
          if (instruction.number != FunctionBody::kNone) values[instruction.number] = result.result;
          goes_on = result.end != nullptr;
          block = result.end;
          continue;
        }
        if (treatment == Treatment::Make) {
          values[instruction.number] = make(inner, llvm::ArrayRef(operands).take_front(call->arg_size()), block);
          continue;
        }
        if (treatment == Treatment::Note) {
          auto* copy = llvm::cast<llvm::CallInst>(call->clone());
          for (unsigned i = 0; i < operands.size(); ++i) copy->setOperand(i, operands[i]);
          copy->insertInto(block, block->end());
          m_noted.push_back(copy);
          if (instruction.number != FunctionBody::kNone) values[instruction.number] = copy;
          continue;
        }
      }
      if (worth_simplifying)
        if (llvm::Value* simple = simplified(*instruction.original, operands)) {
          if (instruction.number != FunctionBody::kNone) values[instruction.number] = simple;
          continue;
        }
      llvm::Instruction* copy = instruction.original->clone();
      for (unsigned i = 0; i < operands.size(); ++i)
        if (copy->getOperand(i) != operands[i]) copy->setOperand(i, operands[i]);
      if (llvm::isa<llvm::AllocaInst>(copy)) copy->insertInto(&variables, variables.begin());
      else copy->insertInto(block, block->end());
      if (instruction.number != FunctionBody::kNone) values[instruction.number] = copy;
    }
    if (!goes_on) continue;

    const FunctionBody::Instruction& last = body.instruction(original.last);
    const std::span<const FunctionBody::Operand> last_operands = body.operands(last);
    if (llvm::isa<llvm::ReturnInst>(last.original)) {
      returns.push_back({block, last_operands.empty() ? nullptr : value_of(last_operands[0])});
    } else if (original.successors.size() == 1) {
      add_edge(original.successors[0], {block, number, true});
    } else if (auto* branch = llvm::dyn_cast<llvm::BranchInst>(last.original)) {
      llvm::Value* condition = value_of(last_operands[0]);
      if (const auto* known = llvm::dyn_cast<llvm::ConstantInt>(condition)) {
        add_edge(original.successors[known->isZero() ? 1 : 0], {block, number, true});
      } else {
        auto* copy = llvm::BranchInst::Create(made(original.successors[0]), made(original.successors[1]), condition, block);
        copy->copyMetadata(*branch, {llvm::LLVMContext::MD_prof});
        for (const u32 to : original.successors) add_edge(to, {block, number, false});
      }
    } else if (auto* choice = llvm::dyn_cast<llvm::SwitchInst>(last.original)) {
      llvm::Value* condition = value_of(last_operands[0]);
      if (auto* known = llvm::dyn_cast<llvm::ConstantInt>(condition)) {
        add_edge(original.successors[choice->findCaseValue(known)->getSuccessorIndex()], {block, number, true});
      } else {
        auto* copy = llvm::cast<llvm::SwitchInst>(choice->clone());
        copy->setCondition(condition);
        for (unsigned i = 0; i < copy->getNumSuccessors(); ++i) copy->setSuccessor(i, made(original.successors[i]));
        copy->insertInto(block, block->end());
        for (const u32 to : original.successors) add_edge(to, {block, number, false});
      }
    } else {
      new llvm::UnreachableInst(context, block);
    }
  }

  m_unfinished_phis -= unfinished_phis;
  if (returns.empty()) return true;
  placed.end = returns[0].from;
  placed.result = returns[0].value;
  if (returns.size() == 1) return true;
  placed.end = llvm::BasicBlock::Create(context, "", function);
  const bool same = std::ranges::all_of(returns, [&](const Return& one) { return one.value == placed.result; });
  auto* merged = same ? nullptr : llvm::PHINode::Create(callee.getReturnType(), static_cast<unsigned>(returns.size()), "", placed.end);
  for (const Return& one : returns) {
    llvm::BranchInst::Create(placed.end, one.from);
    if (merged) merged->addIncoming(one.value, one.from);
  }
  if (merged) placed.result = merged;
  return true;
}

void BodyPlacer::replace(llvm::CallInst& call, llvm::BasicBlock& variables) {
  llvm::BasicBlock* before = call.getParent();
  llvm::BasicBlock* after = before->splitBasicBlock(&call);
  before->getTerminator()->eraseFromParent();
  const std::vector<llvm::Value*> arguments(call.arg_begin(), call.arg_end());
  PlacedBody placed;
  place(*call.getCalledFunction(), arguments, before, variables, [](llvm::Function&) { return Treatment::Keep; },
        [](llvm::Function&, llvm::ArrayRef<llvm::Value*>, llvm::BasicBlock*) -> llvm::Value* { return nullptr; }, placed);
  call.replaceAllUsesWith(placed.result ? placed.result : llvm::PoisonValue::get(call.getType()));
  call.eraseFromParent();
  if (!placed.end) placed.end = llvm::BasicBlock::Create(before->getContext(), "", before->getParent());  // never reached
  after->replaceSuccessorsPhiUsesWith(placed.end);
  placed.end->splice(placed.end->end(), after);
  after->eraseFromParent();
}

}  // namespace vellum
