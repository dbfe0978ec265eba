// A decoded instruction, and its form bound to byte offsets, which all engines consume.
#pragma once

#include "cpu/opcode_row.h"
#include "cpu/state.h"
#include "state/integers.h"

namespace vellum {

inline constexpr unsigned kMaxInsnLength = 15;

enum class CodeSize : u8 { Bits16, Bits32, Bits64 };

enum InsnPrefix : u8 { kPrefixLock = 1, kPrefixRep = 2, kPrefixRepne = 4, kPrefixOperandSize = 8, kPrefixRex = 16,
                       kPrefixSegment = 32, kPrefixRexW = 64 };

// The decoder's result.
struct Insn {
  u16 row = 0;             // index into opcode_rows()
  u8 length = 0;           // bytes
  u8 operand_size = 0;     // bytes: 2, 4, 8
  u8 address_size = 0;     // bytes: 2, 4, 8
  u8 prefixes = 0;         // InsnPrefix bits
  bool memory = false;     // ModRM names memory (or the operand is an absolute offset)
  u8 segment = kDs;        // effective segment of the memory operand (or string source)
  u8 base = kZeroSlot, index = kZeroSlot, scale = 0;  // slots; address = base + (index << scale) + displacement
  i64 displacement = 0;    // RIP-relative: counts from this instruction's end, with base == kCodeBaseSlot
  u8 reg = 0, rm = 0;      // register numbers with REX applied; rm only when !memory; opcode register in rm
  u8 modrm = 0;
  u8 vvvv = 0;             // VEX.vvvv, as a register number
  i64 immediate = 0;       // the first immediate, sign-extended if the row says so; relative targets as displacement
  u16 immediate2 = 0;      // ENTER's second immediate, the selector of a far pointer
};

class CpuCore;
struct BoundInsn;

// Continues with the instruction; the handlers of one block call each other by tail calls.
#define VELLUM_HANDLER_ABI __attribute__((preserve_none))
using Handler = void(VELLUM_HANDLER_ABI*)(CpuState*, const BoundInsn*);

enum class SegmentMode : u8 {
  Flat,      // base 0, no limit to check
  BaseOnly,  // FS and GS in 64-bit mode
  Checked,   // base, limit and type
};
enum class StackMode : u8 { Flat64, Flat32, Checked };  // Checked: the SS register's size, base and limit decide

// An instruction with its operands as byte offsets into CpuState; one cache line.
struct BoundInsn {
  Handler handler;
  i64 immediate;
  u64 address_mask;     // of the effective address: 16, 32 or 64 ones
  i64 displacement;     // RIP-relative: adjusted to count from the block's first byte
  u16 operand[4];       // register operand N: byte offset; segment, control, debug and x87 registers: their number
  u16 row;
  u16 offset;           // of this instruction from the block's first byte
  u16 immediate2;
  u8 position;          // number of instructions before it in the block
  u8 length;
  u8 base, index, scale;  // slots
  u8 segment;
  SegmentMode segment_mode;
  StackMode stack_mode;
  u8 operand_size, address_size, prefixes, code_size_bytes;
  bool memory;
  u8 modrm;
};

static_assert(sizeof(BoundInsn) == 64);

}  // namespace vellum
