// Instructions on vector registers.
// Opcodes: SDM vol. 2, VMOVUPS, VMOVSD, VMOVSS, VMOVAPS, VMOVQ, VPINSRQ, VPEXTRQ, VMOVLHPS, VUNPCKHPD.
#include "jit/optimizer/x86_64/emitter.h"

namespace vellum::x86_64 {

namespace {

namespace opcode {
constexpr u8 kNone = 0, k66 = 1, kF3 = 2, kF2 = 3;  // prefixes
constexpr u8 k0f = 1, k0f3a = 3;                    // maps
constexpr u8 scalar_prefix(unsigned size) { return size == 4 ? kF3 : size == 8 ? kF2 : kNone; }
}  // namespace opcode

}  // namespace

void Emitter::move_vector(const Place& to, const Place& from) {
  using namespace opcode;
  if (same(to, from)) return;
  const u8 prefix = opcode::kNone | vector_length(m_code.vector_bytes);
  if (!to.in_memory && !from.in_memory) m_asm.vex(prefix, k0f, false, 0x28, to.reg, 0, from);
  else if (!to.in_memory) m_asm.vex(prefix, k0f, false, 0x10, to.reg, 0, from);
  else if (!from.in_memory) m_asm.vex(prefix, k0f, false, 0x11, from.reg, 0, to);
  else move_vector(kSecondVectorScratch, from), move_vector(to, kSecondVectorScratch);
}

// A number's bits come through RCX.
void Emitter::load_vector(unsigned size, Register to, const Source& from) {
  using namespace opcode;
  if (from.is_number && from.number == 0) {
    m_asm.vex(k66, k0f, false, 0xef, to, to, Place(to));
  } else if (from.is_number) {
    m_asm.move(kSecondScratch, static_cast<u64>(from.number));
    m_asm.vex(k66, k0f, true, 0x6e, to, 0, Place(kSecondScratch));
  } else if (from.place.in_memory) {
    m_asm.vex(scalar_prefix(size) | vector_length(size), k0f, false, 0x10, to, 0, from.place);
  } else {
    move_vector(to, from.place);
  }
}

Register Emitter::vector_in_register(const Operand& operand, Register scratch) {
  const Source from = source(operand);
  if (!from.is_number && !from.place.in_memory) return from.place.reg;
  load_vector(m_code.vector_bytes, scratch, from);
  return scratch;
}

void Emitter::emit_vector(const Insn& insn) {
  using namespace opcode;
  const u8 code = static_cast<u8>(insn.extra), prefix = static_cast<u8>(insn.extra >> 8 & 3) | vector_length(insn.size);
  const u8 map = static_cast<u8>((insn.extra >> 10 & 3) + 1);
  const bool wide = insn.extra >> 12 & 1;
  const auto put = [&](u8 reg, u8 first, Register last) {
    if (insn.c.is_number()) m_asm.vex(prefix, map, wide, code, reg, first, Place(last), static_cast<u8>(insn.c.number));
    else m_asm.vex(prefix, map, wide, code, reg, first, Place(last));
  };
  switch (insn.op) {
    case Op::VectorMove: {
      const Register to = vector_target(insn);
      load_vector(insn.size, to, source(insn.a));
      finish_vector(insn, to);
      break;
    }
    case Op::VectorStore: {
      const Address to = source(insn.a).place.address;
      Register from = kSecondVectorScratch;
      const Source value = source(insn.b);
      // The address may be in RCX.
      if (!value.is_number && !value.place.in_memory) from = value.place.reg;
      else if (!value.is_number || value.number == 0) load_vector(m_code.vector_bytes, from, value);
      else m_asm.move(kScratch, static_cast<u64>(value.number)), m_asm.vex(k66, k0f, true, 0x6e, from, 0, Place(kScratch));
      m_asm.vex(scalar_prefix(insn.size) | vector_length(insn.size), k0f, false, 0x11, from, 0, to);
      break;
    }
    case Op::ToVector: {
      const Register from = in_register(source(insn.a), kScratch), to = vector_target(insn);
      m_asm.vex(k66, k0f, insn.size == 8, 0x6e, to, 0, Place(from));
      finish_vector(insn, to);
      break;
    }
    case Op::FromVector: {
      const Register from = vector_in_register(insn.a, kVectorScratch), to = target(insn);
      m_asm.vex(k66, k0f, insn.size == 8, 0x7e, from, 0, Place(to));
      finish(insn, to);
      break;
    }
    case Op::VectorBinary: {
      const Register a = vector_in_register(insn.a, kVectorScratch);
      const Register b = vector_in_register(insn.b, kSecondVectorScratch), to = vector_target(insn);
      put(to, a, b);
      finish_vector(insn, to);
      break;
    }
    case Op::VectorUnary: {
      const Register a = vector_in_register(insn.a, kSecondVectorScratch), to = vector_target(insn);
      put(to, map == 1 && insn.size < 16 && !insn.c.is_number() ? a : 0, a);
      finish_vector(insn, to);
      break;
    }
    case Op::VectorMask: {
      const Register a = vector_in_register(insn.a, kVectorScratch), to = vector_target(insn);
      m_asm.move(kScratch, static_cast<u64>(insn.b.number));
      m_asm.vex(k66, k0f, true, 0x6e, kSecondVectorScratch, 0, Place(kScratch));
      m_asm.vex(prefix, k0f, false, code, to, a, Place(kSecondVectorScratch));
      finish_vector(insn, to);
      break;
    }
    case Op::VectorShift: {
      const Register a = vector_in_register(insn.a, kVectorScratch), to = vector_target(insn);
      m_asm.vex(prefix, map, false, code, insn.extra >> 13 & 7, to, Place(a), static_cast<u8>(insn.b.number));
      finish_vector(insn, to);
      break;
    }
    case Op::Sha: {
      constexpr Register kImplicit = static_cast<Register>(0);
      Place a = source(insn.a).place, b = source(insn.b).place;
      const bool implicit = insn.c.is_value();
      if (implicit) {
        const Place c = source(insn.c).place;
        move_vector(kSecondVectorScratch, kImplicit);
        move_vector(kVectorScratch, a);
        if (b.is(kImplicit)) b = kSecondVectorScratch;
        move_vector(kImplicit, c);
      } else {
        move_vector(kVectorScratch, a);
      }
      m_asm.sha(code, kVectorScratch, b);
      if (implicit) move_vector(kImplicit, kSecondVectorScratch);
      finish_vector(insn, kVectorScratch);
      break;
    }
    case Op::ConvertToInteger: {
      const Register from = vector_in_register(insn.a, kVectorScratch), to = target(insn);
      m_asm.vex(prefix, map, insn.size == 8, code, to, 0, Place(from));
      finish(insn, to);
      break;
    }
    case Op::ConvertFromInteger: {
      const Register from = in_register(source(insn.a), kScratch), to = vector_target(insn);
      m_asm.vex(k66, k0f, false, 0xef, kSecondVectorScratch, kSecondVectorScratch, Place(kSecondVectorScratch));
      m_asm.vex(prefix, k0f, insn.size == 8, code, to, kSecondVectorScratch, Place(from));
      finish_vector(insn, to);
      break;
    }
    case Op::InsertLane: {
      const Register a = vector_in_register(insn.a, kVectorScratch), to = vector_target(insn);
      if (insn.b.is_value() && m_code.is_vector[static_cast<usize>(insn.b.index)]) {
        const Register b = vector_in_register(insn.b, kSecondVectorScratch);
        // Into the lowest lane, or the upper half.
        m_asm.vex(insn.c.number ? opcode::kNone : scalar_prefix(insn.size), k0f, false, insn.c.number ? 0x16 : 0x10, to, a, Place(b));
      } else {
        const Register b = in_register(source(insn.b), kScratch);
        if (insn.size == 2) m_asm.vex(k66, k0f, false, 0xc4, to, a, Place(b), static_cast<u8>(insn.c.number));
        else m_asm.vex(k66, k0f3a, insn.size == 8, insn.size == 1 ? 0x20 : 0x22, to, a, Place(b), static_cast<u8>(insn.c.number));
      }
      finish_vector(insn, to);
      break;
    }
    case Op::ExtractLane: {
      const Register a = vector_in_register(insn.a, kVectorScratch);
      if (insn.size == 16) {
        const Register to = vector_target(insn);
        m_asm.vex(k66, k0f, false, 0x15, to, a, Place(a));
        finish_vector(insn, to);
      } else if (insn.size == 32) {  // VEXTRACTF128
        const Register to = vector_target(insn);
        m_asm.vex(k66 | Assembler::kVex256, k0f3a, false, 0x19, a, 0, Place(to), 1);
        finish_vector(insn, to);
      } else {
        const Register to = target(insn);
        const u8 code = insn.size == 1 ? 0x14 : insn.size == 2 ? 0x15 : 0x16;
        m_asm.vex(k66, k0f3a, insn.size == 8, code, a, 0, Place(to), static_cast<u8>(insn.c.number));
        finish(insn, to);
      }
      break;
    }
    default: {  // CompareFloats
      const Register a = vector_in_register(insn.a, kVectorScratch), b = vector_in_register(insn.b, kSecondVectorScratch);
      m_asm.vex(prefix, k0f, false, code, a, 0, Place(b));
      // Moves change no flags.
      for (const auto& [id, condition] : {std::pair(insn.result, kBelow), std::pair(insn.second, kEqual), std::pair(insn.third, kParity)}) {
        if (id == kNoValue) continue;
        const Place place = place_of(id);
        const Register to = place.in_memory ? kScratch : place.reg;
        m_asm.set(condition, to);
        m_asm.load_zero_extended(1, to, Place(to));
        if (place.in_memory) m_asm.store(8, place.address, to);
      }
      break;
    }
  }
}

}  // namespace vellum::x86_64
