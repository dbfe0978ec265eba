// A region between LLVM's language and host code: x86-64 instructions whose registers are still values without number.
#pragma once

#include <array>
#include <vector>

#include "jit/optimizer/x86_64/assembler.h"

namespace vellum::x86_64 {

using ValueId = i32;
constexpr ValueId kNoValue = -1;
constexpr ValueId kState = 0;  // CpuState's address, always in the same register
constexpr ValueId kFrame = -2;  // as an address's base: memory of the function's own

struct Operand {
  enum class Kind : u8 { None, Value, Number, Memory };
  Kind kind = Kind::None;
  i32 index = kNoValue;  // a ValueId, or into MachineCode::addresses
  i64 number = 0;

  static Operand value(ValueId id) { return {Kind::Value, id, 0}; }
  static Operand constant(i64 number) { return {Kind::Number, kNoValue, number}; }
  static Operand memory(i32 index) { return {Kind::Memory, index, 0}; }
  bool is_value() const { return kind == Kind::Value; }
  bool is_number() const { return kind == Kind::Number; }
  bool is_memory() const { return kind == Kind::Memory; }
};

struct ValueAddress {
  ValueId base = kNoValue, index = kNoValue;
  u8 scale = 0;
  i32 displacement = 0;
};

enum class Op : u8 {
  Move,           // result = a
  ZeroExtend,     // result = a of `size` bytes
  SignExtend,     // result of `extra` bytes = a of `size` bytes
  Store,          // memory a = b
  LoadAddress,    // result = address a
  Arithmetic,     // result = a `extra` b
  Multiply,       // result = a * b
  MultiplyWide,   // second:result = a * b; signed if `extra`
  Divide,         // result, second = quotient and remainder of a / b, or if c is there of c:a / b; signed if `extra`
  Shift,          // result = a `extra` b, which is a number
  ShiftVariable,  // result = a `extra` b
  Funnel,         // result = the upper half of a:b shifted left by the number c
  SwapBytes,      // result = a
  Count,          // result = instruction `extra` of a
  Negate,         // result = -a
  Set,            // result = condition(a, b), 0 or 1 in all of the register
  Select,         // result = condition(a, b) ? c : d
  Branch,         // to `extra` if condition(a, b)
  Jump,           // to `extra`
  ParallelMove,   // MachineCode::moves[extra], all at once
  Call,           // MachineCode::calls[extra]
  TailCall,       // likewise
  Return,
  Trap,
  // On vector registers:
  VectorMove,     // result = a: `size` bytes of memory, a vector, or a number's bits in all of it (0) or its low part
  VectorStore,    // memory a = b
  ToVector,       // result = the general register a
  FromVector,     // the general register result = a
  VectorBinary,   // result = a op b: `extra` is a vector_code(); c is the immediate number, if it has one
  VectorUnary,    // result = op a; likewise
  VectorMask,     // result = a op the number b in the low lane of `size` bytes; `extra` likewise
  VectorShift,    // result = each lane of a shifted by the number b; `extra` likewise, and the opcode's extension in bits 15:13
  Sha,            // result = a op b by SHA instruction `extra`; SHA256RNDS2 takes c, too
  ConvertToInteger,  // the general register result = op a, likewise; 8 bytes if `size` is 8
  ConvertFromInteger,  // result = op of the general register a, likewise
  InsertLane,     // result = a with lane c being b, a vector (of `size` bytes per lane) or a general register
  ExtractLane,    // result = lane c of a; a general register, or with a `size` of 16 a vector of the upper 8 bytes, of 32 the upper 16
  CompareFloats,  // result, second, third = CF, ZF, PF behind instruction `extra`
  // The host's x87 (cpu/semantics/x87_on_host.h); `extra` is the opcode's first byte in 15:8 and ModRM in 7:0:
  X87,            // a register form
  X87Load,        // with the operand a, and b above it if it has 10 bytes; c is memory to pass it through
  X87Store,       // with memory at the address a
  X87Word,        // result = the status word, or by way of memory c the control word
  X87Compare,     // result = CF, PF and ZF behind it
  X87MoveIf,      // FCMOVNE by a
  // With LOCK:
  Exchange,         // result = memory a, which becomes b
  ExchangeAdd,      // result = memory a, which becomes the sum with b
  LockedArithmetic,  // memory a = a `extra` b
  CompareExchange,  // result = memory a, which becomes c if it is b; second = whether it was
};

// Prefix (0, 1: 66, 2: F3, 3: F2), opcode, map (1: 0F, 2: 0F 38, 3: 0F 3A) and VEX.W of an instruction on vector registers.
constexpr u32 vector_code(unsigned prefix, unsigned opcode, unsigned map = 1, bool wide = false) {
  return opcode | prefix << 8 | (map - 1) << 10 | (wide ? 1u << 12 : 0);
}

struct Insn {
  Op op;
  u8 size = 8;  // of the operands, bytes
  Condition condition = kOverflow;
  bool test = false;  // the condition is of a & b instead of a - b
  u32 extra = 0;
  ValueId result = kNoValue, second = kNoValue, third = kNoValue;
  Operand a, b, c, d;
};

struct MoveValue {
  ValueId to;
  Operand from;
};

struct Call {
  const void* target = nullptr;
  std::vector<Operand> arguments;
  bool preserves_most = false;  // all registers but R11, and those of the result
};

struct MachineBlock {
  u32 first = 0, last = 0;  // instructions; the latter is the first one behind
  std::vector<u32> successors;
  double frequency = 0;  // runs, for each entry of the region
  bool cold = false;
};

struct MachineCode {
  std::vector<Insn> insns;
  std::vector<MachineBlock> blocks;  // in the order of their instructions; what runs seldom stands where it is left
  std::vector<ValueAddress> addresses;
  std::vector<std::vector<MoveValue>> moves;
  std::vector<Call> calls;
  std::vector<bool> is_vector{false};  // by value
  ValueId values() const { return static_cast<ValueId>(is_vector.size()); }
  u32 frame_bytes = 0;  // memory at kFrame
  u8 vector_bytes = 16;  // 32 where some value is that wide: as much of each vector register is moved and kept

  template <class Function>
  void for_uses(const Insn& insn, Function use) const {
    const auto operand = [&](const Operand& operand) {
      if (operand.is_value()) use(operand.index);
      if (!operand.is_memory()) return;
      const ValueAddress& address = addresses[static_cast<usize>(operand.index)];
      if (address.base >= 0) use(address.base);
      if (address.index >= 0) use(address.index);
    };
    operand(insn.a), operand(insn.b), operand(insn.c), operand(insn.d);
    if (insn.op == Op::ParallelMove)
      for (const MoveValue& move : moves[insn.extra]) operand(move.from);
    if (insn.op == Op::Call || insn.op == Op::TailCall)
      for (const Operand& argument : calls[insn.extra].arguments) operand(argument);
  }
  // The same, of an instruction of this code, to change them.
  template <class Function>
  void change_uses(Insn& insn, Function change) {
    const auto operand = [&](Operand& operand) {
      if (operand.is_value()) change(operand.index);
      if (!operand.is_memory()) return;
      ValueAddress& address = addresses[static_cast<usize>(operand.index)];
      if (address.base >= 0) change(address.base);
      if (address.index >= 0) change(address.index);
    };
    operand(insn.a), operand(insn.b), operand(insn.c), operand(insn.d);
    if (insn.op == Op::ParallelMove)
      for (MoveValue& move : moves[insn.extra]) operand(move.from);
    if (insn.op == Op::Call || insn.op == Op::TailCall)
      for (Operand& argument : calls[insn.extra].arguments) operand(argument);
  }
  template <class Function>
  void for_results(const Insn& insn, Function define) const {
    for (const ValueId id : {insn.result, insn.second, insn.third})
      if (id != kNoValue) define(id);
    if (insn.op == Op::ParallelMove)
      for (const MoveValue& move : moves[insn.extra]) define(move.to);
  }
};

// Where values live: registers that the emission does not need for itself, and slots in the frame.
constexpr Register kStateRegister = kR12;  // the first argument of preserve_none
constexpr Register kInsnRegister = kR13;   // the second
constexpr u8 kRegisters = 16;              // of each kind; vector registers follow the general ones
constexpr std::array kAllocatable = {kRbx, kRsi, kRdi, kR8, kR9, kR10, kRdx, kR14, kR15, kR13, kR11};
constexpr u8 kAllocatableVectors = 14;     // the first ones
constexpr u32 kSlotSize = 8;  // a vector's is MachineCode::vector_bytes

struct Allocation {
  std::vector<i8> reg;    // by value: Register, or -1
  std::vector<i32> slot;  // by value: where it lives otherwise, by number among the slots of its kind
  u32 slots = 0, vector_slots = 0;
  std::array<std::vector<u64>, 2 * kRegisters> occupied;  // by register: a bit for each position, two positions per instruction

  bool is_occupied(unsigned r, u32 position) const { return occupied[r][position / 64] >> (position % 64) & 1; }
};

// Position 2i of instruction i is where it reads, 2i + 1 where it writes. Moves are added to the code where values that live
// in the frame are used several times.
Allocation allocate(MachineCode& code);

}  // namespace vellum::x86_64
