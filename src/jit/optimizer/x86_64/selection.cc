// Instruction selection: blocks, values and where they are found, control flow, and the order of it all.
#include "jit/optimizer/x86_64/selection.h"

#include <algorithm>

#include <llvm/ADT/PostOrderIterator.h>
#include <llvm/Analysis/LoopInfo.h>
#include <llvm/IR/Dominators.h>
#include <llvm/IR/GetElementPtrTypeIterator.h>
#include <llvm/IR/ProfDataUtils.h>

#include "jit/optimizer/x86_64/selector.h"

namespace vellum::x86_64 {

namespace {

constexpr double kColdShare = 1.0 / 1000;  // of a branch's runs: what is behind it stands out of the way
constexpr double kLoopRuns = 8;            // of a loop each time it is entered, for want of better knowledge

Condition condition_of(llvm::CmpInst::Predicate predicate) {
  switch (predicate) {
    case llvm::CmpInst::ICMP_EQ: return kEqual;
    case llvm::CmpInst::ICMP_NE: return kNotEqual;
    case llvm::CmpInst::ICMP_UGT: return kAbove;
    case llvm::CmpInst::ICMP_UGE: return kNotBelow;
    case llvm::CmpInst::ICMP_ULT: return kBelow;
    case llvm::CmpInst::ICMP_ULE: return kNotAbove;
    case llvm::CmpInst::ICMP_SGT: return kGreater;
    case llvm::CmpInst::ICMP_SGE: return kNotLess;
    case llvm::CmpInst::ICMP_SLT: return kLess;
    default: return kNotGreater;
  }
}

}  // namespace

// A float in the lowest lane of a vector is in the same register.
bool Selector::is_lowest_lane(const Value* value) {
  const auto* extract = llvm::dyn_cast<llvm::ExtractElementInst>(value);
  if (!extract || !extract->getType()->isFloatingPointTy() || vector_size_of(extract->getVectorOperandType()) < 16) return false;
  const auto* index = llvm::dyn_cast<llvm::ConstantInt>(extract->getIndexOperand());
  return index && index->isZero() && !llvm::isa<llvm::Constant>(extract->getVectorOperand());
}

// Follows what does not change a value's bits in its register.
const Value* Selector::root(const Value* value) const {
  while (true) {
    if (const auto* cast = llvm::dyn_cast<llvm::CastInst>(value)) {
      const Value* from = cast->getOperand(0);
      if (vector_size_of(from->getType()) && vector_size_of(cast->getType()) && llvm::isa<llvm::BitCastInst>(cast) && !llvm::isa<llvm::Constant>(from)) {
        value = from;
        continue;
      }
      if (!size_of(from->getType()) || !size_of(cast->getType())) return value;
      switch (cast->getOpcode()) {
        case llvm::Instruction::Trunc:
        case llvm::Instruction::BitCast:
        case llvm::Instruction::IntToPtr:
        case llvm::Instruction::PtrToInt: break;
        case llvm::Instruction::ZExt:
          if (!is_clean(from)) return value;
          break;
        default: return value;
      }
      if (llvm::isa<llvm::Constant>(from)) return value;
      value = from;
    } else if (const auto* freeze = llvm::dyn_cast<llvm::FreezeInst>(value); freeze && !llvm::isa<llvm::Constant>(freeze->getOperand(0))) {
      value = freeze->getOperand(0);
    } else if (is_lowest_lane(value)) {
      value = llvm::cast<llvm::ExtractElementInst>(value)->getVectorOperand();
    } else {
      return value;
    }
  }
}

// A guest's load: straight from memory, or by a helper, which extends what it returns with zeros.
bool Selector::is_clean_load(const llvm::PHINode& phi) const {
  return phi.getNumIncomingValues() == 2 && !phi.getType()->isIntegerTy(1) && llvm::all_of(phi.incoming_values(), [](const llvm::Use& use) {
    if (llvm::isa<llvm::LoadInst>(use)) return true;
    const auto* part = llvm::dyn_cast<llvm::TruncInst>(use);
    const auto* call = part ? llvm::dyn_cast<llvm::CallInst>(part->getOperand(0)) : nullptr;
    return call && call->getCalledFunction() && call->getCalledFunction()->getName() == "region_load";
  });
}

// Whether the register's bits above the value are zero.
bool Selector::is_clean(const Value* value) const {
  const llvm::Type* type = value->getType();
  if (llvm::isa<llvm::ICmpInst>(value)) return true;
  if (llvm::isa<llvm::LoadInst>(value)) return !type->isIntegerTy(1);
  if (const auto* phi = llvm::dyn_cast<llvm::PHINode>(value)) return is_clean_load(*phi);
  if (type->isIntegerTy(32))
    return llvm::isa<llvm::BinaryOperator>(value) || llvm::isa<llvm::SelectInst>(value) || llvm::isa<llvm::ZExtInst>(value) || llvm::isa<llvm::SExtInst>(value);
  if (type->isIntegerTy(8) || type->isIntegerTy(16))
    if (const auto* operation = llvm::dyn_cast<llvm::BinaryOperator>(value)) return operation->getOpcode() == llvm::Instruction::LShr;
  return false;
}

// With overflow intrinsics, the second result.
const llvm::WithOverflowInst* Selector::overflow_of(const Value* value) {
  const auto* extract = llvm::dyn_cast<llvm::ExtractValueInst>(value);
  if (!extract || extract->getIndices()[0] != 1) return nullptr;
  return llvm::dyn_cast<llvm::WithOverflowInst>(extract->getAggregateOperand());
}

// Two conditions that decide together, by two branches.
bool Selector::is_joined(const Value* condition) {
  const auto* both = llvm::dyn_cast<llvm::BinaryOperator>(condition);
  if (!both || !both->getType()->isIntegerTy(1) || !both->hasOneUse()) return false;
  return (both->getOpcode() == llvm::Instruction::And || both->getOpcode() == llvm::Instruction::Or) && llvm::isa<llvm::BranchInst>(both->user_back());
}

// A condition the other way round.
const Value* Selector::negated_condition(const Value* value) {
  const auto* operation = llvm::dyn_cast<llvm::BinaryOperator>(value);
  if (!operation || operation->getOpcode() != llvm::Instruction::Xor || !operation->getType()->isIntegerTy(1)) return nullptr;
  const auto* one = llvm::dyn_cast<llvm::ConstantInt>(operation->getOperand(1));
  return one && one->isOne() ? operation->getOperand(0) : nullptr;
}

// A sum and the like of 64 bits of which nobody wants the upper half: whoever clears that makes the lower.
bool Selector::is_narrowed(const llvm::BinaryOperator& operation) {
  switch (operation.getOpcode()) {
    case llvm::Instruction::Add:
    case llvm::Instruction::Sub:
    case llvm::Instruction::Or:
    case llvm::Instruction::Xor: break;
    default: return false;
  }
  if (!operation.getType()->isIntegerTy(64) || !operation.hasOneUse()) return false;
  const auto* mask = llvm::dyn_cast<llvm::BinaryOperator>(operation.user_back());
  if (!mask || mask->getOpcode() != llvm::Instruction::And || mask->getParent() != operation.getParent()) return false;
  const auto* bits = llvm::dyn_cast<llvm::ConstantInt>(mask->getOperand(1));
  const auto in_memory = [](const Value* value) { return llvm::isa<llvm::LoadInst>(value); };
  return bits && bits->getZExtValue() == 0xffffffff && !is_deferred(*mask) && llvm::none_of(operation.operand_values(), in_memory);
}

// Conditions that only decide are made where they do.
bool Selector::is_deferred(const llvm::Instruction& instruction) {
  if (is_joined(&instruction)) return true;
  if (!llvm::isa<llvm::ICmpInst>(instruction) && !overflow_of(&instruction) && !negated_condition(&instruction)) {
    const auto* bits = llvm::dyn_cast<llvm::BinaryOperator>(&instruction);
    if (!bits || bits->getOpcode() != llvm::Instruction::And || !bits->hasOneUse() || bits->getType()->isIntegerTy(1) || size_of(bits->getType()) == 0)
      return false;
    const auto* compare = llvm::dyn_cast<llvm::ICmpInst>(bits->user_back());
    const auto* zero = compare && compare->isEquality() ? llvm::dyn_cast<llvm::ConstantInt>(compare->getOperand(1)) : nullptr;
    return zero && zero->isZero() && compare->getParent() == bits->getParent();
  }
  return llvm::all_of(instruction.users(), [&](const llvm::User* user) {
    if (const auto* branch = llvm::dyn_cast<llvm::BranchInst>(user)) return branch->isConditional();
    if (is_joined(user)) return true;
    if (negated_condition(user)) return is_deferred(*llvm::cast<llvm::Instruction>(user));
    const auto* select = llvm::dyn_cast<llvm::SelectInst>(user);
    return select && select->getCondition() == &instruction && select->getTrueValue() != &instruction && select->getFalseValue() != &instruction;
  });
}

// Whether a pointer is used for nothing but loads, stores, and addresses made of it that leave room for an index.
bool Selector::only_addresses(const Value& pointer, bool index_free) {
  return llvm::all_of(pointer.users(), [&](const llvm::User* user) {
    if (llvm::isa<llvm::LoadInst>(user)) return true;
    if (const auto* store = llvm::dyn_cast<llvm::StoreInst>(user)) return store->getValueOperand() != &pointer;
    const auto* element = llvm::dyn_cast<llvm::GetElementPtrInst>(user);
    if (!element || element->getPointerOperand() != &pointer) return false;
    return element->hasAllConstantIndices() ? index_free || only_addresses(*element, false) : index_free;
  });
}

// One index of 64 bits, scaled as an address can.
bool Selector::has_simple_index(const llvm::GetElementPtrInst& element) const {
  if (element.getNumIndices() != 1 || !element.getOperand(1)->getType()->isIntegerTy(64)) return false;
  const u64 size = m_layout.getTypeAllocSize(element.getSourceElementType());
  return std::has_single_bit(size) && size <= 8;
}

bool Selector::is_folded_address(const llvm::GetElementPtrInst& element) const {
  if (element.hasAllConstantIndices()) return only_addresses(element, true);
  return has_simple_index(element) && element.getNumUses() <= 2 && only_addresses(element, false);
}

bool Selector::is_folded_load(const llvm::LoadInst& load) const {
  if (!load.hasOneUse() || load.isVolatile()) return false;
  const unsigned size = size_of(load.getType());
  if (size && !llvm::isStrongerThan(load.getOrdering(), llvm::AtomicOrdering::Monotonic))
    if (const auto* compare = llvm::dyn_cast<llvm::ICmpInst>(load.user_back())) return is_folded_into(load, *compare);
  if (load.isAtomic()) return false;
  if (size < 4) return false;
  const auto* user = llvm::dyn_cast<llvm::BinaryOperator>(load.user_back());
  if (!user || user->getParent() != load.getParent() || is_deferred(*user)) return false;
  switch (user->getOpcode()) {
    case llvm::Instruction::Sub:
      if (user->getOperand(0) == &load) return false;
      break;
    case llvm::Instruction::Add:
    case llvm::Instruction::And:
    case llvm::Instruction::Or:
    case llvm::Instruction::Xor: break;
    default: return false;
  }
  const Value* other = user->getOperand(user->getOperand(0) == &load ? 1 : 0);
  if (llvm::isa<llvm::Constant>(other) || (user->getOperand(0) == &load && llvm::isa<llvm::LoadInst>(other))) return false;
  return m_writes.lookup(&load) == m_writes.lookup(user);
}

// With a comparison that is made at the end of its block.
bool Selector::is_folded_into(const llvm::LoadInst& load, const llvm::ICmpInst& compare) const {
  if (load.getType()->isIntegerTy(1) || compare.getParent() != load.getParent() || !compare.hasOneUse() || !is_deferred(compare)) return false;
  const llvm::Instruction* terminator = load.getParent()->getTerminator();
  if (compare.user_back() != terminator || m_writes.lookup(&load) != m_writes.lookup(terminator)) return false;
  return compare.getOperand(1) == &load ? !llvm::isa<llvm::Constant>(compare.getOperand(0)) && !llvm::isa<llvm::LoadInst>(compare.getOperand(0))
                                        : llvm::isa<llvm::ConstantInt>(compare.getOperand(1));
}

ValueId Selector::id_of(const Value* value) {
  const auto [found, added] = m_ids.try_emplace(value, m_code.values());
  if (added) {
    const unsigned vector = vector_size_of(value->getType());
    m_code.is_vector.push_back(vector != 0);
    if (vector == 32) m_code.vector_bytes = 32;
  }
  return found->second;
}

ValueId Selector::make_number(i64 number) {
  const ValueId id = temporary();
  emit(Op::Move, 8, id, Operand::constant(number));
  return id;
}

// A register or a number.
Operand Selector::operand(const Value* value) {
  if (const auto* number = llvm::dyn_cast<llvm::ConstantInt>(value)) {
    if (number->getBitWidth() > 64) return refuse(*value), Operand::constant(0);
    return Operand::constant(number->getBitWidth() == 1 ? static_cast<i64>(number->getZExtValue()) : number->getSExtValue());
  }
  if (llvm::isa<llvm::UndefValue>(value) || llvm::isa<llvm::ConstantPointerNull>(value)) return Operand::constant(0);
  if (const auto* lanes = llvm::dyn_cast<llvm::Constant>(value); lanes && vector_size_of(value->getType()) >= 16) return constant_vector(*lanes);
  if (const auto* number = llvm::dyn_cast<llvm::ConstantFP>(value); number && vector_size_of(value->getType()))
    return Operand::constant(static_cast<i64>(number->getValueAPF().bitcastToAPInt().getZExtValue()));
  if (const auto* expression = llvm::dyn_cast<llvm::ConstantExpr>(value)) {
    if (expression->isCast()) return operand(expression->getOperand(0));
    return refuse(*value), Operand::constant(0);
  }
  if (const auto* callee = llvm::dyn_cast<llvm::Function>(value)) {
    const auto found = m_functions.find(callee->getName());
    if (found != m_functions.end()) return Operand::constant(reinterpret_cast<i64>(found->second));
    return refuse(*value), Operand::constant(0);
  }
  if (llvm::isa<llvm::Constant>(value) || !has_register(value->getType())) return refuse(*value), Operand::constant(0);
  value = root(value);
  if (m_frame_offsets.contains(value)) {
    const ValueId id = temporary();
    m_code.addresses.push_back({kFrame, kNoValue, 0, m_frame_offsets.lookup(value)});
    emit(Op::LoadAddress, 8, id, Operand::memory(static_cast<i32>(m_code.addresses.size() - 1)));
    return Operand::value(id);
  }
  if (!has_register(value->getType())) return refuse(*value), Operand::constant(0);
  if (const auto* load = llvm::dyn_cast<llvm::LoadInst>(value); load && is_folded_load(*load)) return memory(load->getPointerOperand());
  return Operand::value(id_of(value));
}

Operand Selector::in_register(const Value* value) {
  const Operand where = operand(value);
  if (where.is_number()) return Operand::value(make_number(where.number));
  if (!where.is_memory()) return where;
  const ValueId id = temporary();
  emit(Op::ZeroExtend, size_of(value->getType()), id, where);
  return Operand::value(id);
}

Operand Selector::memory(const Value* pointer) {
  ValueAddress address;
  i64 displacement = 0;
  while (true) {
    if (llvm::isa<llvm::Instruction>(pointer)) pointer = root(pointer);
    const auto* element = llvm::dyn_cast<llvm::GetElementPtrInst>(pointer);
    if (!element) break;
    llvm::APInt offset(64, 0);
    if (element->accumulateConstantOffset(m_layout, offset)) {
      displacement += offset.getSExtValue();
      if (!fits_i32(displacement)) refuse(*element);
    } else {
      if (!is_folded_address(*element) || address.index != kNoValue) break;
      address.index = in_register(element->getOperand(1)).index;
      address.scale = scale_of(*element);
    }
    pointer = element->getPointerOperand();
  }
  if (m_frame_offsets.contains(pointer)) {
    address.base = kFrame;
    displacement += m_frame_offsets.lookup(pointer);
  } else {
    const Operand base = operand(pointer);
    if (base.is_number() && address.index == kNoValue) {
      address.base = make_number(base.number + displacement);
      displacement = 0;
    } else if (base.is_number()) {
      address.base = make_number(base.number);
    } else if (base.is_value()) {
      address.base = base.index;
    } else {
      address.base = in_register(pointer).index;
    }
  }
  address.displacement = static_cast<i32>(displacement);
  m_code.addresses.push_back(address);
  return Operand::memory(static_cast<i32>(m_code.addresses.size() - 1));
}

// The value in 32 bits, or in all 64 if that is its size.
ValueId Selector::zero_extended(const Value* value) {
  const unsigned size = size_of(value->getType());
  if (size == 8) return in_register(value).index;
  if (const auto* number = llvm::dyn_cast<llvm::ConstantInt>(value)) return make_number(static_cast<i64>(number->getZExtValue()));
  if (is_clean(value)) return in_register(value).index;
  const ValueId id = temporary();
  if (value->getType()->isIntegerTy(1)) emit(Op::Arithmetic, 4, id, in_register(value), Operand::constant(1), static_cast<u32>(Arithmetic::And));
  else emit(Op::ZeroExtend, size, id, in_register(value));
  return id;
}
ValueId Selector::sign_extended(const Value* value) {
  const unsigned size = size_of(value->getType());
  if (size == 8) return in_register(value).index;
  const ValueId id = temporary();
  emit(Op::SignExtend, size, id, in_register(value), {}, 8);
  return id;
}

// Blocks -------------------------------------------------------------------------------------------------------------

// Orders the blocks and estimates how often each runs.
bool Selector::number_blocks() {
  for (const llvm::BasicBlock* block : llvm::ReversePostOrderTraversal<const llvm::Function*>(&m_function)) {
    m_number[block] = static_cast<u32>(m_order.size());
    m_order.push_back(block);
  }
  m_labels = static_cast<u32>(m_order.size());
  llvm::DominatorTree dominators(m_function);
  const llvm::LoopInfo loops(dominators);
  m_frequency.assign(m_order.size(), 0);
  m_cold.assign(m_order.size(), true);
  m_frequency[0] = 1;
  m_cold[0] = false;
  for (u32 i = 0; i < m_order.size(); ++i) {
    const llvm::BasicBlock* block = m_order[i];
    if (loops.isLoopHeader(block)) m_frequency[i] *= kLoopRuns;
    const llvm::Instruction* terminator = block->getTerminator();
    llvm::SmallVector<u32, 4> weights;
    if (!llvm::extractBranchWeights(*terminator, weights) || weights.size() != terminator->getNumSuccessors())
      weights.assign(terminator->getNumSuccessors(), 1);
    double sum = 0;
    for (const u32 weight : weights) sum += weight;
    for (unsigned s = 0; s < terminator->getNumSuccessors(); ++s) {
      const u32 successor = m_number[terminator->getSuccessor(s)];
      const double share = sum > 0 ? weights[s] / sum : 0;
      if (successor > i) m_frequency[successor] += m_frequency[i] * share;
      if (!m_cold[i] && share > kColdShare) m_cold[successor] = false;
    }
  }
  return true;
}

std::vector<MoveValue> Selector::moves_for(const llvm::BasicBlock& from, const llvm::BasicBlock& to) {
  std::vector<MoveValue> moves;
  for (const llvm::PHINode& phi : to.phis()) {
    if (!has_register(phi.getType())) refuse(phi);
    if (phi.use_empty()) continue;
    moves.push_back({id_of(&phi), operand(phi.getIncomingValueForBlock(&from))});
  }
  return moves;
}

// The label that a branch goes to: the successor, or a place on the way to it where values are moved.
u32 Selector::edge(const llvm::BasicBlock& from, const llvm::BasicBlock& to, bool only) {
  const u32 target = m_number[&to];
  std::vector<MoveValue> moves = moves_for(from, to);
  if (moves.empty()) return target;
  if (only) {
    m_code.moves.push_back(std::move(moves));
    emit(Op::ParallelMove, 8, kNoValue, {}, {}, static_cast<u32>(m_code.moves.size() - 1));
    return target;
  }
  m_edges.push_back({std::move(moves), m_labels++, target});
  return m_edges.back().label;
}

bool Selector::select_block(const llvm::BasicBlock& block) {
  const u32 number = m_number[&block];
  const auto begin = [&](u32 label, double frequency, bool cold) {
    if (m_block_of.size() <= label) m_block_of.resize(label + 1);
    m_block_of[label] = static_cast<u32>(m_code.blocks.size());
    MachineBlock& made = m_code.blocks.emplace_back();
    made.first = static_cast<u32>(m_code.insns.size());
    made.frequency = frequency;
    made.cold = cold;
  };
  const auto end = [&] { m_code.blocks.back().last = static_cast<u32>(m_code.insns.size()); };
  begin(number, m_frequency[number], m_cold[number]);
  u32 writes = 0;
  for (const llvm::Instruction& instruction : block) {
    m_writes[&instruction] = writes;
    if (instruction.mayWriteToMemory() && !llvm::isa<llvm::LoadInst>(instruction)) ++writes;
  }
  m_edges.clear();
  for (const llvm::Instruction& instruction : block) {
    if (instruction.isTerminator()) {
      if (!select_terminator(instruction)) return false;
    } else if (!select(instruction)) {
      return false;
    }
    if (!m_error.empty()) return false;
  }
  end();
  const std::vector<Edge> edges = std::move(m_edges);
  for (const Edge& edge : edges) {
    const bool cold = m_cold[number] || m_cold[edge.target];
    begin(edge.label, std::min(m_frequency[number], m_frequency[edge.target]) / 2, cold);
    m_code.moves.push_back(edge.moves);
    emit(Op::ParallelMove, 8, kNoValue, {}, {}, static_cast<u32>(m_code.moves.size() - 1));
    emit(Op::Jump, 8, kNoValue, {}, {}, edge.target);
    end();
  }
  return true;
}

// Conditions ---------------------------------------------------------------------------------------------------------

Selector::Compare Selector::compare(const Value* condition, bool negate) {
  Compare result;
  const auto finish = [&] {
    if (negate) result.condition = negated(result.condition);
    return result;
  };
  if (const Value* other = negated_condition(condition)) return compare(other, !negate);
  if (const auto* integers = llvm::dyn_cast<llvm::ICmpInst>(condition)) {
    const Value *a = integers->getOperand(0), *b = integers->getOperand(1);
    llvm::CmpInst::Predicate predicate = integers->getPredicate();
    if (const auto* product = wide_product(a); product && integers->isEquality()) {
      // Whether the product fits in its lower half: the upper one is that half's sign.
      const auto* narrow = llvm::dyn_cast<llvm::SExtInst>(b);
      const auto* low = narrow ? llvm::dyn_cast<llvm::TruncInst>(narrow->getOperand(0)) : nullptr;
      if (!low || low->getOperand(0) != product || !low->getType()->isIntegerTy(64)) return refuse(*condition), result;
      const ValueId sign = temporary();
      emit(Op::Shift, 8, sign, Operand::value(id_of(product)), Operand::constant(63), static_cast<u32>(Shift::Arithmetic));
      result.size = 8;
      result.condition = condition_of(predicate);
      result.a = Operand::value(m_upper.lookup(product));
      result.b = Operand::value(sign);
      return finish();
    }
    if (!size_of(a->getType())) return refuse(*condition), result;
    if (llvm::isa<llvm::Constant>(a)) {
      std::swap(a, b);
      predicate = llvm::CmpInst::getSwappedPredicate(predicate);
    }
    result.size = size_of(a->getType());
    result.condition = condition_of(predicate);
    const auto* bits = llvm::dyn_cast<llvm::BinaryOperator>(a);
    if (a->getType()->isIntegerTy(1)) {
      result.size = 4;
      result.a = Operand::value(zero_extended(a));
      result.b = Operand::value(zero_extended(b));
    } else if (bits && is_deferred(*bits)) {
      result.test = true;
      result.a = in_register(bits->getOperand(0));
      result.b = operand(bits->getOperand(1));
      if (result.b.is_memory()) result.b = in_register(bits->getOperand(1));
    } else {
      result.a = operand(a);
      if (result.a.is_number()) result.a = in_register(a);
      result.b = operand(b);
    }
    return finish();
  }
  if (const auto* operation = overflow_of(condition)) {
    result.size = size_of(operation->getLHS()->getType());
    if (operation->getBinaryOp() == llvm::Instruction::Sub) {
      result.a = in_register(operation->getLHS());
      result.b = operand(operation->getRHS());
      result.condition = operation->isSigned() ? kOverflow : kBelow;
    } else {
      // The sum of unsigned numbers is less than each of them.
      result.a = Operand::value(id_of(operation));
      result.b = operand(operation->getRHS());
      result.condition = kBelow;
    }
    return finish();
  }
  result.size = 1;
  result.a = in_register(condition);
  result.b = Operand::constant(1);
  result.test = true;
  result.condition = kNotEqual;
  return finish();
}

void Selector::branch(const Value* condition, bool negate, u32 target) {
  const Compare made = compare(condition, negate);
  Insn& insn = emit(Op::Branch, made.size, kNoValue, made.a, made.b, target);
  insn.condition = made.condition;
  insn.test = made.test;
}

bool Selector::select_terminator(const llvm::Instruction& terminator) {
  const llvm::BasicBlock& block = *terminator.getParent();
  const auto jump = [&](u32 label) { emit(Op::Jump, 8, kNoValue, {}, {}, label); };
  if (const auto* to = llvm::dyn_cast<llvm::BranchInst>(&terminator)) {
    if (to->isUnconditional()) {
      jump(edge(block, *to->getSuccessor(0), true));
      return true;
    }
    const llvm::BasicBlock *taken = to->getSuccessor(0), *next = to->getSuccessor(1);
    const u32 taken_label = edge(block, *taken, false), next_label = edge(block, *next, false);
    if (const Value* condition = to->getCondition(); !is_joined(condition)) {
      branch(condition, false, taken_label);
    } else {
      const auto& both = llvm::cast<llvm::BinaryOperator>(*condition);
      const bool all = both.getOpcode() == llvm::Instruction::And;
      branch(both.getOperand(0), all, all ? next_label : taken_label);
      branch(both.getOperand(1), false, taken_label);
    }
    jump(next_label);
    return true;
  }
  if (const auto* choice = llvm::dyn_cast<llvm::SwitchInst>(&terminator)) {
    const unsigned size = size_of(choice->getCondition()->getType());
    if (!size) return refuse(terminator);
    const Operand value = in_register(choice->getCondition());
    llvm::DenseMap<const llvm::BasicBlock*, u32> labels;
    const auto label = [&](const llvm::BasicBlock* to) {
      const auto [found, added] = labels.try_emplace(to, 0);
      if (added) found->second = edge(block, *to, false);
      return found->second;
    };
    for (const auto& each : choice->cases()) {
      Insn& insn = emit(Op::Branch, size, kNoValue, value, Operand::constant(each.getCaseValue()->getSExtValue()), label(each.getCaseSuccessor()));
      insn.condition = kEqual;
    }
    jump(label(choice->getDefaultDest()));
    return true;
  }
  if (llvm::isa<llvm::ReturnInst>(terminator)) {
    if (!block.getTerminatingMustTailCall()) emit(Op::Return, 8);
    return true;
  }
  if (llvm::isa<llvm::UnreachableInst>(terminator)) {
    emit(Op::Trap, 8);
    return true;
  }
  return refuse(terminator);
}

// Instructions -------------------------------------------------------------------------------------------------------

bool Selector::select(const llvm::Instruction& instruction) {
  if (llvm::isa<llvm::PHINode>(instruction)) return true;
  if (const auto* variable = llvm::dyn_cast<llvm::AllocaInst>(&instruction)) {
    const std::optional<llvm::TypeSize> size = variable->getAllocationSize(m_layout);
    if (!size) return refuse(instruction);  // no instruction here minds alignment
    m_frame_offsets[variable] = static_cast<i32>(m_code.frame_bytes);
    m_code.frame_bytes += static_cast<u32>((size->getFixedValue() + 15) / 16 * 16);
    return true;
  }
  if (const auto* load = llvm::dyn_cast<llvm::LoadInst>(&instruction)) {
    const unsigned size = size_of(load->getType()), vector_size = vector_size_of(load->getType());
    if (vector_size && !load->isAtomic()) {
      if (!load->use_empty()) emit(Op::VectorMove, vector_size, id_of(load), memory(load->getPointerOperand()));
      return true;
    }
    if (!size) return refuse(instruction);
    if (load->use_empty() || is_folded_load(*load)) return true;
    emit(Op::ZeroExtend, size, id_of(load), memory(load->getPointerOperand()));
    return true;
  }
  if (const auto* store = llvm::dyn_cast<llvm::StoreInst>(&instruction)) {
    const unsigned size = size_of(store->getValueOperand()->getType()), vector_size = vector_size_of(store->getValueOperand()->getType());
    if (vector_size && !store->isAtomic()) {
      const Operand value = operand(store->getValueOperand());
      emit(Op::VectorStore, vector_size, kNoValue, memory(store->getPointerOperand()), value);
      return true;
    }
    if (!size) return refuse(instruction);
    if (store->getOrdering() == llvm::AtomicOrdering::SequentiallyConsistent) {
      const Operand value = in_register(store->getValueOperand());
      emit(Op::Exchange, size, kNoValue, memory(store->getPointerOperand()), value);
      return true;
    }
    Operand value = operand(store->getValueOperand());
    if (store->getValueOperand()->getType()->isIntegerTy(1)) value = Operand::value(zero_extended(store->getValueOperand()));
    const Operand to = memory(store->getPointerOperand());
    emit(Op::Store, size, kNoValue, to, value);
    return true;
  }
  if (const auto* element = llvm::dyn_cast<llvm::GetElementPtrInst>(&instruction)) {
    if (!size_of(element->getType())) return refuse(instruction);
    if (element->use_empty() || is_folded_address(*element)) return true;
    if (element->hasAllConstantIndices()) {
      emit(Op::LoadAddress, 8, id_of(element), memory(element));
      return true;
    }
    if (!has_simple_index(*element)) return refuse(instruction);
    const ValueId index = in_register(element->getOperand(1)).index;
    Operand address = memory(element->getPointerOperand());
    if (m_code.addresses.back().index != kNoValue) {
      const ValueId base = temporary();
      emit(Op::LoadAddress, 8, base, address);
      m_code.addresses.push_back({base, kNoValue, 0, 0});
      address = Operand::memory(static_cast<i32>(m_code.addresses.size() - 1));
    }
    m_code.addresses.back().index = index;
    m_code.addresses.back().scale = scale_of(*element);
    emit(Op::LoadAddress, 8, id_of(element), address);
    return true;
  }
  if (const auto* operation = llvm::dyn_cast<llvm::BinaryOperator>(&instruction)) return select_binary(*operation);
  if (const auto* shuffle = llvm::dyn_cast<llvm::ShuffleVectorInst>(&instruction)) return select_shuffle(*shuffle);
  if (llvm::isa<llvm::ICmpInst>(instruction) && instruction.getType()->isVectorTy()) {
    // Its users make it.
    return llvm::all_of(instruction.users(), [](const llvm::User* user) { return llvm::isa<llvm::SExtInst>(user) || llvm::isa<llvm::BitCastInst>(user); }) ||
           refuse(instruction);
  }
  if (llvm::isa<llvm::ICmpInst>(instruction) || overflow_of(&instruction)) {
    if (is_deferred(instruction)) return true;
    const Compare made = compare(&instruction, false);
    Insn& insn = emit(Op::Set, made.size, id_of(&instruction), made.a, made.b);
    insn.condition = made.condition;
    insn.test = made.test;
    return true;
  }
  if (const auto* choice = llvm::dyn_cast<llvm::SelectInst>(&instruction)) {
    const unsigned size = size_of(choice->getType());
    if (!size || !choice->getCondition()->getType()->isIntegerTy(1)) return refuse(instruction);
    const Operand if_true = operand(choice->getTrueValue()), if_false = operand(choice->getFalseValue());
    const Compare made = compare(choice->getCondition(), false);
    Insn& insn = emit(Op::Select, made.size, id_of(choice), made.a, made.b, std::max(size, 4u));
    insn.condition = made.condition;
    insn.test = made.test;
    insn.c = if_true;
    insn.d = if_false;
    return true;
  }
  if (llvm::isa<llvm::AtomicCmpXchgInst>(instruction) || llvm::isa<llvm::AtomicRMWInst>(instruction)) return select_atomic(instruction);
  if (const auto* insert = llvm::dyn_cast<llvm::InsertElementInst>(&instruction)) return select_insert(*insert);
  if (const auto* extract = llvm::dyn_cast<llvm::ExtractElementInst>(&instruction)) return select_extract(*extract);
  if (const auto* extract = llvm::dyn_cast<llvm::ExtractValueInst>(&instruction)) {
    if (const auto found = m_parts.find(extract->getAggregateOperand()); found != m_parts.end() && extract->getNumIndices() == 1) {
      emit(Op::Move, 8, id_of(extract), Operand::value(found->second[extract->getIndices()[0]]));
      return true;
    }
    const auto* operation = llvm::dyn_cast<llvm::WithOverflowInst>(extract->getAggregateOperand());
    if (!operation || extract->getIndices()[0] != 0) return refuse(instruction);
    emit(Op::Move, 8, id_of(extract), Operand::value(id_of(operation)));
    return true;
  }
  if (const auto* cast = llvm::dyn_cast<llvm::CastInst>(&instruction)) {
    if (root(cast) != cast || cast->use_empty()) return true;
    const Value* from = cast->getOperand(0);
    if (cast->getType()->isIntegerTy(128)) {
      const bool known = llvm::all_of(cast->users(), [](const llvm::User* user) { return wide_product(user) || llvm::isa<llvm::ICmpInst>(user); });
      return known || refuse(instruction);
    }
    if (from->getType()->isIntegerTy(128)) {
      const auto* shift = llvm::dyn_cast<llvm::BinaryOperator>(from);
      const bool upper = shift && shift->getOpcode() == llvm::Instruction::LShr;
      const auto* product = wide_product(upper ? shift->getOperand(0) : from);
      const auto* count = upper ? llvm::dyn_cast<llvm::ConstantInt>(shift->getOperand(1)) : nullptr;
      if (!product || (upper && (!count || count->getZExtValue() != 64))) return refuse(instruction);
      emit(Op::Move, 8, id_of(cast), Operand::value(upper ? m_upper.lookup(product) : id_of(product)));
      return true;
    }
    if (from->getType()->isVectorTy() && from->getType()->getScalarSizeInBits() == 1) return select_vector_compare(*cast);
    // Lanes made twice as wide: VPMOVSX, VPMOVZX.
    if ((llvm::isa<llvm::SExtInst>(cast) || llvm::isa<llvm::ZExtInst>(cast)) && vector_size_of(from->getType()) == 16 && vector_size_of(cast->getType()) == 32) {
      const unsigned lane = from->getType()->getScalarSizeInBits();
      const u32 opcode = (llvm::isa<llvm::SExtInst>(cast) ? 0x20u : 0x30u) + (lane == 8 ? 0u : lane == 16 ? 3u : 5u);
      emit(Op::VectorUnary, 32, id_of(cast), operand(from), {}, vector_code(1, opcode, 2));
      return true;
    }
    if (const unsigned vector_from = vector_size_of(from->getType()), vector_to = vector_size_of(cast->getType()); vector_from || vector_to) {
      if (!llvm::isa<llvm::BitCastInst>(cast)) return refuse(instruction);
      if (llvm::isa<llvm::Constant>(from)) emit(vector_to ? Op::VectorMove : Op::Move, vector_to ? 16 : 8, id_of(cast), operand(from));
      else if (vector_to && size_of(from->getType()) >= 4) emit(Op::ToVector, size_of(from->getType()), id_of(cast), in_register(from));
      else if (vector_from && size_of(cast->getType()) >= 4) emit(Op::FromVector, size_of(cast->getType()), id_of(cast), operand(from));
      else return refuse(instruction);
      return true;
    }
    const unsigned size = size_of(from->getType()), to = size_of(cast->getType());
    if (!size || !to) return refuse(instruction);
    if (cast->getOpcode() == llvm::Instruction::ZExt) {
      const ValueId value = zero_extended(from);
      emit(Op::Move, 8, id_of(cast), Operand::value(value));
    } else if (cast->getOpcode() == llvm::Instruction::SExt) {
      if (from->getType()->isIntegerTy(1)) {
        const ValueId bit = zero_extended(from);
        emit(Op::Negate, std::max(to, 4u), id_of(cast), Operand::value(bit));
      } else {
        emit(Op::SignExtend, size, id_of(cast), in_register(from), {}, std::max(to, 4u));
      }
    } else if (llvm::isa<llvm::Constant>(from)) {
      emit(Op::Move, 8, id_of(cast), operand(from));
    } else {
      return refuse(instruction);
    }
    return true;
  }
  if (const auto* freeze = llvm::dyn_cast<llvm::FreezeInst>(&instruction)) {
    if (root(freeze) != freeze) return true;
    if (!size_of(freeze->getType())) return refuse(instruction);
    emit(Op::Move, 8, id_of(freeze), operand(freeze->getOperand(0)));
    return true;
  }
  if (const auto* call = llvm::dyn_cast<llvm::CallInst>(&instruction)) return select_call(*call);
  return refuse(instruction);
}

std::expected<MachineCode, std::string> Selector::run() {
  if (!m_function.getArg(1)->use_empty()) return std::unexpected("the instruction's address is used");
  m_ids[m_function.getArg(0)] = kState;
  number_blocks();
  for (const llvm::BasicBlock* block : m_order)
    if (!select_block(*block) || !m_error.empty()) return std::unexpected(m_error);
  // Labels become blocks.
  for (usize b = 0; b < m_code.blocks.size(); ++b) {
    MachineBlock& block = m_code.blocks[b];
    for (u32 i = block.first; i < block.last; ++i)
      if (Insn& insn = m_code.insns[i]; insn.op == Op::Branch || insn.op == Op::Jump) {
        insn.extra = m_block_of[insn.extra];
        if (std::ranges::find(block.successors, insn.extra) == block.successors.end()) block.successors.push_back(insn.extra);
      }
  }
  return std::move(m_code);
}

std::expected<MachineCode, std::string> select_instructions(llvm::Function& function, const llvm::StringMap<const void*>& functions) {
  return Selector(function, functions).run();
}

}  // namespace vellum::x86_64
