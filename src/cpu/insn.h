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
  u8 vector_index = 0;     // the index register of a VSIB byte, whose scale is `scale`; `index` is then kZeroSlot
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

// An instruction with its operands as byte offsets into CpuState. A warm guest runs through more instructions than the
// host's first-level cache holds lines, so two share one.
struct BoundInsn {
  i32 handler;          // address of its Handler, relative to interpreter_leave (block.h)
  i32 immediate_low;    // the immediate; with wide() its low half, and displacement is the high one
  i32 displacement;     // RIP-relative: adjusted to count from CpuState::code_base
  u16 operand[4];       // register operand N: byte offset; segment, control, debug and x87 registers: their number
  u16 row;
  u16 offset;           // of this instruction from the first byte of the page that its block begins on
  u8 base, index;       // slots
  u8 address_mask_slot;
  u8 prefixes;
  u8 position : 6;      // number of instructions before it in the block
  u8 scale : 2;
  u8 segment : 3;
  SegmentMode segment_mode : 2;
  StackMode stack_mode : 2;
  bool memory : 1;
  u8 operand_size : 4;
  u8 address_size : 4;
  u8 code_size_bytes : 4;
  u8 length : 4;

  i64 immediate() const { return immediate_low; }
  // For MOV with a 64-bit immediate, and absolute offsets: neither has the other field.
  u64 wide() const { return static_cast<u64>(static_cast<u32>(displacement)) << 32 | static_cast<u32>(immediate_low); }
  // ENTER's nesting level, a far pointer's selector: rows with two immediates have no fourth operand.
  u16 immediate2() const { return operand[3]; }
  u64 address_mask() const { return address_size == 8 ? ~u64{0} : address_size == 4 ? 0xffffffff : 0xffff; }
};
static_assert(sizeof(BoundInsn) == 32);

}  // namespace vellum
