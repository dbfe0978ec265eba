// Writes x86-64 instructions (Intel SDM vol. 2, chapter 2: instruction format).
#pragma once

#include <vector>

#include "state/integers.h"

namespace vellum::x86_64 {

enum Register : u8 { kRax, kRcx, kRdx, kRbx, kRsp, kRbp, kRsi, kRdi, kR8, kR9, kR10, kR11, kR12, kR13, kR14, kR15, kNone = 0xff };

// [base + index << scale + displacement]; the base is always there, the index is never RSP.
struct Address {
  Register base = kNone, index = kNone;
  u8 scale = 0;
  i32 displacement = 0;
};

// What a ModRM byte names: a register or memory.
struct Place {
  bool in_memory = false;
  Register reg = kNone;
  Address address;

  Place() = default;
  Place(Register reg) : reg(reg) {}
  Place(const Address& address) : in_memory(true), address(address) {}
  bool is(Register other) const { return !in_memory && reg == other; }
};

// Condition codes as in Jcc (vol. 2, appendix B.1.4.7); the lowest bit negates.
enum Condition : u8 {
  kOverflow, kNotOverflow, kBelow, kNotBelow, kEqual, kNotEqual, kNotAbove, kAbove, kSign, kNotSign, kParity, kNotParity,
  kLess, kNotLess, kNotGreater, kGreater
};
constexpr Condition negated(Condition condition) { return static_cast<Condition>(condition ^ 1); }

// The two-operand group: its number is that of the opcode's row and of ModRM.reg with an immediate.
enum class Arithmetic : u8 { Add = 0, Or = 1, AddCarry = 2, SubtractBorrow = 3, And = 4, Subtract = 5, Xor = 6, Compare = 7 };
enum class Shift : u8 { RotateLeft = 0, RotateRight = 1, Left = 4, Right = 5, Arithmetic = 7 };
enum class Unary : u8 { Not = 2, Negate = 3, Multiply = 4, MultiplySigned = 5, Divide = 6, DivideSigned = 7 };  // group 3

// Sizes are in bytes: 1, 2, 4, 8.
// Vector registers are named by the same numbers.
class Assembler {
 public:
  // Places in the code that jumps go to.
  using Label = u32;
  Label new_label();
  void bind(Label label);

  void arithmetic(Arithmetic operation, unsigned size, Register to, const Place& from);
  void arithmetic(Arithmetic operation, unsigned size, const Address& to, Register from);
  void arithmetic(Arithmetic operation, unsigned size, const Place& to, i32 immediate);
  void test(unsigned size, const Place& a, Register b);
  void test(unsigned size, const Place& a, i32 immediate);
  void move(unsigned size, Register to, const Place& from);  // sizes 4 and 8
  void move(Register to, u64 immediate);
  void load_zero_extended(unsigned size, Register to, const Place& from);
  void load_sign_extended(unsigned to_size, unsigned size, Register to, const Place& from);  // to 4 or 8 bytes
  void store(unsigned size, const Address& to, Register from);
  void store(unsigned size, const Address& to, i32 immediate);  // sign-extended to 8 bytes
  void load_address(unsigned size, Register to, const Address& address);
  void shift(Shift operation, unsigned size, const Place& place, u8 count);
  void double_shift_left(unsigned size, Register to, Register from, u8 count);
  void shift_variable(Shift operation, unsigned size, Register to, const Place& from, Register count);  // BMI2; sizes 4 and 8
  void multiply(unsigned size, Register to, const Place& from);
  void multiply(unsigned size, Register to, const Place& from, i32 immediate);
  void unary(Unary operation, unsigned size, const Place& place);
  void sign_extend_accumulator(unsigned size);  // CDQ, CQO
  void set(Condition condition, Register to);   // the byte
  void move_if(Condition condition, unsigned size, Register to, const Place& from);  // sizes 4 and 8
  void swap_bytes(unsigned size, Register reg);                                      // sizes 4 and 8
  void count(u8 opcode, unsigned size, Register to, const Place& from);              // POPCNT B8, TZCNT BC, LZCNT BD
  void jump(Label to);
  void jump(Condition condition, Label to);
  void jump_outside(const void* to);
  void call_outside(const void* to);
  void jump_to(Register address);
  void call(Register address);
  void leave();  // RET
  void trap();   // UD2

  // An instruction with a VEX prefix (vol. 2, 2.3): `prefix` is 0, 1 (66), 2 (F3) or 3 (F2), with kVex256 one of 256 bits; `map` 1 (0F),
  // 2 (0F 38) or 3 (0F 3A). `reg` and `first` are general or vector registers, by number; a `first` of 0 also stands for none.
  void vex(u8 prefix, u8 map, bool wide, u8 opcode, u8 reg, u8 first, const Place& place);
  void vex(u8 prefix, u8 map, bool wide, u8 opcode, u8 reg, u8 first, const Place& place, u8 immediate);
  static constexpr u8 kVex256 = 4;
  void sha(u8 opcode, u8 reg, const Place& place);  // NP 0F 38 /r, without VEX; memory is aligned to 16 bytes
  void zero_upper();  // VZEROUPPER
  void x87(u16 code);  // the opcode's first byte in 15:8, ModRM of a register form in 7:0
  void x87(u16 code, const Address& address);
  void flags_to_accumulator();  // LAHF, and AH to EAX
  void locked(unsigned size, unsigned opcode, u8 reg, const Address& address);  // of two bytes (0F xx) if above FF

  // Makes the code one that runs at `executable`. False: something it goes to is too far away.
  bool finish(const u8* executable);
  const std::vector<u8>& bytes() const { return m_bytes; }

 private:
  void encode(unsigned prefix, bool wide, unsigned opcode, u8 reg, const Place& place, bool byte_registers = false);
  void byte(u8 value) { m_bytes.push_back(value); }
  void number(u64 value, unsigned bytes);
  void immediate(unsigned size, i32 value) { number(static_cast<u64>(i64{value}), size == 8 ? 4 : size); }
  void jump_to(Label to);

  struct Fixup {
    u32 at;  // of four bytes
    Label label;
  };
  struct Outside {
    u32 at;
    const void* target;
  };
  std::vector<u8> m_bytes;
  std::vector<u32> m_labels;
  std::vector<Fixup> m_fixups;
  std::vector<Outside> m_outside;
};

}  // namespace vellum::x86_64
