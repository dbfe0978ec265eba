// The encoding of each instruction.
#include "jit/optimizer/x86_64/assembler.h"

#include <cstring>

namespace vellum::x86_64 {

namespace {

constexpr u32 kUnbound = ~u32{0};
// Opcode maps and mandatory prefixes, as encode() takes them.
constexpr unsigned kMap0f = 0x100, kMap0f38 = 0x200;
constexpr unsigned kNoPrefix = 0, kOperandSize = 0x66, kRepeat = 0xf3;

unsigned size_prefix(unsigned size) { return size == 2 ? kOperandSize : kNoPrefix; }
bool fits_byte(i32 value) { return value == static_cast<i8>(value); }

}  // namespace

Assembler::Label Assembler::new_label() {
  m_labels.push_back(kUnbound);
  return static_cast<Label>(m_labels.size() - 1);
}

void Assembler::bind(Label label) { m_labels[label] = static_cast<u32>(m_bytes.size()); }

void Assembler::number(u64 value, unsigned bytes) {
  for (unsigned i = 0; i < bytes; ++i) byte(static_cast<u8>(value >> (8 * i)));
}

// Prefix, REX, opcode, ModRM, SIB and displacement. With `byte_registers` registers 4 to 7 are SPL to DIL.
void Assembler::encode(unsigned prefix, bool wide, unsigned opcode, u8 reg, const Place& place, bool byte_registers) {
  if (prefix) byte(static_cast<u8>(prefix));
  const Address& address = place.address;
  u8 rex = static_cast<u8>((wide ? 8 : 0) | (reg >= 8 ? 4 : 0));
  if (place.in_memory) rex |= static_cast<u8>((address.index != kNone && address.index >= 8 ? 2 : 0) | (address.base >= 8 ? 1 : 0));
  else rex |= place.reg >= 8 ? 1 : 0;
  const bool needs_rex = byte_registers && ((reg >= 4 && reg < 8) || (!place.in_memory && place.reg >= 4 && place.reg < 8));
  if (rex || needs_rex) byte(0x40 | rex);
  if (opcode & kMap0f38) byte(0x0f), byte(0x38);
  else if (opcode & kMap0f) byte(0x0f);
  byte(static_cast<u8>(opcode));
  const u8 field = static_cast<u8>((reg & 7) << 3);
  if (!place.in_memory) {
    byte(0xc0 | field | (place.reg & 7));
    return;
  }
  const bool sib = address.index != kNone || (address.base & 7) == 4;
  // No displacement with RBP or R13 as base means something else.
  const u8 mode = address.displacement == 0 && (address.base & 7) != 5 ? 0 : fits_byte(address.displacement) ? 0x40 : 0x80;
  byte(mode | field | (sib ? 4 : address.base & 7));
  if (sib) byte(static_cast<u8>(address.scale << 6 | (address.index == kNone ? 4 : address.index & 7) << 3 | (address.base & 7)));
  if (mode == 0x40) byte(static_cast<u8>(address.displacement));
  if (mode == 0x80) number(static_cast<u32>(address.displacement), 4);
}

void Assembler::arithmetic(Arithmetic operation, unsigned size, Register to, const Place& from) {
  encode(size_prefix(size), size == 8, static_cast<unsigned>(operation) << 3 | (size == 1 ? 2 : 3), to, from, size == 1);
}
void Assembler::arithmetic(Arithmetic operation, unsigned size, const Address& to, Register from) {
  encode(size_prefix(size), size == 8, static_cast<unsigned>(operation) << 3 | (size == 1 ? 0 : 1), from, to, size == 1);
}
void Assembler::arithmetic(Arithmetic operation, unsigned size, const Place& to, i32 value) {
  const bool short_form = size != 1 && fits_byte(value);
  encode(size_prefix(size), size == 8, size == 1 ? 0x80 : short_form ? 0x83 : 0x81, static_cast<u8>(operation), to, size == 1);
  immediate(short_form ? 1 : size, value);
}
void Assembler::test(unsigned size, const Place& a, Register b) {
  encode(size_prefix(size), size == 8, size == 1 ? 0x84 : 0x85, b, a, size == 1);
}
void Assembler::test(unsigned size, const Place& a, i32 value) {
  encode(size_prefix(size), size == 8, size == 1 ? 0xf6 : 0xf7, 0, a, size == 1);
  immediate(size, value);
}

void Assembler::move(unsigned size, Register to, const Place& from) {
  if (from.is(to) && size == 8) return;
  encode(kNoPrefix, size == 8, 0x8b, to, from);
}
void Assembler::move(Register to, u64 value) {
  if (value == static_cast<u32>(value)) {
    if (to >= 8) byte(0x41);
    byte(static_cast<u8>(0xb8 | (to & 7)));
    number(value, 4);
  } else if (static_cast<i64>(value) == static_cast<i32>(value)) {
    encode(kNoPrefix, true, 0xc7, 0, to);
    number(value, 4);
  } else {
    byte(to >= 8 ? 0x49 : 0x48);
    byte(static_cast<u8>(0xb8 | (to & 7)));
    number(value, 8);
  }
}
void Assembler::load_zero_extended(unsigned size, Register to, const Place& from) {
  if (size >= 4) encode(kNoPrefix, size == 8, 0x8b, to, from);
  else encode(kNoPrefix, false, kMap0f | (size == 1 ? 0xb6 : 0xb7), to, from, size == 1);
}
void Assembler::load_sign_extended(unsigned to_size, unsigned size, Register to, const Place& from) {
  const bool wide = to_size == 8;
  if (size == 4) encode(kNoPrefix, wide, wide ? 0x63 : 0x8b, to, from);
  else encode(kNoPrefix, wide, kMap0f | (size == 1 ? 0xbe : 0xbf), to, from, size == 1);
}
void Assembler::store(unsigned size, const Address& to, Register from) {
  encode(size_prefix(size), size == 8, size == 1 ? 0x88 : 0x89, from, to, size == 1);
}
void Assembler::store(unsigned size, const Address& to, i32 value) {
  encode(size_prefix(size), size == 8, size == 1 ? 0xc6 : 0xc7, 0, to);
  immediate(size, value);
}
void Assembler::load_address(unsigned size, Register to, const Address& address) {
  encode(kNoPrefix, size == 8, 0x8d, to, address);
}

void Assembler::shift(Shift operation, unsigned size, const Place& place, u8 count) {
  encode(size_prefix(size), size == 8, size == 1 ? 0xc0 : 0xc1, static_cast<u8>(operation), place, size == 1);
  byte(count);
}
void Assembler::double_shift_left(unsigned size, Register to, Register from, u8 count) {
  encode(kNoPrefix, size == 8, kMap0f | 0xa4, from, to);
  byte(count);
}
// SHLX (66), SHRX (F2), SARX (F3): VEX.LZ.pp.0F38.W F7 /r.
void Assembler::shift_variable(Shift operation, unsigned size, Register to, const Place& from, Register count) {
  vex(operation == Shift::Left ? 1 : operation == Shift::Right ? 3 : 2, 2, size == 8, 0xf7, to, count, from);
}
void Assembler::multiply(unsigned size, Register to, const Place& from) { encode(kNoPrefix, size == 8, kMap0f | 0xaf, to, from); }
void Assembler::multiply(unsigned size, Register to, const Place& from, i32 value) {
  encode(kNoPrefix, size == 8, fits_byte(value) ? 0x6b : 0x69, to, from);
  immediate(fits_byte(value) ? 1 : size, value);
}
void Assembler::unary(Unary operation, unsigned size, const Place& place) {
  encode(size_prefix(size), size == 8, size == 1 ? 0xf6 : 0xf7, static_cast<u8>(operation), place, size == 1);
}
void Assembler::sign_extend_accumulator(unsigned size) {
  if (size == 8) byte(0x48);
  byte(0x99);
}
void Assembler::set(Condition condition, Register to) { encode(kNoPrefix, false, kMap0f | 0x90 | condition, 0, to, true); }
void Assembler::move_if(Condition condition, unsigned size, Register to, const Place& from) {
  encode(kNoPrefix, size == 8, kMap0f | 0x40 | condition, to, from);
}
void Assembler::swap_bytes(unsigned size, Register reg) {
  if (size == 8 || reg >= 8) byte(static_cast<u8>(0x40 | (size == 8 ? 8 : 0) | (reg >= 8 ? 1 : 0)));
  byte(0x0f);
  byte(static_cast<u8>(0xc8 | (reg & 7)));
}
void Assembler::count(u8 opcode, unsigned size, Register to, const Place& from) {
  encode(kRepeat, size == 8, kMap0f | opcode, to, from);
}

void Assembler::vex(u8 prefix, u8 map, bool wide, u8 opcode, u8 reg, u8 first, const Place& place) {
  const Address& address = place.address;
  const bool x = place.in_memory && address.index != kNone && address.index >= 8;
  const bool b = place.in_memory ? address.base >= 8 : place.reg >= 8;
  byte(0xc4);
  byte(static_cast<u8>((reg >= 8 ? 0 : 0x80) | (x ? 0 : 0x40) | (b ? 0 : 0x20) | map));
  byte(static_cast<u8>((wide ? 0x80 : 0) | (~first & 15) << 3 | prefix));
  // Opcode, ModRM and what follows are as in an instruction without VEX; its REX prefix is taken out.
  const usize start = m_bytes.size();
  encode(kNoPrefix, false, opcode, reg, place);
  if (reg >= 8 || x || b) m_bytes.erase(m_bytes.begin() + static_cast<std::ptrdiff_t>(start));
}
void Assembler::vex(u8 prefix, u8 map, bool wide, u8 opcode, u8 reg, u8 first, const Place& place, u8 value) {
  vex(prefix, map, wide, opcode, reg, first, place);
  byte(value);
}
void Assembler::sha(u8 opcode, u8 reg, const Place& place) { encode(kNoPrefix, false, kMap0f38 | opcode, reg, place); }
void Assembler::x87(u16 code) {
  byte(static_cast<u8>(code >> 8));
  byte(static_cast<u8>(code));
}
void Assembler::x87(u16 code, const Address& address) { encode(0, false, code >> 8, static_cast<u8>(code >> 3 & 7), Place(address)); }
// LAHF; MOVZX EAX, AH
void Assembler::flags_to_accumulator() {
  for (const u8 each : {0x9f, 0x0f, 0xb6, 0xc4}) byte(each);
}
void Assembler::zero_upper() { number(0x77f8c5, 3); }
void Assembler::locked(unsigned size, unsigned opcode, u8 reg, const Address& address) {
  byte(0xf0);
  encode(size_prefix(size), size == 8, opcode, reg, address, size == 1);
}

void Assembler::jump_to(Label to) {
  m_fixups.push_back({static_cast<u32>(m_bytes.size()), to});
  number(0, 4);
}
void Assembler::jump(Label to) {
  byte(0xe9);
  jump_to(to);
}
void Assembler::jump(Condition condition, Label to) {
  byte(0x0f);
  byte(static_cast<u8>(0x80 | condition));
  jump_to(to);
}
void Assembler::jump_outside(const void* to) {
  byte(0xe9);
  m_outside.push_back({static_cast<u32>(m_bytes.size()), to});
  number(0, 4);
}
void Assembler::call_outside(const void* to) {
  byte(0xe8);
  m_outside.push_back({static_cast<u32>(m_bytes.size()), to});
  number(0, 4);
}

void Assembler::jump_to(Register address) { encode(kNoPrefix, false, 0xff, 4, address); }
void Assembler::call(Register address) { encode(kNoPrefix, false, 0xff, 2, address); }

void Assembler::leave() { byte(0xc3); }
void Assembler::trap() { number(0x0b0f, 2); }

bool Assembler::finish(const u8* executable) {
  const auto patch = [&](u32 at, i64 target) {
    const i64 distance = target - (at + 4);
    const i32 value = static_cast<i32>(distance);
    std::memcpy(&m_bytes[at], &value, 4);
    return distance == value;
  };
  for (const Fixup& fixup : m_fixups) patch(fixup.at, m_labels[fixup.label]);
  bool reached = true;
  for (const Outside& outside : m_outside) reached &= patch(outside.at, static_cast<const u8*>(outside.target) - executable);
  return reached;
}

}  // namespace vellum::x86_64
