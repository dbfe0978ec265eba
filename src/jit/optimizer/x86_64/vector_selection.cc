// Instruction selection on vector registers: constants, lanes, shuffles, packed integers, floats.
#include <algorithm>
#include <span>

#include <llvm/IR/IntrinsicsX86.h>

#include "jit/optimizer/x86_64/selector.h"

namespace vellum::x86_64 {

// Zero is a number, everything else is made in a register. Lanes that nobody cares for are zero.
Operand Selector::constant_vector(const llvm::Constant& vector) {
  const unsigned size = vector_size_of(vector.getType()), count = llvm::cast<llvm::FixedVectorType>(vector.getType())->getNumElements();
  const unsigned bits = size * 8 / count;
  std::array<u64, 4> words{};
  for (unsigned i = 0; i < count; ++i) {
    const llvm::Constant* lane = vector.getAggregateElement(i);
    if (!lane) return refuse(vector), Operand::constant(0);
    u64 number = 0;
    if (const auto* integer = llvm::dyn_cast<llvm::ConstantInt>(lane)) number = integer->getZExtValue();
    else if (const auto* real = llvm::dyn_cast<llvm::ConstantFP>(lane)) number = real->getValueAPF().bitcastToAPInt().getZExtValue();
    else if (!llvm::isa<llvm::UndefValue>(lane)) return refuse(vector), Operand::constant(0);
    words[i * bits / 64] |= number << (i * bits % 64);
  }
  const auto used = std::span(words).first(size / 8);
  if (std::ranges::all_of(used, [](u64 word) { return word == 0; })) return Operand::constant(0);
  const ValueId result = temporary(true);
  if (size == 32) m_code.vector_bytes = 32;
  if (std::ranges::all_of(used, [](u64 word) { return word == ~u64{0}; })) {  // VPCMPEQD
    emit(Op::VectorBinary, size, result, Operand::constant(0), Operand::constant(0), vector_code(1, 0x76));
    return Operand::value(result);
  }
  const auto half = [&](unsigned first) {
    const ValueId low = temporary(true), both = temporary(true);
    emit(Op::VectorMove, 16, low, Operand::constant(static_cast<i64>(words[first])));
    emit(Op::InsertLane, 8, both, Operand::value(low), Operand::constant(static_cast<i64>(words[first + 1]))).c = Operand::constant(1);
    return Operand::value(both);
  };
  if (size == 16) return half(0);
  const Operand low = half(0), high = half(2);
  emit(Op::VectorBinary, 32, result, low, high, vector_code(1, 0x18, 3)).c = Operand::constant(1);  // VINSERTF128
  return Operand::value(result);
}

// Of lanes of 64 bits, what they are the lower halves of; nullptr: the upper halves may not be zero.
const Value* Selector::low_halves(const Value* value) const {
  const auto* mask = llvm::dyn_cast<llvm::BinaryOperator>(root(value));
  if (!mask || mask->getOpcode() != llvm::Instruction::And || mask->getType() != value->getType()) return nullptr;
  const auto* number = llvm::dyn_cast<llvm::Constant>(mask->getOperand(1));
  const auto* lane = number ? llvm::dyn_cast_or_null<llvm::ConstantInt>(number->getSplatValue()) : nullptr;
  return lane && lane->equalsInt(0xffffffff) ? mask->getOperand(0) : nullptr;
}

// Never a number or memory.
Operand Selector::in_vector_register(const Value* value) {
  const Operand made = operand(value);
  if (made.is_value()) return made;
  const ValueId id = temporary(true);
  emit(Op::VectorMove, std::max(vector_size_of(value->getType()), 16u), id, made);
  return Operand::value(id);
}

bool Selector::select_vector_shift(const llvm::BinaryOperator& operation) {
  const unsigned bits = operation.getType()->getScalarSizeInBits();
  const auto* count = llvm::dyn_cast<llvm::Constant>(operation.getOperand(1));
  const auto* number = count ? llvm::dyn_cast_or_null<llvm::ConstantInt>(count->getSplatValue()) : nullptr;
  const bool arithmetic = operation.getOpcode() == llvm::Instruction::AShr;
  if (!number || bits == 8 || (arithmetic && bits == 64)) return refuse(operation);
  const u32 opcode = bits == 16 ? 0x71 : bits == 32 ? 0x72 : 0x73;
  const u32 extension = operation.getOpcode() == llvm::Instruction::Shl ? 6 : arithmetic ? 4 : 2;
  emit(Op::VectorShift, vector_size_of(operation.getType()), id_of(&operation), operand(operation.getOperand(0)),
       Operand::constant(static_cast<i64>(std::min<u64>(number->getZExtValue(), 255))), vector_code(1, opcode) | extension << 13);
  return true;
}

// Instructions that LLVM has an intrinsic for.
bool Selector::select_vector_intrinsic(const llvm::IntrinsicInst& call) {
  const unsigned size = vector_size_of(call.getType());
  const auto binary = [&](u32 code) {
    const Operand a = operand(call.getArgOperand(0)), b = operand(call.getArgOperand(1));
    emit(Op::VectorBinary, size, id_of(&call), a, b, code);
    return true;
  };
  const auto scalar = [&](unsigned bytes, u32 code) {  // the other lanes are the first operand's
    const Operand a = operand(call.getArgOperand(0)), b = operand(call.getArgOperand(1));
    emit(Op::VectorBinary, bytes, id_of(&call), a, b, code);
    return true;
  };
  const auto unary = [&](unsigned bytes, u32 code) {
    emit(Op::VectorUnary, bytes, id_of(&call), operand(call.getArgOperand(0)), {}, code);
    return true;
  };
  const auto sha = [&](u32 opcode) {
    const Operand a = in_vector_register(call.getArgOperand(0)), b = in_vector_register(call.getArgOperand(1));
    const Operand c = call.arg_size() == 3 ? in_vector_register(call.getArgOperand(2)) : Operand();
    emit(Op::Sha, 16, id_of(&call), a, b, opcode).c = c;
    return true;
  };
  switch (call.getIntrinsicID()) {
    case llvm::Intrinsic::fabs: {
      const bool single = call.getType()->getScalarType()->isFloatTy();
      const Operand a = operand(call.getArgOperand(0));
      llvm::Constant* mask = llvm::ConstantInt::get(llvm::Type::getIntNTy(call.getContext(), single ? 32 : 64), single ? 0x7fffffff : INT64_MAX);
      auto* lanes = llvm::ConstantVector::getSplat(llvm::ElementCount::getFixed(size / (single ? 4 : 8)), mask);
      emit(Op::VectorBinary, size, id_of(&call), a, constant_vector(*lanes), vector_code(1, 0xdb));
      return true;
    }
    case llvm::Intrinsic::x86_sse_min_ps: return binary(vector_code(0, 0x5d));
    case llvm::Intrinsic::x86_sse_max_ps: return binary(vector_code(0, 0x5f));
    case llvm::Intrinsic::x86_sse2_min_pd: return binary(vector_code(1, 0x5d));
    case llvm::Intrinsic::x86_sse2_max_pd: return binary(vector_code(1, 0x5f));
    case llvm::Intrinsic::x86_sse_min_ss: return scalar(4, vector_code(2, 0x5d));
    case llvm::Intrinsic::x86_sse_max_ss: return scalar(4, vector_code(2, 0x5f));
    case llvm::Intrinsic::x86_sse2_min_sd: return scalar(8, vector_code(3, 0x5d));
    case llvm::Intrinsic::x86_sse2_max_sd: return scalar(8, vector_code(3, 0x5f));
    case llvm::Intrinsic::x86_sse2_cvttps2dq: return unary(16, vector_code(2, 0x5b));
    case llvm::Intrinsic::x86_sse2_cvtps2dq: return unary(16, vector_code(1, 0x5b));
    case llvm::Intrinsic::x86_sse2_cvttpd2dq: return unary(16, vector_code(1, 0xe6));
    case llvm::Intrinsic::x86_sse2_cvtpd2dq: return unary(16, vector_code(3, 0xe6));
    case llvm::Intrinsic::x86_sse2_psad_bw:
    case llvm::Intrinsic::x86_avx2_psad_bw: return binary(vector_code(1, 0xf6));
    case llvm::Intrinsic::x86_sse2_pmadd_wd:
    case llvm::Intrinsic::x86_avx2_pmadd_wd: return binary(vector_code(1, 0xf5));
    case llvm::Intrinsic::x86_sse2_pmulh_w:
    case llvm::Intrinsic::x86_avx2_pmulh_w: return binary(vector_code(1, 0xe5));
    case llvm::Intrinsic::x86_sse2_pmulhu_w:
    case llvm::Intrinsic::x86_avx2_pmulhu_w: return binary(vector_code(1, 0xe4));
    case llvm::Intrinsic::x86_sse2_pavg_b:
    case llvm::Intrinsic::x86_avx2_pavg_b: return binary(vector_code(1, 0xe0));
    case llvm::Intrinsic::x86_sse2_pavg_w:
    case llvm::Intrinsic::x86_avx2_pavg_w: return binary(vector_code(1, 0xe3));
    case llvm::Intrinsic::x86_sse2_packsswb_128:
    case llvm::Intrinsic::x86_avx2_packsswb: return binary(vector_code(1, 0x63));
    case llvm::Intrinsic::x86_sse2_packuswb_128:
    case llvm::Intrinsic::x86_avx2_packuswb: return binary(vector_code(1, 0x67));
    case llvm::Intrinsic::x86_sse2_packssdw_128:
    case llvm::Intrinsic::x86_avx2_packssdw: return binary(vector_code(1, 0x6b));
    case llvm::Intrinsic::x86_sse41_packusdw:
    case llvm::Intrinsic::x86_avx2_packusdw: return binary(vector_code(1, 0x2b, 2));
    case llvm::Intrinsic::x86_ssse3_pshuf_b_128:
    case llvm::Intrinsic::x86_avx2_pshuf_b: return binary(vector_code(1, 0x00, 2));
    case llvm::Intrinsic::x86_ssse3_phadd_w_128:
    case llvm::Intrinsic::x86_avx2_phadd_w: return binary(vector_code(1, 0x01, 2));
    case llvm::Intrinsic::x86_ssse3_phadd_d_128:
    case llvm::Intrinsic::x86_avx2_phadd_d: return binary(vector_code(1, 0x02, 2));
    case llvm::Intrinsic::x86_ssse3_phadd_sw_128:
    case llvm::Intrinsic::x86_avx2_phadd_sw: return binary(vector_code(1, 0x03, 2));
    case llvm::Intrinsic::x86_ssse3_pmadd_ub_sw_128:
    case llvm::Intrinsic::x86_avx2_pmadd_ub_sw: return binary(vector_code(1, 0x04, 2));
    case llvm::Intrinsic::x86_ssse3_phsub_w_128:
    case llvm::Intrinsic::x86_avx2_phsub_w: return binary(vector_code(1, 0x05, 2));
    case llvm::Intrinsic::x86_ssse3_phsub_d_128:
    case llvm::Intrinsic::x86_avx2_phsub_d: return binary(vector_code(1, 0x06, 2));
    case llvm::Intrinsic::x86_ssse3_phsub_sw_128:
    case llvm::Intrinsic::x86_avx2_phsub_sw: return binary(vector_code(1, 0x07, 2));
    case llvm::Intrinsic::x86_ssse3_psign_b_128:
    case llvm::Intrinsic::x86_avx2_psign_b: return binary(vector_code(1, 0x08, 2));
    case llvm::Intrinsic::x86_ssse3_psign_w_128:
    case llvm::Intrinsic::x86_avx2_psign_w: return binary(vector_code(1, 0x09, 2));
    case llvm::Intrinsic::x86_ssse3_psign_d_128:
    case llvm::Intrinsic::x86_avx2_psign_d: return binary(vector_code(1, 0x0a, 2));
    case llvm::Intrinsic::x86_ssse3_pmul_hr_sw_128:
    case llvm::Intrinsic::x86_avx2_pmul_hr_sw: return binary(vector_code(1, 0x0b, 2));
    case llvm::Intrinsic::x86_avx2_permd: {  // the lanes' numbers come first
      const Operand numbers = operand(call.getArgOperand(1)), lanes = operand(call.getArgOperand(0));
      emit(Op::VectorBinary, 32, id_of(&call), numbers, lanes, vector_code(1, 0x36, 2));
      return true;
    }
    case llvm::Intrinsic::x86_aesni_aesenc: return binary(vector_code(1, 0xdc, 2));
    case llvm::Intrinsic::x86_aesni_aesenclast: return binary(vector_code(1, 0xdd, 2));
    case llvm::Intrinsic::x86_aesni_aesdec: return binary(vector_code(1, 0xde, 2));
    case llvm::Intrinsic::x86_aesni_aesdeclast: return binary(vector_code(1, 0xdf, 2));
    case llvm::Intrinsic::x86_aesni_aesimc: return unary(16, vector_code(1, 0xdb, 2));
    case llvm::Intrinsic::x86_pclmulqdq: {
      const auto* halves = llvm::dyn_cast<llvm::ConstantInt>(call.getArgOperand(2));
      if (!halves) return refuse(call);
      const Operand a = operand(call.getArgOperand(0)), b = operand(call.getArgOperand(1));
      emit(Op::VectorBinary, 16, id_of(&call), a, b, vector_code(1, 0x44, 3)).c = Operand::constant(static_cast<i64>(halves->getZExtValue()));
      return true;
    }
    case llvm::Intrinsic::x86_sha1nexte: return sha(0xc8);
    case llvm::Intrinsic::x86_sha1msg1: return sha(0xc9);
    case llvm::Intrinsic::x86_sha1msg2: return sha(0xca);
    case llvm::Intrinsic::x86_sha256rnds2: return sha(0xcb);
    case llvm::Intrinsic::x86_sha256msg1: return sha(0xcc);
    case llvm::Intrinsic::x86_sha256msg2: return sha(0xcd);
    case llvm::Intrinsic::umin:
    case llvm::Intrinsic::umax:
    case llvm::Intrinsic::smin:
    case llvm::Intrinsic::smax: return select_vector_extreme(call);
    case llvm::Intrinsic::sadd_sat:
    case llvm::Intrinsic::uadd_sat:
    case llvm::Intrinsic::ssub_sat:
    case llvm::Intrinsic::usub_sat: {
      const unsigned bits = call.getType()->getScalarSizeInBits();
      if (bits > 16) return refuse(call);
      const u32 first = call.getIntrinsicID() == llvm::Intrinsic::sadd_sat ? 0xec : call.getIntrinsicID() == llvm::Intrinsic::uadd_sat ? 0xdc
                      : call.getIntrinsicID() == llvm::Intrinsic::ssub_sat ? 0xe8 : 0xd8;
      return binary(vector_code(1, first + (bits == 16 ? 1 : 0)));
    }
    case llvm::Intrinsic::abs: {
      const unsigned bits = call.getType()->getScalarSizeInBits();
      return bits > 32 ? refuse(call) : unary(size, vector_code(1, 0x1c + static_cast<u32>(std::countr_zero(bits / 8)), 2));
    }
    default: return refuse(call);
  }
}

bool Selector::select_vector_binary(const llvm::BinaryOperator& operation) {
  const unsigned bits = operation.getType()->getScalarSizeInBits(), lane = static_cast<unsigned>(std::countr_zero(bits / 8));
  u32 code = 0;
  switch (operation.getOpcode()) {
    case llvm::Instruction::And: code = vector_code(1, 0xdb); break;
    case llvm::Instruction::Or: code = vector_code(1, 0xeb); break;
    case llvm::Instruction::Xor: code = vector_code(1, 0xef); break;
    case llvm::Instruction::Add: code = vector_code(1, std::array{0xfcu, 0xfdu, 0xfeu, 0xd4u}[lane]); break;
    case llvm::Instruction::Sub: code = vector_code(1, std::array{0xf8u, 0xf9u, 0xfau, 0xfbu}[lane]); break;
    case llvm::Instruction::Shl:
    case llvm::Instruction::LShr:
    case llvm::Instruction::AShr: return select_vector_shift(operation);
    case llvm::Instruction::Mul:
      if (bits == 64) {  // VPMULUDQ
        const Value *a = low_halves(operation.getOperand(0)), *b = low_halves(operation.getOperand(1));
        if (!a || !b) return refuse(operation);
        const Operand left = operand(a), right = operand(b);
        emit(Op::VectorBinary, vector_size_of(operation.getType()), id_of(&operation), left, right, vector_code(1, 0xf4));
        return true;
      }
      if (bits == 8) return refuse(operation);
      code = bits == 16 ? vector_code(1, 0xd5) : vector_code(1, 0x40, 2);
      break;
    default: return refuse(operation);
  }
  const Operand a = operand(operation.getOperand(0)), b = operand(operation.getOperand(1));
  emit(Op::VectorBinary, vector_size_of(operation.getType()), id_of(&operation), a, b, code);
  return true;
}

bool Selector::select_vector_extreme(const llvm::IntrinsicInst& call) {
  const unsigned bits = call.getType()->getScalarSizeInBits();
  if (bits > 32) return refuse(call);
  const usize lane = static_cast<usize>(std::countr_zero(bits / 8));
  u32 code = 0;
  switch (call.getIntrinsicID()) {
    case llvm::Intrinsic::umin: code = std::array{vector_code(1, 0xda), vector_code(1, 0x3a, 2), vector_code(1, 0x3b, 2)}[lane]; break;
    case llvm::Intrinsic::umax: code = std::array{vector_code(1, 0xde), vector_code(1, 0x3e, 2), vector_code(1, 0x3f, 2)}[lane]; break;
    case llvm::Intrinsic::smin: code = std::array{vector_code(1, 0x38, 2), vector_code(1, 0xea), vector_code(1, 0x39, 2)}[lane]; break;
    default: code = std::array{vector_code(1, 0x3c, 2), vector_code(1, 0xee), vector_code(1, 0x3d, 2)}[lane]; break;
  }
  const Operand a = operand(call.getArgOperand(0)), b = operand(call.getArgOperand(1));
  emit(Op::VectorBinary, vector_size_of(call.getType()), id_of(&call), a, b, code);
  return true;
}

// A comparison of vectors, widened to a mask of its lanes or gathered into a bit for each byte.
bool Selector::select_vector_compare(const llvm::CastInst& cast) {
  const auto* compare = llvm::dyn_cast<llvm::ICmpInst>(cast.getOperand(0));
  if (!compare) return refuse(cast);
  const Value *a = compare->getOperand(0), *b = compare->getOperand(1);
  const unsigned size = vector_size_of(a->getType()), bits = a->getType()->getScalarSizeInBits(), lane = static_cast<unsigned>(std::countr_zero(bits / 8));
  const bool gathered = llvm::isa<llvm::BitCastInst>(cast);
  if (size < 16 || (gathered && (bits != 8 || !size_of(cast.getType()))) || (!gathered && vector_size_of(cast.getType()) != size)) return refuse(cast);
  Operand mask;
  const auto* zero = llvm::dyn_cast<llvm::Constant>(b);
  if (gathered && compare->getPredicate() == llvm::CmpInst::ICMP_SLT && zero && zero->isNullValue()) {
    mask = operand(a);  // the sign bits are what is gathered
  } else {
    u32 code;
    bool swapped = false;
    switch (compare->getPredicate()) {
      case llvm::CmpInst::ICMP_EQ: code = bits == 64 ? vector_code(1, 0x29, 2) : vector_code(1, 0x74 + lane); break;
      case llvm::CmpInst::ICMP_SLT: swapped = true; [[fallthrough]];
      case llvm::CmpInst::ICMP_SGT: code = bits == 64 ? vector_code(1, 0x37, 2) : vector_code(1, 0x64 + lane); break;
      default: return refuse(cast);
    }
    const Operand left = operand(swapped ? b : a), right = operand(swapped ? a : b);
    const ValueId result = gathered ? temporary(true) : id_of(&cast);
    emit(Op::VectorBinary, size, result, left, right, code);
    mask = Operand::value(result);
  }
  if (gathered) {
    emit(Op::ConvertToInteger, size == 32 ? 32 : 4, id_of(&cast), mask, {}, vector_code(1, 0xd7));
    if (size == 32) m_code.vector_bytes = 32;
  }
  return true;
}

namespace {

// Whether each lane that matters is what the function says, by index.
template <class Lane>
bool takes(llvm::ArrayRef<int> mask, Lane lane) {
  for (int i = 0; i < static_cast<int>(mask.size()); ++i)
    if (mask[static_cast<usize>(i)] >= 0 && mask[static_cast<usize>(i)] != lane(i)) return false;
  return true;
}

// The lanes that 32 bytes take within 16 bytes, where both halves do the same with their own; empty where they do not.
llvm::SmallVector<int, 16> lanes_of_halves(llvm::ArrayRef<int> mask) {
  const int count = static_cast<int>(mask.size()), half = count / 2;
  llvm::SmallVector<int, 16> both(static_cast<usize>(half), -1);
  for (int i = 0; i < count; ++i) {
    const int lane = mask[static_cast<usize>(i)];
    if (lane < 0) continue;
    const int within = lane % half + (lane >= count ? half : 0);
    int& known = both[static_cast<usize>(i % half)];
    if (lane % count / half != i / half || (known >= 0 && known != within)) return {};
    known = within;
  }
  return both;
}

}  // namespace

// An instruction of two sources, or of one.
bool Selector::put_shuffle(const llvm::ShuffleVectorInst& shuffle, unsigned size, const Operand& a, const Operand& b, u32 code, i64 immediate) {
  Insn& insn = emit(b.kind == Operand::Kind::None ? Op::VectorUnary : Op::VectorBinary, size, id_of(&shuffle), a, b, code);
  if (immediate >= 0) insn.c = Operand::constant(immediate);
  return true;
}

bool Selector::select_shuffle(const llvm::ShuffleVectorInst& shuffle) {
  const unsigned to = vector_size_of(shuffle.getType()), from = vector_size_of(shuffle.getOperand(0)->getType());
  if (to < 16 || from < 16) return refuse(shuffle);
  const llvm::ArrayRef<int> mask = shuffle.getShuffleMask();
  const int count = static_cast<int>(llvm::cast<llvm::FixedVectorType>(shuffle.getOperand(0)->getType())->getNumElements());
  const unsigned bits = shuffle.getType()->getScalarSizeInBits();
  const Value *first = shuffle.getOperand(0), *second = shuffle.getOperand(1);
  if (takes(mask, [](int i) { return i; }) && (to <= from || llvm::all_of(mask.drop_front(static_cast<usize>(count)), [](int lane) { return lane < 0; }))) {
    emit(Op::VectorMove, std::max(to, from), id_of(&shuffle), operand(first));
    return true;
  }
  if (takes(mask, [](int) { return 0; })) {
    const unsigned opcode = bits == 8 ? 0x78 : bits == 16 ? 0x79 : bits == 32 ? 0x58 : 0x59;
    return put_shuffle(shuffle, to, operand(first), {}, vector_code(1, opcode, 2));
  }
  if (from == 32 && to == 16) {
    if (!takes(mask, [&](int i) { return count / 2 + i; })) return refuse(shuffle);
    emit(Op::ExtractLane, 32, id_of(&shuffle), operand(first)).c = Operand::constant(1);
    return true;
  }
  if (from == 16 && to == 32) {
    if (takes(mask, [&](int i) { return i; })) return put_shuffle(shuffle, 32, operand(first), operand(second), vector_code(1, 0x18, 3), 1);
    if (takes(mask, [&](int i) { return i % count; })) return put_shuffle(shuffle, 32, operand(first), operand(first), vector_code(1, 0x18, 3), 1);
    return refuse(shuffle);
  }
  return to == 32 ? select_wide_shuffle(shuffle) : select_lane_shuffle(shuffle, mask, 16);
}

// From 32 bytes to 32 bytes.
bool Selector::select_wide_shuffle(const llvm::ShuffleVectorInst& shuffle) {
  const llvm::ArrayRef<int> mask = shuffle.getShuffleMask();
  const unsigned bits = shuffle.getType()->getScalarSizeInBits();
  const Value *first = shuffle.getOperand(0), *second = shuffle.getOperand(1);
  if (bits == 64) {
    i64 from_second = 0, permutation = 0, odd = 0;
    bool blends = true, one = true, alternates = true;
    for (usize i = 0; i < 4; ++i) {
      if (mask[i] < 0) continue;
      blends &= mask[i] % 4 == static_cast<int>(i);
      one &= mask[i] < 4;
      alternates &= mask[i] / 4 == static_cast<int>(i % 2) && mask[i] % 4 / 2 == static_cast<int>(i / 2);
      from_second |= (mask[i] >= 4 ? i64{1} : 0) << i;
      permutation |= static_cast<i64>(mask[i] % 4) << 2 * i;
      odd |= static_cast<i64>(mask[i] % 2) << i;
    }
    if (blends) return put_shuffle(shuffle, 32, operand(first), operand(second), vector_code(1, 0x0d, 3), from_second);
    if (takes(mask, [](int i) { return i < 2 ? i : i + 2; })) return put_shuffle(shuffle, 32, operand(first), operand(second), vector_code(1, 0x18, 3), 1);
    if (one) return put_shuffle(shuffle, 32, operand(first), {}, vector_code(1, 0x00, 3, true), permutation);
    if (alternates) return put_shuffle(shuffle, 32, operand(first), operand(second), vector_code(1, 0xc6), odd);
    const auto half = [&](usize i) -> i64 { return std::max(mask[i], mask[i + 1]) / 2; };
    if (takes(mask, [&](int i) { return static_cast<int>(2 * half(static_cast<usize>(i & ~1))) + i % 2; }))  // VPERM2I128
      return put_shuffle(shuffle, 32, operand(first), operand(second), vector_code(1, 0x46, 3), half(0) | half(2) << 4);
  }
  if (bits == 32 && takes(mask, [&](int i) { return mask[static_cast<usize>(i)] % 8 == i ? mask[static_cast<usize>(i)] : -1; })) {  // VPBLENDD
    i64 from_second = 0;
    for (usize i = 0; i < 8; ++i) from_second |= i64{mask[i] >= 8} << i;
    return put_shuffle(shuffle, 32, operand(first), operand(second), vector_code(1, 0x02, 3), from_second);
  }
  const auto lanes = lanes_of_halves(mask);
  return lanes.empty() ? refuse(shuffle) : select_lane_shuffle(shuffle, lanes, 32);
}

// Within 16 bytes, or alike within each half of 32. The mask is that of one such part.
bool Selector::select_lane_shuffle(const llvm::ShuffleVectorInst& shuffle, llvm::ArrayRef<int> mask, unsigned size) {
  const int count = static_cast<int>(mask.size());
  const unsigned bits = shuffle.getType()->getScalarSizeInBits();
  const Value *first = shuffle.getOperand(0), *second = shuffle.getOperand(1);
  const auto put = [&](const Operand& a, const Operand& b, u32 code, i64 immediate = -1) { return put_shuffle(shuffle, size, a, b, code, immediate); };
  const auto lane_of = [&](usize i) { return mask[i] < 0 ? 0 : mask[i]; };
  if (bits == 64) {
    const Value* low = lane_of(0) < 2 ? first : second;
    const Value* high = mask[1] < 0 ? low : lane_of(1) < 2 ? first : second;
    const int odd = (lane_of(0) & 1) | (lane_of(1) & 1) << 1;
    return put(operand(low), operand(high), vector_code(1, 0xc6), size == 32 ? odd * 5 : odd);
  }
  // Each lane stays in its place.
  if (takes(mask, [&](int i) { return mask[static_cast<usize>(i)] % count == i ? mask[static_cast<usize>(i)] : -1; }) && bits >= 16) {
    i64 from_second = 0;
    for (int i = 0; i < count; ++i) from_second |= i64{mask[static_cast<usize>(i)] >= count} << i;
    if (bits == 32) from_second |= size == 32 ? from_second << 4 : 0;
    return put(operand(first), operand(second), bits == 16 ? vector_code(1, 0x0e, 3) : vector_code(1, 0x02, 3), from_second);
  }
  if (llvm::any_of(mask, [&](int i) { return i < count; }) && llvm::any_of(mask, [&](int i) { return i >= count; })) {  // sixteen bytes in a row out of both
    for (int k = 1; k < count; ++k)
      if (takes(mask, [&](int i) { return i + k; })) return put(operand(second), operand(first), vector_code(1, 0x0f, 3), k * static_cast<int>(bits) / 8);
  }
  // The lower or upper halves, lane by lane.
  const Value* other = takes(mask, [&](int i) { return i / 2 + (i & 1 ? count : 0); }) || takes(mask, [&](int i) { return count / 2 + i / 2 + (i & 1 ? count : 0); }) ? second : first;
  const int step = other == second ? count : 0;
  const unsigned lane = static_cast<unsigned>(std::countr_zero(bits / 8));
  if (takes(mask, [&](int i) { return i / 2 + (i & 1 ? step : 0); })) return put(operand(first), operand(other), vector_code(1, 0x60 + lane));
  if (takes(mask, [&](int i) { return count / 2 + i / 2 + (i & 1 ? step : 0); })) return put(operand(first), operand(other), vector_code(1, 0x68 + lane));
  if (bits == 32) {
    const auto chosen = [&] {
      i64 number = 0;
      for (usize i = 0; i < 4; ++i) number |= static_cast<i64>(lane_of(i) & 3) << 2 * i;
      return number;
    };
    if (llvm::all_of(mask, [](int i) { return i < 4; })) return put(operand(first), {}, vector_code(1, 0x70), chosen());
    if (llvm::all_of(mask, [](int i) { return i < 0 || i >= 4; })) return put(operand(second), {}, vector_code(1, 0x70), chosen());
    const auto source_of = [&](usize i) { return mask[i] < 0 ? -1 : mask[i] / 4; };
    const auto pair = [&](usize i) { return source_of(i) < 0 ? source_of(i + 1) : source_of(i + 1) < 0 || source_of(i + 1) == source_of(i) ? source_of(i) : 2; };
    if (pair(0) == 2 || pair(2) == 2) return refuse(shuffle);
    return put(operand(pair(0) == 1 ? second : first), operand(pair(2) == 1 ? second : first), vector_code(0, 0xc6), chosen());
  }
  if (bits == 16) {  // four of one half, the other half stays
    const auto half = [&](int begin) {
      i64 number = 0;
      for (int i = 0; i < 4; ++i) number |= i64{std::max(mask[static_cast<usize>(begin + i)], begin) - begin} << 2 * i;
      return number;
    };
    const auto within = [&](int begin) { return llvm::all_of(mask.slice(static_cast<usize>(begin), 4), [&](int from) { return from < 0 || (from >= begin && from < begin + 4); }); };
    const auto stays = [&](int begin) { return takes(mask, [&](int i) { return i / 4 == begin / 4 ? i : mask[static_cast<usize>(i)]; }); };
    if (within(0) && stays(4)) return put(operand(first), {}, vector_code(3, 0x70), half(0));
    if (within(4) && stays(0)) return put(operand(first), {}, vector_code(2, 0x70), half(4));
  }
  return refuse(shuffle);
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

// No number.
Operand Selector::vector_value(const Value* value) {
  const Operand given = operand(value);
  if (given.is_value()) return given;
  const Operand moved = Operand::value(temporary(true));
  emit(Op::VectorMove, 16, moved.index, given);
  return moved;
}

bool Selector::select_insert(const llvm::InsertElementInst& insert) {
  const auto* index = llvm::dyn_cast<llvm::ConstantInt>(insert.getOperand(2));
  const llvm::Type* lane = insert.getType()->getElementType();
  if (vector_size_of(insert.getType()) < 16 || !index) return refuse(insert);
  const u64 number = index->getZExtValue();
  const unsigned bytes = lane->getScalarSizeInBits() / 8;
  if (llvm::isa<llvm::UndefValue>(insert.getOperand(0)) && number == 0) {  // the others' lanes may be anything
    if (lane->isFloatingPointTy()) emit(Op::VectorMove, 16, id_of(&insert), operand(insert.getOperand(1)));
    else emit(Op::ToVector, std::max(bytes, 4u), id_of(&insert), in_register(insert.getOperand(1)));
    return true;
  }
  if (vector_size_of(insert.getType()) != 16) return refuse(insert);
  if (bytes < 1 || (lane->isFloatTy() && number) || number >= 16 / bytes) return refuse(insert);
  const Operand vector = operand(insert.getOperand(0));
  const Operand element = lane->isFloatingPointTy() ? vector_value(insert.getOperand(1)) : in_register(insert.getOperand(1));
  emit(Op::InsertLane, bytes, id_of(&insert), vector, element).c = Operand::constant(static_cast<i64>(number));
  return true;
}

bool Selector::select_extract(const llvm::ExtractElementInst& extract) {
  if (root(&extract) != &extract) return true;
  const auto* index = llvm::dyn_cast<llvm::ConstantInt>(extract.getIndexOperand());
  const llvm::Type* lane = extract.getType();
  const unsigned bytes = lane->getScalarSizeInBits() / 8;
  if (vector_size_of(extract.getVectorOperandType()) < 16 || !index || bytes < 1 || lane->isFloatTy()) return refuse(extract);
  const u64 number = index->getZExtValue();
  if (number >= 16 / bytes || (lane->isDoubleTy() && number != 1)) return refuse(extract);
  emit(Op::ExtractLane, lane->isDoubleTy() ? 16 : bytes, id_of(&extract), operand(extract.getVectorOperand())).c = Operand::constant(static_cast<i64>(number));
  return true;
}

}  // namespace vellum::x86_64
