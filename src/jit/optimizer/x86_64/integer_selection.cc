// Instruction selection on general registers: arithmetic, wide products, atomic accesses, calls, the host's x87.
#include <algorithm>

#include <llvm/IR/IntrinsicsX86.h>

#include "jit/optimizer/x86_64/selector.h"

namespace vellum::x86_64 {

// What an arithmetic shift to the right extends that takes back a shift to the left; `size`: bytes that are left.
const Value* Selector::sign_extension(const Value* value, unsigned& size) {
  const auto* right = llvm::dyn_cast<llvm::BinaryOperator>(value);
  if (!right || right->getOpcode() != llvm::Instruction::AShr || size_of(right->getType()) < 4) return nullptr;
  const auto* left = llvm::dyn_cast<llvm::BinaryOperator>(right->getOperand(0));
  const auto* count = llvm::dyn_cast<llvm::ConstantInt>(right->getOperand(1));
  if (!left || !count || left->getOpcode() != llvm::Instruction::Shl || left->getOperand(1) != count || !left->hasOneUse()) return nullptr;
  const unsigned bits = size_of(right->getType()) * 8 - static_cast<unsigned>(count->getZExtValue());
  if (bits != 8 && bits != 16 && (bits != 32 || size_of(right->getType()) == 4)) return nullptr;
  if (llvm::isa<llvm::Constant>(left->getOperand(0))) return nullptr;
  size = bits / 8;
  return left->getOperand(0);
}

bool Selector::select_shift(const llvm::BinaryOperator& operation) {
  const unsigned size = size_of(operation.getType());
  unsigned extended_size = 0;
  if (const Value* extended = sign_extension(&operation, extended_size)) {
    emit(Op::SignExtend, extended_size, id_of(&operation), in_register(extended), {}, size);
    return true;
  }
  if (operation.hasOneUse() && operation.user_back()->getOperand(0) == &operation && sign_extension(operation.user_back(), extended_size))
    return true;  // it is made there
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
  if (vector_size_of(operation.getType()) >= 16) return select_vector_binary(operation);
  if (!size) return refuse(operation);
  if (is_deferred(operation) || is_narrowed(operation)) return true;
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
        if (const auto* narrowed = llvm::dyn_cast<llvm::BinaryOperator>(a); narrowed && is_narrowed(*narrowed)) return select_narrowed(*narrowed, result);
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

// The lower 32 bits, the others cleared.
bool Selector::select_narrowed(const llvm::BinaryOperator& operation, ValueId result) {
  Operand left = operand(operation.getOperand(0)), right = operand(operation.getOperand(1));
  if (operation.isCommutative() && left.is_number()) std::swap(left, right);
  if (left.is_number()) left = Operand::value(make_number(left.number));
  if (right.is_number()) right.number = static_cast<i32>(right.number);
  const Arithmetic kind = operation.getOpcode() == llvm::Instruction::Add   ? Arithmetic::Add
                          : operation.getOpcode() == llvm::Instruction::Sub ? Arithmetic::Subtract
                          : operation.getOpcode() == llvm::Instruction::Or  ? Arithmetic::Or
                                                                            : Arithmetic::Xor;
  emit(Op::Arithmetic, 4, result, left, right, static_cast<u32>(kind));
  return true;
}

// By a number that is not known before.
bool Selector::select_rotate(const llvm::IntrinsicInst& call) {
  if (call.getArgOperand(0) != call.getArgOperand(1)) return refuse(call);
  const unsigned size = size_of(call.getType()), bits = size * 8;
  const bool to_left = call.getIntrinsicID() == llvm::Intrinsic::fshl;
  ValueId right = zero_extended(call.getArgOperand(2));
  if (to_left) {
    const ValueId negated = temporary();
    emit(Op::Negate, 4, negated, Operand::value(right));
    right = negated;
  }
  const ValueId count = temporary();
  emit(Op::Arithmetic, 4, count, Operand::value(right), Operand::constant(bits - 1), static_cast<u32>(Arithmetic::And));
  if (size >= 4) {  // the two parts; a count of 0 has all bits in both
    const Operand value = in_register(call.getArgOperand(0));
    const ValueId left = temporary(), lower = temporary(), upper = temporary();
    emit(Op::Negate, 4, left, Operand::value(count));
    emit(Op::ShiftVariable, size, lower, value, Operand::value(count), static_cast<u32>(Shift::Right));
    emit(Op::ShiftVariable, size, upper, value, Operand::value(left), static_cast<u32>(Shift::Left));
    emit(Op::Arithmetic, size, id_of(&call), Operand::value(lower), Operand::value(upper), static_cast<u32>(Arithmetic::Or));
    return true;
  }
  // Copies side by side hold every rotation.
  const ValueId value = zero_extended(call.getArgOperand(0)), moved = temporary(), both = temporary();
  emit(Op::Shift, 4, moved, Operand::value(value), Operand::constant(bits), static_cast<u32>(Shift::Left));
  emit(Op::Arithmetic, 4, both, Operand::value(moved), Operand::value(value), static_cast<u32>(Arithmetic::Or));
  emit(Op::ShiftVariable, 4, id_of(&call), Operand::value(both), Operand::value(count), static_cast<u32>(Shift::Right));
  return true;
}

bool Selector::select_intrinsic(const llvm::IntrinsicInst& call) {
  if (vector_size_of(call.getType()) >= 16) return select_vector_intrinsic(call);
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
    case llvm::Intrinsic::vector_reduce_or: {
      const Value* lanes = call.getArgOperand(0);
      const unsigned bytes = vector_size_of(lanes->getType());
      if (bytes < 16 || size != 8) return refuse(call);
      Operand all = in_vector_register(lanes);
      if (bytes == 32) {
        const ValueId upper = temporary(true), both = temporary(true);
        emit(Op::ExtractLane, 32, upper, all).c = Operand::constant(1);
        emit(Op::VectorBinary, 16, both, all, Operand::value(upper), vector_code(1, 0xeb));
        all = Operand::value(both);
      }
      const ValueId low = temporary(), high = temporary();
      emit(Op::FromVector, 8, low, all);
      emit(Op::ExtractLane, 8, high, all).c = Operand::constant(1);
      emit(Op::Arithmetic, 8, id_of(&call), Operand::value(low), Operand::value(high), static_cast<u32>(Arithmetic::Or));
      return true;
    }
    case llvm::Intrinsic::abs: {
      if (size < 4) return refuse(call);
      const Operand value = in_register(call.getArgOperand(0));
      const ValueId negated = temporary();
      emit(Op::Negate, size, negated, value);
      Insn& insn = emit(Op::Select, size, id_of(&call), value, Operand::constant(0), size);
      insn.condition = kLess;
      insn.c = Operand::value(negated);
      insn.d = value;
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
      if (!size || (size < 4 && call.getArgOperand(0) != call.getArgOperand(1))) return refuse(call);
      const unsigned bits = size * 8;
      if (!count) return select_rotate(call);
      unsigned left = static_cast<unsigned>(count->getZExtValue() % bits);
      if (call.getIntrinsicID() == llvm::Intrinsic::fshr) left = (bits - left) % bits;
      if (size < 4) {  // two of it side by side hold every rotation
        const ValueId value = zero_extended(call.getArgOperand(0)), upper = temporary(), both = temporary();
        emit(Op::Shift, 4, upper, Operand::value(value), Operand::constant(bits), static_cast<u32>(Shift::Left));
        emit(Op::Arithmetic, 4, both, Operand::value(upper), Operand::value(value), static_cast<u32>(Arithmetic::Or));
        emit(Op::Shift, 4, id_of(&call), Operand::value(both), Operand::constant(bits - left), static_cast<u32>(Shift::Right));
        return true;
      }
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

// Vectors --------------------------------------------------------------------------------------------------------------
// Opcodes: SDM vol. 2, VPADD, VPSUB, VPMULLW, VPCMPEQ, VPCMPGT, VPMIN, VPMAX, VPMOVMSKB, VPSHUFD, VSHUFPS, VSHUFPD, VPUNPCKL, VPUNPCKH,
// VPALIGNR, VPBROADCAST, VPERMQ, VBLENDPD, VINSERTF128.

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

// cpu/semantics/x87_on_host.h
bool Selector::select_x87(const llvm::CallInst& call) {
  const llvm::StringRef name = call.getCalledFunction()->getName();
  const auto* code = llvm::dyn_cast<llvm::ConstantInt>(call.getArgOperand(0));
  if (!code) return refuse(call);
  const u32 extra = static_cast<u32>(code->getZExtValue());
  const auto value = [&](unsigned i) {
    const Operand given = operand(call.getArgOperand(i));
    return given.is_memory() ? in_register(call.getArgOperand(i)) : given;
  };
  const auto buffer = [&] {
    if (m_x87_buffer < 0) {
      m_x87_buffer = static_cast<i32>(m_code.frame_bytes);
      m_code.frame_bytes += 16;
    }
    m_code.addresses.push_back({kFrame, kNoValue, 0, m_x87_buffer});
    return Operand::memory(static_cast<i32>(m_code.addresses.size() - 1));
  };
  if (name == "vellum_x87") {
    emit(Op::X87, 8, kNoValue, {}, {}, extra);
  } else if (name.starts_with("vellum_x87_load_")) {
    const bool extended = call.arg_size() == 3;
    const Operand low = value(1), high = extended ? value(2) : Operand{}, memory = buffer();
    emit(Op::X87Load, extended ? 10 : size_of(call.getArgOperand(1)->getType()), kNoValue, low, high, extra).c = memory;
  } else if (name == "vellum_x87_store") {
    emit(Op::X87Store, 8, kNoValue, in_register(call.getArgOperand(1)), {}, extra);
  } else if (name == "vellum_x87_word") {
    const Operand memory = buffer();
    emit(Op::X87Word, 2, id_of(&call), {}, {}, extra).c = memory;
  } else if (name == "vellum_x87_compare") {
    emit(Op::X87Compare, 4, id_of(&call), {}, {}, extra);
  } else if (name == "vellum_x87_move_if") {
    emit(Op::X87MoveIf, 4, kNoValue, value(1), {}, extra);
  } else {
    return refuse(call);
  }
  return true;
}

bool Selector::select_call(const llvm::CallInst& call) {
  if (const auto* constrained = llvm::dyn_cast<llvm::ConstrainedFPIntrinsic>(&call)) return select_constrained(*constrained);
  if (const auto* assembler = llvm::dyn_cast<llvm::InlineAsm>(call.getCalledOperand())) return select_assembler(call, *assembler);
  if (const auto* intrinsic = llvm::dyn_cast<llvm::IntrinsicInst>(&call)) return select_intrinsic(*intrinsic);
  if (const llvm::Function* callee = call.getCalledFunction(); callee && callee->getName().starts_with("vellum_x87")) return select_x87(call);
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
    if (vector_size_of(argument->getType()) == 16 && !tail) {
      made.arguments.push_back(vector_value(argument));
      continue;
    }
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
  // Nor packed floats' NaNs: LLVM's loops of such are worth what they cost.
  if (!call.getType()->isVoidTy() && !size_of(call.getType())) return refuse(call);
  const bool has_result = !call.getType()->isVoidTy() && !call.use_empty();
  m_code.calls.push_back(std::move(made));
  emit(Op::Call, 8, has_result ? id_of(&call) : kNoValue, {}, {}, static_cast<u32>(m_code.calls.size() - 1));
  return true;
}

}  // namespace vellum::x86_64
