// Instruction selection, one LLVM instruction after another. Addresses, compares, casts and loads with one user become operands
// of their users.
#pragma once

#include <array>
#include <bit>
#include <expected>
#include <optional>
#include <string>
#include <vector>

#include <llvm/ADT/DenseMap.h>
#include <llvm/ADT/StringMap.h>
#include <llvm/IR/Function.h>
#include <llvm/IR/InlineAsm.h>
#include <llvm/IR/Instructions.h>
#include <llvm/IR/IntrinsicInst.h>
#include <llvm/IR/Module.h>
#include <llvm/Support/raw_ostream.h>

#include "jit/optimizer/x86_64/machine_code.h"

namespace vellum::x86_64 {

using llvm::Value;

// Bytes of a value's type; 0: not one that general registers hold.
inline unsigned size_of(const llvm::Type* type) {
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

// Bytes of what one vector register holds: a float, or a vector of 16 or 32 bytes; 0: something else.
inline unsigned vector_size_of(const llvm::Type* type) {
  if (type->isFloatTy()) return 4;
  if (type->isDoubleTy()) return 8;
  const auto* vector = llvm::dyn_cast<llvm::FixedVectorType>(type);
  if (!vector) return 0;
  const unsigned bits = vector->getElementType()->getScalarSizeInBits();
  const unsigned bytes = bits >= 8 && bits <= 64 ? bits * vector->getNumElements() / 8 : 0;
  return bytes == 16 || bytes == 32 ? bytes : 0;
}
inline bool has_register(const llvm::Type* type) { return size_of(type) || vector_size_of(type); }

inline bool fits_i32(i64 value) { return value == static_cast<i32>(value); }

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
  bool select_narrowed(const llvm::BinaryOperator& operation, ValueId result);
  static const Value* sign_extension(const Value* value, unsigned& size);
  bool select_shift(const llvm::BinaryOperator& operation);
  bool select_call(const llvm::CallInst& call);
  bool select_rotate(const llvm::IntrinsicInst& call);
  bool select_intrinsic(const llvm::IntrinsicInst& call);
  bool select_x87(const llvm::CallInst& call);
  bool select_terminator(const llvm::Instruction& terminator);
  void branch(const Value* condition, bool negate, u32 target);
  u32 edge(const llvm::BasicBlock& from, const llvm::BasicBlock& to, bool only);
  std::vector<MoveValue> moves_for(const llvm::BasicBlock& from, const llvm::BasicBlock& to);
  Compare compare(const Value* condition, bool negate);

  static bool is_joined(const Value* condition);
  static const Value* negated_condition(const Value* value);
  static bool is_narrowed(const llvm::BinaryOperator& operation);
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
  bool select_vector_binary(const llvm::BinaryOperator& operation);
  bool select_vector_extreme(const llvm::IntrinsicInst& call);
  bool select_vector_compare(const llvm::CastInst& cast);
  bool select_vector_intrinsic(const llvm::IntrinsicInst& call);
  bool select_vector_shift(const llvm::BinaryOperator& operation);
  const Value* low_halves(const Value* value) const;
  Operand in_vector_register(const Value* value);
  bool select_shuffle(const llvm::ShuffleVectorInst& shuffle);
  bool select_wide_shuffle(const llvm::ShuffleVectorInst& shuffle);
  bool select_lane_shuffle(const llvm::ShuffleVectorInst& shuffle, llvm::ArrayRef<int> mask, unsigned size);
  bool put_shuffle(const llvm::ShuffleVectorInst& shuffle, unsigned size, const Operand& a, const Operand& b, u32 code, i64 immediate = -1);
  bool select_insert(const llvm::InsertElementInst& insert);
  bool select_extract(const llvm::ExtractElementInst& extract);
  u8 scale_of(const llvm::GetElementPtrInst& element) const {
    return static_cast<u8>(std::countr_zero(u64{m_layout.getTypeAllocSize(element.getSourceElementType())}));
  }
  bool is_folded_load(const llvm::LoadInst& load) const;
  bool is_folded_into(const llvm::LoadInst& load, const llvm::ICmpInst& compare) const;
  bool is_clean(const Value* value) const;
  bool is_clean_load(const llvm::PHINode& phi) const;
  const Value* root(const Value* value) const;
  ValueId id_of(const Value* value);
  Operand operand(const Value* value);
  Operand constant_vector(const llvm::Constant& vector);
  Operand in_register(const Value* value);
  Operand vector_value(const Value* value);
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
  i32 m_x87_buffer = -1;  // in the frame
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

}  // namespace vellum::x86_64
