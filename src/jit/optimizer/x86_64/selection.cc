// Instruction selection, one LLVM instruction after another. Addresses, compares, casts and loads with one user become operands
// of their users.
#include "jit/optimizer/x86_64/selection.h"

#include <algorithm>
#include <bit>
#include <optional>

#include <llvm/ADT/PostOrderIterator.h>
#include <llvm/Analysis/LoopInfo.h>
#include <llvm/IR/Dominators.h>
#include <llvm/IR/GetElementPtrTypeIterator.h>
#include <llvm/IR/InlineAsm.h>
#include <llvm/IR/Instructions.h>
#include <llvm/IR/IntrinsicInst.h>
#include <llvm/IR/IntrinsicsX86.h>
#include <llvm/IR/Module.h>
#include <llvm/IR/ProfDataUtils.h>

namespace vellum::x86_64 {

namespace {

using llvm::Value;

constexpr double kColdShare = 1.0 / 1000;  // of a branch's runs: what is behind it stands out of the way
constexpr double kLoopRuns = 8;            // of a loop each time it is entered, for want of better knowledge

// Bytes of a value's type; 0: not one that general registers hold.
unsigned size_of(const llvm::Type* type) {
  if (type->isPointerTy()) return 8;
  if (!type->isIntegerTy()) return 0;
  switch (type->getIntegerBitWidth()) {
    case 1:
    case 8: return 1;
    case 16: return 2;
    case 32: return 4;
    case 64: return 8;
    default: return 0;
  }
}

// Bytes of what one vector register holds: a float, or a vector of 16 bytes; 0: something else.
unsigned vector_size_of(const llvm::Type* type) {
  if (type->isFloatTy()) return 4;
  if (type->isDoubleTy()) return 8;
  const auto* vector = llvm::dyn_cast<llvm::FixedVectorType>(type);
  if (!vector) return 0;
  const unsigned bits = vector->getElementType()->getScalarSizeInBits();
  return bits >= 8 && bits <= 64 && bits * vector->getNumElements() == 128 ? 16 : 0;
}
bool has_register(const llvm::Type* type) { return size_of(type) || vector_size_of(type); }

bool fits_i32(i64 value) { return value == static_cast<i32>(value); }

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

class Selector {
 public:
  Selector(llvm::Function& function, const llvm::StringMap<const void*>& functions)
      : m_function(function), m_layout(function.getParent()->getDataLayout()), m_functions(functions) {}
  std::expected<MachineCode, std::string> run();

 private:
  // What both kinds of branch, selects and conditions as values compare.
  struct Compare {
    Condition condition = kNotEqual;
    unsigned size = 4;
    Operand a, b;
    bool test = false;
  };

  bool number_blocks();
  bool select_block(const llvm::BasicBlock& block);
  bool select(const llvm::Instruction& instruction);
  bool select_binary(const llvm::BinaryOperator& operation);
  bool select_shift(const llvm::BinaryOperator& operation);
  bool select_call(const llvm::CallInst& call);
  bool select_intrinsic(const llvm::IntrinsicInst& call);
  bool select_terminator(const llvm::Instruction& terminator);
  void branch(const Value* condition, bool negate, u32 target);
  u32 edge(const llvm::BasicBlock& from, const llvm::BasicBlock& to, bool only);
  std::vector<MoveValue> moves_for(const llvm::BasicBlock& from, const llvm::BasicBlock& to);
  Compare compare(const Value* condition, bool negate);

  static bool is_joined(const Value* condition);
  static bool is_deferred(const llvm::Instruction& instruction);
  bool has_simple_index(const llvm::GetElementPtrInst& element) const;
  bool is_folded_address(const llvm::GetElementPtrInst& element) const;
  static bool only_addresses(const Value& pointer, bool index_free);
  static const llvm::WithOverflowInst* overflow_of(const Value* value);
  static bool is_lowest_lane(const Value* value);
  static const llvm::BinaryOperator* wide_product(const Value* value);
  bool select_wide(const llvm::Instruction& instruction);
  bool select_atomic(const llvm::Instruction& instruction);
  bool select_assembler(const llvm::CallInst& call, const llvm::InlineAsm& assembler);
  bool select_constrained(const llvm::ConstrainedFPIntrinsic& call);
  bool select_insert(const llvm::InsertElementInst& insert);
  bool select_extract(const llvm::ExtractElementInst& extract);
  u8 scale_of(const llvm::GetElementPtrInst& element) const {
    return static_cast<u8>(std::countr_zero(u64{m_layout.getTypeAllocSize(element.getSourceElementType())}));
  }
  bool is_folded_load(const llvm::LoadInst& load) const;
  bool is_clean(const Value* value) const;
  const Value* root(const Value* value) const;
  ValueId id_of(const Value* value);
  Operand operand(const Value* value);
  Operand in_register(const Value* value);
  Operand memory(const Value* pointer);
  ValueId make_number(i64 number);
  ValueId zero_extended(const Value* value);
  ValueId sign_extended(const Value* value);
  bool refuse(const Value& value) {
    if (m_error.empty()) {
      llvm::raw_string_ostream stream(m_error);
      value.print(stream);
    }
    return false;
  }

  Insn& emit(Op op, unsigned size, ValueId result = kNoValue, Operand a = {}, Operand b = {}, u32 extra = 0) {
    Insn& insn = m_code.insns.emplace_back();
    insn.op = op;
    insn.size = static_cast<u8>(size);
    insn.result = result;
    insn.a = a;
    insn.b = b;
    insn.extra = extra;
    return insn;
  }
  ValueId temporary(bool vector = false) {
    m_code.is_vector.push_back(vector);
    return m_code.values() - 1;
  }

  llvm::Function& m_function;
  const llvm::DataLayout& m_layout;
  const llvm::StringMap<const void*>& m_functions;
  MachineCode m_code;
  llvm::DenseMap<const Value*, ValueId> m_ids;
  llvm::DenseMap<const Value*, i32> m_frame_offsets;
  llvm::DenseMap<const Value*, ValueId> m_upper;  // of products of 128 bits; the lower half is the product's own
  llvm::DenseMap<const Value*, std::array<ValueId, 3>> m_parts;  // of calls with several results
  std::vector<const llvm::BasicBlock*> m_order;
  llvm::DenseMap<const llvm::BasicBlock*, u32> m_number;   // in m_order; labels of edges come behind
  std::vector<double> m_frequency;                         // by number
  std::vector<bool> m_cold;
  llvm::DenseMap<const llvm::Instruction*, u32> m_writes;  // of a load: writes to memory in front of it in its block
  struct Edge {
    std::vector<MoveValue> moves;
    u32 label, target;
  };
  std::vector<Edge> m_edges;       // of the block being selected
  std::vector<u32> m_block_of;     // by label: index into MachineCode::blocks
  u32 m_labels = 0;
  std::string m_error;
};

// A float in the lowest lane of a vector is in the same register.
bool Selector::is_lowest_lane(const Value* value) {
  const auto* extract = llvm::dyn_cast<llvm::ExtractElementInst>(value);
  if (!extract || !extract->getType()->isFloatingPointTy() || vector_size_of(extract->getVectorOperandType()) != 16) return false;
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

// Whether the register's bits above the value are zero.
bool Selector::is_clean(const Value* value) const {
  const llvm::Type* type = value->getType();
  if (llvm::isa<llvm::ICmpInst>(value)) return true;
  if (llvm::isa<llvm::LoadInst>(value)) return !type->isIntegerTy(1);
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

// Conditions that only decide are made where they do.
bool Selector::is_deferred(const llvm::Instruction& instruction) {
  if (is_joined(&instruction)) return true;
  if (!llvm::isa<llvm::ICmpInst>(instruction) && !overflow_of(&instruction)) {
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
  if (!load.hasOneUse() || load.isAtomic() || load.isVolatile()) return false;
  const unsigned size = size_of(load.getType());
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

ValueId Selector::id_of(const Value* value) {
  const auto [found, added] = m_ids.try_emplace(value, m_code.values());
  if (added) m_code.is_vector.push_back(vector_size_of(value->getType()) != 0);
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
  if (const auto* lanes = llvm::dyn_cast<llvm::Constant>(value); lanes && vector_size_of(value->getType()) == 16) {
    // All zero, as far as anybody cares.
    for (unsigned i = 0; i < llvm::cast<llvm::FixedVectorType>(value->getType())->getNumElements(); ++i)
      if (const llvm::Constant* lane = lanes->getAggregateElement(i); !lane || !(lane->isNullValue() || llvm::isa<llvm::UndefValue>(lane)))
        return refuse(*value), Operand::constant(0);
    return Operand::constant(0);
  }
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
    if (instruction.mayWriteToMemory()) ++writes;
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
  if (const auto* operation = llvm::dyn_cast<llvm::BinaryOperator>(condition); operation && operation->getOpcode() == llvm::Instruction::Xor)
    if (const auto* one = llvm::dyn_cast<llvm::ConstantInt>(operation->getOperand(1)); one && one->isOne()) return compare(operation->getOperand(0), !negate);
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
      result.a = in_register(a);
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

bool Selector::select_shift(const llvm::BinaryOperator& operation) {
  const unsigned size = size_of(operation.getType());
  const Value* value = operation.getOperand(0);
  const Shift kind = operation.getOpcode() == llvm::Instruction::Shl    ? Shift::Left
                     : operation.getOpcode() == llvm::Instruction::LShr ? Shift::Right
                                                                        : Shift::Arithmetic;
  // Narrow values are shifted in 32 bits. A greater count than the value has bits is nobody's.
  const unsigned wide = std::max(size, 4u);
  Operand from;
  if (size >= 4 || kind == Shift::Left) from = in_register(value);
  else from = Operand::value(kind == Shift::Right ? zero_extended(value) : sign_extended(value));
  const Operand count = operand(operation.getOperand(1));
  if (count.is_number()) emit(Op::Shift, wide, id_of(&operation), from, Operand::constant(count.number & (wide * 8 - 1)), static_cast<u32>(kind));
  else emit(Op::ShiftVariable, wide, id_of(&operation), from, count.is_memory() ? in_register(operation.getOperand(1)) : count, static_cast<u32>(kind));
  return true;
}

bool Selector::select_binary(const llvm::BinaryOperator& operation) {
  const unsigned size = size_of(operation.getType());
  if (operation.getType()->isIntegerTy(128)) return select_wide(operation);
  if (vector_size_of(operation.getType()) == 16) {
    u32 code = 0;
    switch (operation.getOpcode()) {
      case llvm::Instruction::And: code = 0xdb; break;  // VPAND, VPOR, VPXOR
      case llvm::Instruction::Or: code = 0xeb; break;
      case llvm::Instruction::Xor: code = 0xef; break;
      default: return refuse(operation);
    }
    emit(Op::VectorBinary, 16, id_of(&operation), operand(operation.getOperand(0)), operand(operation.getOperand(1)), 0x100 | code);
    return true;
  }
  if (!size) return refuse(operation);
  if (is_deferred(operation)) return true;
  const unsigned wide = std::max(size, 4u);
  const Value *a = operation.getOperand(0), *b = operation.getOperand(1);
  const ValueId result = id_of(&operation);
  const auto arithmetic = [&](Arithmetic kind) {
    Operand left = operand(a), right = operand(b);
    if (operation.isCommutative() && (left.is_number() || left.is_memory())) std::swap(left, right);
    if (left.is_memory()) return refuse(operation);  // a load is folded only where it can be the second operand
    if (left.is_number()) left = Operand::value(make_number(left.number));
    if (kind == Arithmetic::Xor && operation.getType()->isIntegerTy(1)) right.number &= 1;
    emit(Op::Arithmetic, wide, result, left, right, static_cast<u32>(kind));
    return true;
  };
  switch (operation.getOpcode()) {
    case llvm::Instruction::Add: return arithmetic(Arithmetic::Add);
    case llvm::Instruction::And:
      // What clears the upper bits is a shorter instruction.
      if (const auto* mask = llvm::dyn_cast<llvm::ConstantInt>(b); mask && !llvm::isa<llvm::Constant>(a)) {
        const u64 bits = mask->getZExtValue();
        const unsigned bytes = bits == 0xff ? 1 : bits == 0xffff ? 2 : bits == 0xffffffff && size == 8 ? 4 : 0;
        if (bytes && bytes < wide) {
          emit(Op::ZeroExtend, bytes, result, in_register(a));
          return true;
        }
        if (size == 8 && bits == static_cast<u32>(bits)) {
          emit(Op::Arithmetic, 4, result, in_register(a), Operand::constant(static_cast<i32>(bits)), static_cast<u32>(Arithmetic::And));
          return true;
        }
      }
      return arithmetic(Arithmetic::And);
    case llvm::Instruction::Or: return arithmetic(Arithmetic::Or);
    case llvm::Instruction::Xor: return arithmetic(Arithmetic::Xor);
    case llvm::Instruction::Sub:
      if (const auto* zero = llvm::dyn_cast<llvm::ConstantInt>(a); zero && zero->isZero()) {
        emit(Op::Negate, wide, result, in_register(b));
        return true;
      }
      return arithmetic(Arithmetic::Subtract);
    case llvm::Instruction::Mul: {
      Operand left = operand(a), right = operand(b);
      if (left.is_number()) std::swap(left, right);
      if (left.is_number()) left = Operand::value(make_number(left.number));
      emit(Op::Multiply, wide, result, left, right);
      return true;
    }
    case llvm::Instruction::Shl:
    case llvm::Instruction::LShr:
    case llvm::Instruction::AShr: return select_shift(operation);
    case llvm::Instruction::UDiv:
    case llvm::Instruction::URem:
    case llvm::Instruction::SDiv:
    case llvm::Instruction::SRem: {
      if (size < 4) return refuse(operation);
      const bool is_signed = operation.getOpcode() == llvm::Instruction::SDiv || operation.getOpcode() == llvm::Instruction::SRem;
      const bool remainder = operation.getOpcode() == llvm::Instruction::URem || operation.getOpcode() == llvm::Instruction::SRem;
      Insn& insn = emit(Op::Divide, size, kNoValue, in_register(a), in_register(b), is_signed);
      (remainder ? insn.second : insn.result) = result;
      return true;
    }
    default: return refuse(operation);
  }
}

bool Selector::select_intrinsic(const llvm::IntrinsicInst& call) {
  const unsigned size = size_of(call.getType()), wide = std::max(size, 4u);
  const auto two_conditions = [&](Condition condition, bool is_signed) {
    if (!size) return refuse(call);
    const Value *a = call.getArgOperand(0), *b = call.getArgOperand(1);
    const Operand left = Operand::value(is_signed ? sign_extended(a) : zero_extended(a));
    const Operand right = Operand::value(is_signed ? sign_extended(b) : zero_extended(b));
    const unsigned compared = size == 8 || is_signed ? 8 : 4;
    Insn& insn = emit(Op::Select, compared, id_of(&call), left, right, compared);
    insn.condition = condition;
    insn.c = left;
    insn.d = right;
    return true;
  };
  switch (call.getIntrinsicID()) {
    case llvm::Intrinsic::lifetime_start:
    case llvm::Intrinsic::lifetime_end:
    case llvm::Intrinsic::assume:
    case llvm::Intrinsic::dbg_value:
    case llvm::Intrinsic::donothing: return true;
    case llvm::Intrinsic::fabs: {
      const unsigned bytes = vector_size_of(call.getType());
      if (bytes != 4 && bytes != 8) return refuse(call);
      const i64 mask = bytes == 4 ? 0x7fffffff : INT64_MAX;
      emit(Op::VectorMask, bytes, id_of(&call), operand(call.getArgOperand(0)), Operand::constant(mask), 0x1db);
      return true;
    }
    case llvm::Intrinsic::x86_sse2_cvttsd2si:
    case llvm::Intrinsic::x86_sse2_cvttsd2si64:
    case llvm::Intrinsic::x86_sse2_cvtsd2si:
    case llvm::Intrinsic::x86_sse2_cvtsd2si64:
    case llvm::Intrinsic::x86_sse_cvttss2si:
    case llvm::Intrinsic::x86_sse_cvttss2si64:
    case llvm::Intrinsic::x86_sse_cvtss2si:
    case llvm::Intrinsic::x86_sse_cvtss2si64: {
      const auto id = call.getIntrinsicID();
      const bool truncate = id == llvm::Intrinsic::x86_sse2_cvttsd2si || id == llvm::Intrinsic::x86_sse2_cvttsd2si64 ||
                            id == llvm::Intrinsic::x86_sse_cvttss2si || id == llvm::Intrinsic::x86_sse_cvttss2si64;
      const bool single = llvm::cast<llvm::FixedVectorType>(call.getArgOperand(0)->getType())->getElementType()->isFloatTy();
      emit(Op::ConvertToInteger, size, id_of(&call), operand(call.getArgOperand(0)), {}, (single ? 0x200u : 0x300u) | (truncate ? 0x2cu : 0x2du));
      return true;
    }
    case llvm::Intrinsic::umin: return two_conditions(kBelow, false);
    case llvm::Intrinsic::umax: return two_conditions(kAbove, false);
    case llvm::Intrinsic::smin: return two_conditions(kLess, true);
    case llvm::Intrinsic::smax: return two_conditions(kGreater, true);
    case llvm::Intrinsic::uadd_with_overflow:
    case llvm::Intrinsic::usub_with_overflow:
    case llvm::Intrinsic::ssub_with_overflow: {
      const auto& operation = llvm::cast<llvm::WithOverflowInst>(call);
      const unsigned bytes = size_of(operation.getLHS()->getType());
      if (!bytes) return refuse(call);
      const bool difference = operation.getBinaryOp() == llvm::Instruction::Sub;
      Operand left = operand(operation.getLHS()), right = operand(operation.getRHS());
      if (!left.is_value()) left = in_register(operation.getLHS());
      emit(Op::Arithmetic, std::max(bytes, 4u), id_of(&call), left, right, static_cast<u32>(difference ? Arithmetic::Subtract : Arithmetic::Add));
      return true;
    }
    case llvm::Intrinsic::bswap: {
      if (!size) return refuse(call);
      const ValueId result = id_of(&call);
      if (size >= 4) {
        emit(Op::SwapBytes, size, result, in_register(call.getArgOperand(0)));
        return true;
      }
      const ValueId swapped = temporary();
      emit(Op::SwapBytes, 4, swapped, in_register(call.getArgOperand(0)));
      emit(Op::Shift, 4, result, Operand::value(swapped), Operand::constant(16), static_cast<u32>(Shift::Right));
      return true;
    }
    case llvm::Intrinsic::ctpop:
      if (!size) return refuse(call);
      emit(Op::Count, wide, id_of(&call), Operand::value(zero_extended(call.getArgOperand(0))), {}, 0xb8);
      return true;
    case llvm::Intrinsic::cttz:
      if (size < 4) return refuse(call);
      emit(Op::Count, wide, id_of(&call), in_register(call.getArgOperand(0)), {}, 0xbc);
      return true;
    case llvm::Intrinsic::ctlz:
      if (size < 4) return refuse(call);
      emit(Op::Count, wide, id_of(&call), in_register(call.getArgOperand(0)), {}, 0xbd);
      return true;
    case llvm::Intrinsic::fshl:
    case llvm::Intrinsic::fshr: {
      const auto* count = llvm::dyn_cast<llvm::ConstantInt>(call.getArgOperand(2));
      if (size < 4 || !count) return refuse(call);
      const unsigned bits = size * 8;
      unsigned left = static_cast<unsigned>(count->getZExtValue() % bits);
      if (call.getIntrinsicID() == llvm::Intrinsic::fshr) left = (bits - left) % bits;
      const Operand high = in_register(call.getArgOperand(0)), low = in_register(call.getArgOperand(1));
      if (call.getArgOperand(0) == call.getArgOperand(1)) {
        emit(Op::Shift, size, id_of(&call), high, Operand::constant(left), static_cast<u32>(Shift::RotateLeft));
      } else {
        if (left == 0) return refuse(call);
        emit(Op::Funnel, size, id_of(&call), high, low).c = Operand::constant(left);
      }
      return true;
    }
    default: return refuse(call);
  }
}

// Products of two numbers of 64 bits.
const llvm::BinaryOperator* Selector::wide_product(const Value* value) {
  const auto* product = llvm::dyn_cast<llvm::BinaryOperator>(value);
  return product && product->getOpcode() == llvm::Instruction::Mul && product->getType()->isIntegerTy(128) ? product : nullptr;
}

bool Selector::select_wide(const llvm::Instruction& instruction) {
  const auto* product = wide_product(&instruction);
  if (!product) return instruction.getOpcode() == llvm::Instruction::LShr && wide_product(instruction.getOperand(0)) ? true : refuse(instruction);
  const auto factor = [&](unsigned index, bool& is_signed, bool& is_unsigned) -> Operand {
    if (const auto* number = llvm::dyn_cast<llvm::ConstantInt>(product->getOperand(index))) {
      const llvm::APInt& value = number->getValue();
      if (value.isNegative()) is_signed = true;
      else if (value.getActiveBits() == 64) is_unsigned = true;
      if (value.getSignificantBits() > 65 || (value.isNegative() && value.getSignificantBits() > 64)) return refuse(*product), Operand::constant(0);
      return Operand::value(make_number(static_cast<i64>(value.trunc(64).getZExtValue())));
    }
    const auto* cast = llvm::dyn_cast<llvm::CastInst>(product->getOperand(index));
    if (!cast || !size_of(cast->getSrcTy())) return refuse(*product), Operand::constant(0);
    const auto* zero_extension = llvm::dyn_cast<llvm::ZExtInst>(cast);
    const bool narrow = !cast->getSrcTy()->isIntegerTy(64);
    if (!zero_extension && !llvm::isa<llvm::SExtInst>(cast)) return refuse(*product), Operand::constant(0);
    if (zero_extension && !zero_extension->hasNonNeg() && !narrow) is_unsigned = true;
    if (!zero_extension) is_signed = true;
    return Operand::value(zero_extension ? zero_extended(cast->getOperand(0)) : sign_extended(cast->getOperand(0)));
  };
  bool is_signed = false, is_unsigned = false;
  const Operand a = factor(0, is_signed, is_unsigned), b = factor(1, is_signed, is_unsigned);
  if (is_signed && is_unsigned) return refuse(instruction);
  Insn& insn = emit(Op::MultiplyWide, 8, kNoValue, a, b, is_signed);
  const ValueId low = id_of(product), high = temporary();
  m_upper[product] = high;
  insn.result = low;
  insn.second = high;
  return true;
}

bool Selector::select_atomic(const llvm::Instruction& instruction) {
  if (const auto* exchange = llvm::dyn_cast<llvm::AtomicCmpXchgInst>(&instruction)) {
    const unsigned size = size_of(exchange->getNewValOperand()->getType());
    if (!size) return refuse(instruction);
    const Operand expected = in_register(exchange->getCompareOperand()), desired = in_register(exchange->getNewValOperand());
    const Operand where = memory(exchange->getPointerOperand());
    Insn& insn = emit(Op::CompareExchange, size, kNoValue, where, expected);
    insn.c = desired;
    const ValueId old = temporary(), success = temporary();
    insn.result = old;
    insn.second = success;
    m_parts[exchange] = {old, success, kNoValue};
    return true;
  }
  const auto& update = llvm::cast<llvm::AtomicRMWInst>(instruction);
  const unsigned size = size_of(update.getType());
  if (!size) return refuse(instruction);
  Op op = Op::LockedArithmetic;
  u32 kind = 0;
  Operand value = in_register(update.getValOperand());
  switch (update.getOperation()) {
    case llvm::AtomicRMWInst::Xchg: op = Op::Exchange; break;
    case llvm::AtomicRMWInst::Add: op = Op::ExchangeAdd; break;
    case llvm::AtomicRMWInst::Sub: {
      op = Op::ExchangeAdd;
      const ValueId negative = temporary();
      emit(Op::Negate, std::max(size, 4u), negative, value);
      value = Operand::value(negative);
      break;
    }
    case llvm::AtomicRMWInst::And: kind = static_cast<u32>(Arithmetic::And); break;
    case llvm::AtomicRMWInst::Or: kind = static_cast<u32>(Arithmetic::Or); break;
    case llvm::AtomicRMWInst::Xor: kind = static_cast<u32>(Arithmetic::Xor); break;
    default: return refuse(instruction);
  }
  if (op == Op::LockedArithmetic && !update.use_empty()) return refuse(instruction);
  const Operand where = memory(update.getPointerOperand());
  emit(op, size, op == Op::LockedArithmetic ? kNoValue : id_of(&update), where, value, kind);
  return true;
}

// The few statements of the semantics that no builtin can say.
bool Selector::select_assembler(const llvm::CallInst& call, const llvm::InlineAsm& assembler) {
  const llvm::StringRef text = assembler.getAsmString(), constraints = assembler.getConstraintString();
  if ((text == "divq $4" || text == "divl $4") && constraints.starts_with("={ax},={dx},{ax},{dx},r,")) {
    const Operand low = in_register(call.getArgOperand(0)), divisor = in_register(call.getArgOperand(2));
    const Operand high = operand(call.getArgOperand(1));
    Insn& insn = emit(Op::Divide, text == "divq $4" ? 8 : 4, kNoValue, low, divisor, 0);
    insn.c = high;
    const ValueId quotient = temporary(), remainder = temporary();
    insn.result = quotient;
    insn.second = remainder;
    m_parts[&call] = {quotient, remainder, kNoValue};
    return true;
  }
  if (text.empty() && call.getType()->isVoidTy()) return true;  // keeps its operand from being optimized away
  const bool quiet = text.starts_with("ucomis");
  const llvm::StringRef rest = text.drop_front(quiet ? 1 : 0);
  if ((rest.starts_with("comisd $4, $3\n") || rest.starts_with("comiss $4, $3\n")) && constraints.starts_with("=r,=r,=r,x,x,")) {
    const u32 prefix = rest.starts_with("comisd") ? 0x100 : 0;
    const Operand a = operand(call.getArgOperand(0)), b = operand(call.getArgOperand(1));
    Insn& insn = emit(Op::CompareFloats, 8, kNoValue, a, b, prefix | (quiet ? 0x2eu : 0x2fu));
    const std::array<ValueId, 3> flags = {temporary(), temporary(), temporary()};
    insn.result = flags[0];
    insn.second = flags[1];
    insn.third = flags[2];
    m_parts[&call] = flags;
    return true;
  }
  return refuse(call);
}

bool Selector::select_constrained(const llvm::ConstrainedFPIntrinsic& call) {
  const unsigned size = vector_size_of(call.getType());
  const u32 packed = call.getType()->isVectorTy() ? 1 : 0;
  const llvm::Type* lane = call.getType()->getScalarType();
  const u32 prefix = (packed ? (lane->isDoubleTy() ? 1u : 0u) : lane->isDoubleTy() ? 3u : 2u) << 8;
  const auto binary = [&](u32 code) {
    if (!size) return refuse(call);
    emit(Op::VectorBinary, size, id_of(&call), operand(call.getArgOperand(0)), operand(call.getArgOperand(1)), prefix | code);
    return true;
  };
  const Value* from = call.getArgOperand(0);
  switch (call.getIntrinsicID()) {
    case llvm::Intrinsic::experimental_constrained_fadd: return binary(0x58);
    case llvm::Intrinsic::experimental_constrained_fmul: return binary(0x59);
    case llvm::Intrinsic::experimental_constrained_fsub: return binary(0x5c);
    case llvm::Intrinsic::experimental_constrained_fdiv: return binary(0x5e);
    case llvm::Intrinsic::experimental_constrained_sqrt:
      if (!size) return refuse(call);
      emit(Op::VectorUnary, size, id_of(&call), operand(from), {}, prefix | 0x51);
      return true;
    case llvm::Intrinsic::experimental_constrained_fpext:
    case llvm::Intrinsic::experimental_constrained_fptrunc:
      if (packed || !size) return refuse(call);
      // The prefix is the source's.
      emit(Op::VectorUnary, size, id_of(&call), operand(from), {}, (from->getType()->isDoubleTy() ? 0x300u : 0x200u) | 0x5a);
      return true;
    case llvm::Intrinsic::experimental_constrained_sitofp: {
      const unsigned bytes = size_of(from->getType());
      if (packed || !size || bytes < 4) return refuse(call);
      emit(Op::ConvertFromInteger, bytes, id_of(&call), in_register(from), {}, prefix | 0x2a);
      return true;
    }
    default: return refuse(call);
  }
}

bool Selector::select_insert(const llvm::InsertElementInst& insert) {
  const auto* index = llvm::dyn_cast<llvm::ConstantInt>(insert.getOperand(2));
  const llvm::Type* lane = insert.getType()->getElementType();
  if (vector_size_of(insert.getType()) != 16 || !index) return refuse(insert);
  const u64 number = index->getZExtValue();
  const unsigned bytes = lane->getScalarSizeInBits() / 8;
  if (bytes < 4 || (lane->isFloatTy() && number) || number >= 16 / bytes) return refuse(insert);
  const Operand vector = operand(insert.getOperand(0));
  const Operand value = lane->isFloatingPointTy() ? operand(insert.getOperand(1)) : in_register(insert.getOperand(1));
  Operand element = value;
  if (lane->isFloatingPointTy() && value.is_number()) {
    element = Operand::value(temporary(true));
    emit(Op::VectorMove, 16, element.index, value);
  }
  emit(Op::InsertLane, bytes, id_of(&insert), vector, element).c = Operand::constant(static_cast<i64>(number));
  return true;
}

bool Selector::select_extract(const llvm::ExtractElementInst& extract) {
  if (root(&extract) != &extract) return true;
  const auto* index = llvm::dyn_cast<llvm::ConstantInt>(extract.getIndexOperand());
  const llvm::Type* lane = extract.getType();
  const unsigned bytes = lane->getScalarSizeInBits() / 8;
  if (vector_size_of(extract.getVectorOperandType()) != 16 || !index || bytes < 4 || lane->isFloatTy()) return refuse(extract);
  const u64 number = index->getZExtValue();
  if (number >= 16 / bytes || (lane->isDoubleTy() && number != 1)) return refuse(extract);
  emit(Op::ExtractLane, lane->isDoubleTy() ? 16 : bytes, id_of(&extract), operand(extract.getVectorOperand())).c = Operand::constant(static_cast<i64>(number));
  return true;
}

bool Selector::select_call(const llvm::CallInst& call) {
  if (const auto* constrained = llvm::dyn_cast<llvm::ConstrainedFPIntrinsic>(&call)) return select_constrained(*constrained);
  if (const auto* assembler = llvm::dyn_cast<llvm::InlineAsm>(call.getCalledOperand())) return select_assembler(call, *assembler);
  if (const auto* intrinsic = llvm::dyn_cast<llvm::IntrinsicInst>(&call)) return select_intrinsic(*intrinsic);
  const bool tail = call.isMustTailCall();
  Call made;
  const Value* callee = call.getCalledOperand();
  if (call.arg_size() > 6) return refuse(call);
  const Operand target = operand(callee);
  if (!target.is_number()) return refuse(call);
  made.target = reinterpret_cast<const void*>(target.number);
  made.preserves_most = call.getCallingConv() == llvm::CallingConv::PreserveMost;
  if (tail != (call.getCallingConv() == llvm::CallingConv::PreserveNone)) return refuse(call);
  if (!tail && !made.preserves_most && call.getCallingConv() != llvm::CallingConv::C) return refuse(call);
  for (unsigned i = 0; i < call.arg_size(); ++i) {
    const Value* argument = call.getArgOperand(i);
    const unsigned size = size_of(argument->getType());
    if (!size) return refuse(call);
    // Callees take narrow arguments as extended to 32 bits.
    if (size >= 4) made.arguments.push_back(operand(argument));
    else made.arguments.push_back(Operand::value(call.paramHasAttr(i, llvm::Attribute::SExt) ? sign_extended(argument) : zero_extended(argument)));
    if (made.arguments.back().is_memory()) made.arguments.back() = in_register(argument);
  }
  if (tail) {
    // The state stays where it is.
    if (made.arguments.size() != 2 || !made.arguments[0].is_value() || made.arguments[0].index != kState) return refuse(call);
    m_code.calls.push_back(std::move(made));
    emit(Op::TailCall, 8, kNoValue, {}, {}, static_cast<u32>(m_code.calls.size() - 1));
    return true;
  }
  if (!call.getType()->isVoidTy() && !size_of(call.getType())) return refuse(call);
  const bool has_result = !call.getType()->isVoidTy() && !call.use_empty();
  m_code.calls.push_back(std::move(made));
  emit(Op::Call, 8, has_result ? id_of(&call) : kNoValue, {}, {}, static_cast<u32>(m_code.calls.size() - 1));
  return true;
}

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

}  // namespace

std::expected<MachineCode, std::string> select_instructions(llvm::Function& function, const llvm::StringMap<const void*>& functions) {
  return Selector(function, functions).run();
}

}  // namespace vellum::x86_64
