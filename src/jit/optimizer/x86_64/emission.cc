// Each instruction's bytes, wherever its operands live.
#include "jit/optimizer/x86_64/emitter.h"

#include <algorithm>
#include <cstdlib>

namespace vellum::x86_64 {

namespace {

constexpr Register kArguments[] = {kRdi, kRsi, kRdx, kRcx, kR8, kR9};
constexpr u32 kCallerSaved = 1u << kRax | 1u << kRcx | 1u << kRdx | 1u << kRsi | 1u << kRdi | 1u << kR8 | 1u << kR9 | 1u << kR10 | 1u << kR11;
constexpr i64 kReach = i64{1} << 30;  // bytes, of relative jumps, with room to spare

bool fits_i32(i64 value) { return value == static_cast<i32>(value); }
bool reads(const Place& place, Register r) {
  if (!place.in_memory) return place.reg == r;
  return place.address.base == r || place.address.index == r;
}

}  // namespace

bool Emitter::is_near(const void* target) const {
  return std::llabs(static_cast<const char*>(target) - static_cast<const char*>(m_near)) < kReach;
}

Place Emitter::place_of(ValueId id) const {
  const usize v = static_cast<usize>(id);
  if (m_allocation.reg[v] >= 0) return static_cast<Register>(m_allocation.reg[v]);
  const u32 slot = static_cast<u32>(m_allocation.slot[v]);
  return frame(m_code.is_vector[v] ? m_vector_slots + m_code.vector_bytes * slot : kSlotSize * slot);
}

// May use both scratch registers, and leaves at most the second one in use.
Address Emitter::resolve(const ValueAddress& address) {
  Address result{kNone, kNone, address.scale, address.displacement};
  if (address.base == kFrame) {
    result.base = kRsp;
    result.displacement += static_cast<i32>(m_variables);
  } else {
    const Place base = place_of(address.base);
    if (base.in_memory) m_asm.move(8, kSecondScratch, base);
    result.base = base.in_memory ? kSecondScratch : base.reg;
  }
  if (address.index == kNoValue) return result;
  const Place index = place_of(address.index);
  if (!index.in_memory) {
    result.index = index.reg;
    return result;
  }
  m_asm.move(8, kScratch, index);
  result.index = kScratch;
  m_asm.load_address(8, kSecondScratch, result);
  return {kSecondScratch, kNone, 0, 0};
}

Emitter::Source Emitter::source(const Operand& operand) {
  Source result;
  if (operand.is_number()) {
    result.is_number = true;
    result.number = operand.number;
  } else if (operand.is_value()) {
    result.place = place_of(operand.index);
  } else {
    result.place = resolve(m_code.addresses[static_cast<usize>(operand.index)]);
  }
  return result;
}

Register Emitter::in_register(const Source& source, Register scratch, unsigned size) {
  if (!source.is_number && !source.place.in_memory) return source.place.reg;
  if (source.is_number) m_asm.move(scratch, static_cast<u64>(source.number));
  else m_asm.move(size, scratch, source.place);
  return scratch;
}

void Emitter::move(const Place& to, const Source& from, Register scratch) {
  if (!from.is_number && same(to, from.place)) return;
  if (!to.in_memory) {
    if (from.is_number) m_asm.move(to.reg, static_cast<u64>(from.number));
    else m_asm.move(8, to.reg, from.place);
  } else if (from.is_number && fits_i32(from.number)) {
    m_asm.store(8, to.address, static_cast<i32>(from.number));
  } else {
    m_asm.store(8, to.address, in_register(from, scratch));
  }
}

void Emitter::compare(const Insn& insn) {
  Source a = source(insn.a), b = source(insn.b);
  if (b.is_number && (insn.size == 8 && !fits_i32(b.number))) b.place = in_register(b, kSecondScratch), b.is_number = false;
  if (b.is_number) {
    const i32 number = insn.size == 1 ? static_cast<i8>(b.number) : insn.size == 2 ? static_cast<i16>(b.number) : static_cast<i32>(b.number);
    if (insn.test) m_asm.test(insn.size, a.place, number);
    else if (number == 0 && !a.place.in_memory) m_asm.test(insn.size, a.place, a.place.reg);
    else m_asm.arithmetic(Arithmetic::Compare, insn.size, a.place, number);
    return;
  }
  if (a.place.in_memory && b.place.in_memory) a.place = in_register(a, kScratch);
  if (insn.test) {
    if (b.place.in_memory) m_asm.test(insn.size, b.place, a.place.reg);
    else m_asm.test(insn.size, a.place, b.place.reg);
  } else if (a.place.in_memory) {
    m_asm.arithmetic(Arithmetic::Compare, insn.size, a.place.address, b.place.reg);
  } else {
    m_asm.arithmetic(Arithmetic::Compare, insn.size, a.place.reg, b.place);
  }
}

void Emitter::arithmetic(const Insn& insn) {
  const bool multiply = insn.op == Op::Multiply;
  const Arithmetic kind = static_cast<Arithmetic>(insn.extra);
  const unsigned size = insn.size;
  Source b = source(insn.b), a = source(insn.a);
  const Place result = place_of(insn.result);
  if (b.is_number) {
    if (size == 8 && !fits_i32(b.number)) b.place = in_register(b, kSecondScratch), b.is_number = false;
    else b.number = static_cast<i32>(b.number);
  }
  if (multiply && b.is_number) {
    const Register to = target(insn);
    m_asm.multiply(size, to, a.place, static_cast<i32>(b.number));
    finish(insn, to);
    return;
  }
  if (!multiply && size == 8 && result.in_memory && same(result, a.place) && (b.is_number || !b.place.in_memory)) {
    if (b.is_number) m_asm.arithmetic(kind, size, result, static_cast<i32>(b.number));
    else m_asm.arithmetic(kind, size, result.address, b.place.reg);
    return;
  }
  Register to = target(insn);
  const bool commutes = multiply || kind != Arithmetic::Subtract;
  if (!a.place.is(to)) {
    // Sums of two registers, or of one and a number, need no move.
    if (!multiply && !a.place.in_memory && (b.is_number || !b.place.in_memory) &&
        (kind == Arithmetic::Add || (kind == Arithmetic::Subtract && b.is_number && b.number != INT32_MIN)) &&
        !(commutes && !b.is_number && b.place.is(to))) {
      if (b.is_number) m_asm.load_address(size, to, {a.place.reg, kNone, 0, static_cast<i32>(kind == Arithmetic::Add ? b.number : -b.number)});
      else m_asm.load_address(size, to, {a.place.reg, b.place.reg, 0, 0});
      finish(insn, to);
      return;
    }
    if (!b.is_number && commutes && b.place.is(to)) std::swap(a, b);
    else if (!b.is_number && reads(b.place, to)) to = kScratch;
    if (!a.place.is(to)) m_asm.move(size, to, a.place);
  }
  if (multiply) m_asm.multiply(size, to, b.place);
  else if (b.is_number) m_asm.arithmetic(kind, size, Place(to), static_cast<i32>(b.number));
  else m_asm.arithmetic(kind, size, to, b.place);
  finish(insn, to);
}

void Emitter::select(const Insn& insn) {
  compare(insn);
  // From here on nothing may change the flags: moves do not.
  const unsigned size = insn.extra;
  const Source if_true = source(insn.c), if_false = source(insn.d);
  const Register to = target(insn);
  const auto load = [&](Register reg, const Source& from) {
    if (from.is_number) m_asm.move(reg, size == 4 ? static_cast<u32>(from.number) : static_cast<u64>(from.number));
    else m_asm.move(size, reg, from.place);
  };
  const auto replace_if = [&](Condition condition, const Source& by) {
    Place place = by.place;
    if (by.is_number) {
      load(kSecondScratch, by);
      place = kSecondScratch;
    }
    m_asm.move_if(condition, size, to, place);
  };
  if (!if_true.is_number && if_true.place.is(to)) {
    replace_if(negated(insn.condition), if_false);
  } else {
    if (if_false.is_number || !if_false.place.is(to)) load(to, if_false);
    replace_if(insn.condition, if_true);
  }
  finish(insn, to);
}

u32 Emitter::live_through(u32 index, u32 registers, const Insn& insn) const {
  u32 live = 0;
  for (const Register r : kAllocatable)
    if (registers >> r & 1 && m_allocation.is_occupied(r, 2 * index + 1)) live |= 1u << r;
  for (const ValueId id : {insn.result, insn.second})
    if (id != kNoValue && !place_of(id).in_memory) live &= ~(1u << place_of(id).reg);
  return live;
}

// Both halves or results of an instruction that leaves them in RAX and RDX.
void Emitter::finish_pair(const Insn& insn, bool save_rdx) {
  const auto put = [&](ValueId id, Register from) {
    if (id == kNoValue) return;
    const Place place = place_of(id);
    if (place.in_memory) m_asm.store(8, place.address, from);
    else m_asm.move(8, place.reg, from);
  };
  put(insn.second, kRdx);
  put(insn.result, kRax);
  if (save_rdx) m_asm.move(8, kRdx, save_slot(kRdx));
}

void Emitter::divide(const Insn& insn, u32 index) {
  const bool is_signed = insn.extra != 0, save = live_through(index, 1u << kRdx, insn);
  if (save) m_asm.store(8, save_slot(kRdx), kRdx);
  m_asm.move(8, kSecondScratch, place_of(insn.b.index));
  m_asm.move(8, kScratch, place_of(insn.a.index));
  if (insn.c.kind != Operand::Kind::None) move(kRdx, source(insn.c), kScratch);
  else if (is_signed) m_asm.sign_extend_accumulator(insn.size);
  else m_asm.move(kRdx, 0);
  m_asm.unary(is_signed ? Unary::DivideSigned : Unary::Divide, insn.size, Place(kSecondScratch));
  finish_pair(insn, save);
}

void Emitter::multiply_wide(const Insn& insn, u32 index) {
  const bool save = live_through(index, 1u << kRdx, insn);
  if (save) m_asm.store(8, save_slot(kRdx), kRdx);
  const Register factor = in_register(source(insn.b), kSecondScratch);
  move(kScratch, source(insn.a), kScratch);
  m_asm.unary(insn.extra ? Unary::MultiplySigned : Unary::Multiply, 8, Place(factor));
  finish_pair(insn, save);
}

// Moves whose target nobody else still needs go first; what remains are cycles, broken by the first scratch register.
void Emitter::parallel_move(Moves moves, bool vectors) {
  std::erase_if(moves, [](const auto& move) { return !move.second.is_number && same(move.first, move.second.place); });
  const auto move_one = [&](const Place& to, const Source& from) {
    if (!vectors) move(to, from, kSecondScratch);
    else if (!from.is_number) move_vector(to, from.place);
    else if (to.in_memory) load_vector(16, kSecondVectorScratch, from), move_vector(to, kSecondVectorScratch);
    else load_vector(16, to.reg, from);
  };
  while (!moves.empty()) {
    bool moved = false;
    for (usize i = 0; i < moves.size(); ++i) {
      const bool needed = std::ranges::any_of(moves, [&](const auto& other) {
        return &other != &moves[i] && !other.second.is_number && same(other.second.place, moves[i].first);
      });
      if (needed) continue;
      move_one(moves[i].first, moves[i].second);
      moves.erase(moves.begin() + static_cast<std::ptrdiff_t>(i));
      moved = true;
      break;
    }
    if (moved) continue;
    const Place broken = moves[0].second.place, scratch = vectors ? kVectorScratch : kScratch;
    if (vectors) move_vector(scratch, broken);
    else m_asm.move(8, kScratch, broken);
    for (auto& [to, from] : moves)
      if (!from.is_number && same(from.place, broken)) from.place = scratch;
  }
}

void Emitter::emit_locked(const Insn& insn) {
  const Address address = source(insn.a).place.address;
  const u8 byte = insn.size == 1 ? 0 : 1;
  if (insn.op == Op::LockedArithmetic) {
    const Register from = in_register(source(insn.b), kScratch);
    m_asm.locked(insn.size, insn.extra << 3 | byte, from, address);
    return;
  }
  if (insn.op == Op::CompareExchange) {
    // The new value must stay clear of RAX, and RCX may hold the address: selection gave it a register, or it lives in the frame.
    move(kScratch, source(insn.b), kScratch);
    const Place desired = place_of(insn.c.index);
    Register with = desired.reg;
    if (desired.in_memory) {
      with = kRdx;
      m_asm.store(8, save_slot(kRdx), kRdx);
      Address shifted = address;
      m_asm.move(8, kRdx, desired);
      if (address.base == kRdx || address.index == kRdx) {
        m_asm.move(8, kRdx, save_slot(kRdx));
        m_asm.load_address(8, kSecondScratch, address);
        shifted = {kSecondScratch, kNone, 0, 0};
        m_asm.move(8, kRdx, desired);
      }
      m_asm.locked(insn.size, 0x1b0u | byte, with, shifted);
      m_asm.move(8, kRdx, save_slot(kRdx));
    } else {
      m_asm.locked(insn.size, 0x1b0u | byte, with, address);
    }
    if (insn.second != kNoValue) {
      m_asm.set(kEqual, kSecondScratch);
      m_asm.load_zero_extended(1, kSecondScratch, Place(kSecondScratch));
      const Place second = place_of(insn.second);
      if (second.in_memory) m_asm.store(8, second.address, kSecondScratch);
      else m_asm.move(8, second.reg, kSecondScratch);
    }
    if (insn.result != kNoValue) finish(insn, kScratch);
    return;
  }
  move(kScratch, source(insn.b), kScratch);
  m_asm.locked(insn.size, insn.op == Op::Exchange ? 0x86u | byte : 0x1c0u | byte, kScratch, address);
  if (insn.result != kNoValue) finish(insn, kScratch);
}

// Calls ----------------------------------------------------------------------------------------------------------------

void Emitter::call(const Insn& insn, u32 index) {
  const Call& call = m_code.calls[insn.extra];
  u32 changed = call.preserves_most ? 1u << kR11 : kCallerSaved;
  for (usize i = 0; i < call.arguments.size(); ++i) changed |= 1u << kArguments[i];
  const u32 saved = live_through(index, changed, insn);
  // Neither convention keeps vector registers.
  u32 saved_vectors = 0;
  for (u8 r = 0; r < kAllocatableVectors; ++r)
    if (m_allocation.is_occupied(kRegisters + r, 2 * index + 1)) saved_vectors |= 1u << r;
  for (const Register r : kAllocatable)
    if (saved >> r & 1) m_asm.store(8, save_slot(r), r);
  for (u8 r = 0; r < kAllocatableVectors; ++r)
    if (saved_vectors >> r & 1) move_vector(vector_save_slot(r), static_cast<Register>(r));
  Moves moves, vectors;
  for (const Operand& argument : call.arguments) {
    if (argument.is_value() && is_vector(argument.index)) vectors.push_back({static_cast<Register>(vectors.size()), source(argument)});
    else moves.push_back({kArguments[moves.size()], source(argument)});
  }
  parallel_move(std::move(vectors), true);
  parallel_move(std::move(moves), false);
  // Whoever uses instructions without VEX would wait for the upper halves (SDM vol. 1, 14.1.2).
  if (m_code.vector_bytes == 32) m_asm.zero_upper();
  if (is_near(call.target)) {
    m_asm.call_outside(call.target);
  } else {
    m_asm.move(kScratch, reinterpret_cast<u64>(call.target));
    m_asm.call(kScratch);
  }
  if (insn.result != kNoValue) finish(insn, kRax);
  for (const Register r : kAllocatable)
    if (saved >> r & 1) m_asm.move(8, r, save_slot(r));
  for (u8 r = 0; r < kAllocatableVectors; ++r)
    if (saved_vectors >> r & 1) move_vector(static_cast<Register>(r), vector_save_slot(r));
}

void Emitter::tail_call(const Insn& insn) {
  const Call& call = m_code.calls[insn.extra];
  move(kInsnRegister, source(call.arguments[1]), kScratch);
  if (m_code.vector_bytes == 32) m_asm.zero_upper();
  leave_frame();
  if (is_near(call.target)) {
    m_asm.jump_outside(call.target);
  } else {
    m_asm.move(kScratch, reinterpret_cast<u64>(call.target));
    m_asm.jump_to(kScratch);
  }
}

void Emitter::emit_x87(const Insn& insn) {
  constexpr i32 kComparedFlags = 0x45;  // CF, PF, ZF
  const u16 code = static_cast<u16>(insn.extra);
  switch (insn.op) {
    case Op::X87Load: {
      const Address memory = source(insn.c).place.address;
      Address upper = memory;
      upper.displacement += 8;
      m_asm.store(insn.size > 8 ? 8 : insn.size, memory, in_register(source(insn.a), kScratch));
      if (insn.size > 8) m_asm.store(2, upper, in_register(source(insn.b), kScratch));
      m_asm.x87(code, memory);
      break;
    }
    case Op::X87Store: m_asm.x87(code, {in_register(source(insn.a), kScratch), kNone, 0, 0}); break;
    case Op::X87Word: {
      // FNSTSW m16 is FNSTSW AX just as well; FNSTCW knows memory only.
      constexpr u16 kStoreStatusToMemory = 0xdd38, kStoreStatus = 0xdfe0;
      if (code == kStoreStatus || code == kStoreStatusToMemory) {
        m_asm.x87(kStoreStatus);
        m_asm.load_zero_extended(2, kScratch, Place(kScratch));
      } else {
        const Address memory = source(insn.c).place.address;
        m_asm.x87(code, memory);
        m_asm.load_zero_extended(2, kScratch, memory);
      }
      finish(insn, kScratch);
      break;
    }
    case Op::X87Compare:
      m_asm.x87(code);
      m_asm.flags_to_accumulator();
      m_asm.arithmetic(Arithmetic::And, 4, Place(kScratch), kComparedFlags);
      finish(insn, kScratch);
      break;
    case Op::X87MoveIf: {
      const Register condition = in_register(source(insn.a), kScratch);
      m_asm.test(4, condition, condition);
      m_asm.x87(code);
      break;
    }
    default: m_asm.x87(code); break;
  }
}

void Emitter::emit(const Insn& insn, u32 index) {
  // A result that nobody reads still has a place: values without uses are given slots by the allocation.
  switch (insn.op) {
    case Op::Move: move(place_of(insn.result), source(insn.a), kScratch); break;
    case Op::ZeroExtend: {
      const Register to = target(insn);
      m_asm.load_zero_extended(insn.size, to, source(insn.a).place);
      finish(insn, to);
      break;
    }
    case Op::SignExtend: {
      const Register to = target(insn);
      m_asm.load_sign_extended(insn.extra, insn.size, to, source(insn.a).place);
      finish(insn, to);
      break;
    }
    case Op::Store: {
      const Address to = source(insn.a).place.address;
      const Source value = source(insn.b);
      if (value.is_number && (insn.size < 8 || fits_i32(value.number))) m_asm.store(insn.size, to, static_cast<i32>(value.number));
      else m_asm.store(insn.size, to, in_register(value, kScratch));
      break;
    }
    case Op::LoadAddress: {
      const Address address = source(insn.a).place.address;
      const Register to = target(insn);
      if (address.index == kNone && address.displacement == 0) m_asm.move(8, to, address.base);
      else m_asm.load_address(8, to, address);
      finish(insn, to);
      break;
    }
    case Op::Arithmetic:
    case Op::Multiply: arithmetic(insn); break;
    case Op::MultiplyWide: multiply_wide(insn, index); break;
    case Op::Divide: divide(insn, index); break;
    case Op::Shift: {
      const Register to = target(insn);
      const Place from = source(insn.a).place;
      if (!from.is(to) || insn.b.number == 0) m_asm.move(insn.size, to, from);
      if (insn.b.number) m_asm.shift(static_cast<Shift>(insn.extra), insn.size, Place(to), static_cast<u8>(insn.b.number));
      finish(insn, to);
      break;
    }
    case Op::ShiftVariable: {
      const Register count = in_register(source(insn.b), kSecondScratch), to = target(insn);
      m_asm.shift_variable(static_cast<Shift>(insn.extra), insn.size, to, source(insn.a).place, count);
      finish(insn, to);
      break;
    }
    case Op::Funnel: {
      const Register low = in_register(source(insn.b), kSecondScratch);
      const Place high = source(insn.a).place;
      const Register to = low == target(insn) && !high.is(low) ? kScratch : target(insn);
      if (!high.is(to)) m_asm.move(insn.size, to, high);
      m_asm.double_shift_left(insn.size, to, low, static_cast<u8>(insn.c.number));
      finish(insn, to);
      break;
    }
    case Op::SwapBytes:
    case Op::Negate: {
      const Register to = target(insn);
      const Place from = source(insn.a).place;
      if (!from.is(to)) m_asm.move(insn.size, to, from);
      if (insn.op == Op::SwapBytes) m_asm.swap_bytes(insn.size, to);
      else m_asm.unary(Unary::Negate, insn.size, Place(to));
      finish(insn, to);
      break;
    }
    case Op::Count: {
      const Register to = target(insn);
      m_asm.count(static_cast<u8>(insn.extra), insn.size, to, source(insn.a).place);
      finish(insn, to);
      break;
    }
    case Op::Set: {
      compare(insn);
      const Register to = target(insn);
      m_asm.set(insn.condition, to);
      m_asm.load_zero_extended(1, to, Place(to));
      finish(insn, to);
      break;
    }
    case Op::Select: select(insn); break;
    case Op::Branch:
      compare(insn);
      m_asm.jump(insn.condition, label(insn.extra));
      break;
    case Op::Jump: m_asm.jump(label(insn.extra)); break;
    case Op::ParallelMove: {
      Moves general, vectors;
      for (const MoveValue& move : m_code.moves[insn.extra])
        (is_vector(move.to) ? vectors : general).push_back({place_of(move.to), source(move.from)});
      parallel_move(std::move(general), false);
      parallel_move(std::move(vectors), true);
      break;
    }
    case Op::Call: call(insn, index); break;
    case Op::TailCall: tail_call(insn); break;
    case Op::Return:
      if (m_code.vector_bytes == 32) m_asm.zero_upper();
      leave_frame();
      m_asm.leave();
      break;
    case Op::Trap: m_asm.trap(); break;
    case Op::Exchange:
    case Op::ExchangeAdd:
    case Op::LockedArithmetic:
    case Op::CompareExchange: emit_locked(insn); break;
    case Op::X87:
    case Op::X87Load:
    case Op::X87Store:
    case Op::X87Word:
    case Op::X87Compare:
    case Op::X87MoveIf: emit_x87(insn); break;
    default: emit_vector(insn); break;
  }
}

// Values that share a place need no moves, and a block of such moves is a jump.
void Emitter::find_destinations() {
  const auto moves_nothing = [&](const Insn& insn) {
    return insn.op == Op::ParallelMove && std::ranges::all_of(m_code.moves[insn.extra], [&](const MoveValue& move) {
      return move.from.is_value() && same(place_of(move.to), place_of(move.from.index));
    });
  };
  m_destination.resize(m_code.blocks.size());
  for (u32 b = 0; b < m_code.blocks.size(); ++b) {
    const MachineBlock& block = m_code.blocks[b];
    m_destination[b] = b;
    u32 i = block.first;
    while (i < block.last && moves_nothing(m_code.insns[i])) ++i;
    if (b > 0 && i + 1 == block.last && m_code.insns[i].op == Op::Jump) m_destination[b] = m_code.insns[i].extra;
  }
  // A chain ends where something happens; blocks that jump in a circle stay.
  for (u32 b = 0; b < m_code.blocks.size(); ++b)
    for (usize steps = 0; m_destination[m_destination[b]] != m_destination[b]; ++steps) {
      if (steps == m_code.blocks.size()) m_destination[m_destination[b]] = m_destination[b];
      else m_destination[b] = m_destination[m_destination[b]];
    }
}

void Emitter::run() {
  m_saves = kSlotSize * m_allocation.slots;
  m_vector_slots = (m_saves + kSlotSize * kRegisters + 15) / 16 * 16;
  m_vector_saves = m_vector_slots + m_code.vector_bytes * m_allocation.vector_slots;
  m_variables = m_vector_saves + m_code.vector_bytes * u32{kRegisters};
  // The caller's call left the stack eight bytes off its alignment.
  m_frame_size = m_variables + m_code.frame_bytes + 8;
  find_destinations();
  for (usize i = 0; i < m_code.blocks.size(); ++i) m_labels.push_back(m_asm.new_label());
  std::vector<u32> order;
  for (const bool cold : {false, true})
    for (u32 i = 0; i < m_code.blocks.size(); ++i)
      if (m_code.blocks[i].cold == cold && m_destination[i] == i) order.push_back(i);
  m_asm.arithmetic(Arithmetic::Subtract, 8, Place(kRsp), static_cast<i32>(m_frame_size));
  for (usize n = 0; n < order.size(); ++n) {
    const MachineBlock& block = m_code.blocks[order[n]];
    const u32 next = n + 1 < order.size() ? order[n + 1] : ~u32{0};
    m_asm.bind(m_labels[order[n]]);
    for (u32 i = block.first; i < block.last; ++i) {
      const Insn& insn = m_code.insns[i];
      const bool before_last = i + 2 == block.last && m_code.insns[i + 1].op == Op::Jump;
      if (insn.op == Op::Jump && m_destination[insn.extra] == next) continue;
      if (insn.op == Op::Branch && before_last && m_destination[insn.extra] == next) {
        compare(insn);
        m_asm.jump(negated(insn.condition), label(m_code.insns[i + 1].extra));
        break;
      }
      emit(insn, i);
    }
  }
}

void emit_code(const MachineCode& code, const Allocation& allocation, const void* near, Assembler& assembler) {
  Emitter(code, allocation, near, assembler).run();
}

}  // namespace vellum::x86_64
