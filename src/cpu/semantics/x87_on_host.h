// x87 instructions as the host's own x87 runs them, for optimized code on x86-64 hosts: while it runs, the host's register stack,
// control and status words are the guest's. What is left to do is to bring memory operands there and back, and FIP and FDP.
#pragma once

#include "cpu/semantics/x87.h"

// Calls of functions that exist nowhere: the optimizing translator puts instructions in their places. `code` is the opcode's
// first byte in bits 15:8, and ModRM in 7:0; with memory operands only bits 5:3 of that matter.
extern "C" {
void vellum_x87(vellum::u64 code);
void vellum_x87_load_2(vellum::u64 code, vellum::u16 value);
void vellum_x87_load_4(vellum::u64 code, vellum::u32 value);
void vellum_x87_load_8(vellum::u64 code, vellum::u64 value);
void vellum_x87_load_10(vellum::u64 code, vellum::u64 low, vellum::u16 high);
void vellum_x87_store(vellum::u64 code, vellum::u8* host);
// FNSTCW, FNSTSW.
vellum::u16 vellum_x87_word(vellum::u64 code);
// FCOMI and its relatives: CF, PF and ZF at their places in RFLAGS.
vellum::u32 vellum_x87_compare(vellum::u64 code);
// FCMOVNE if the condition holds, and what that does to the status in any case.
void vellum_x87_move_if(vellum::u64 code, vellum::u32 condition);
}

namespace vellum::semantics {

enum class X87HostForm : u8 { Ordinary, Plain, Load, Store, LoadControl, StoreWord, CompareToFlags, MoveIf };

// SDM Vol. 2D, tables. `reg` is bits 5:3 of ModRM, `rm` bits 2:0 or -1 where they are the operand.
consteval X87HostForm x87_host_form(u8 opcode, bool memory, unsigned reg, int rm) {
  using enum X87HostForm;
  if (memory) {
    switch (opcode) {
      case 0xd9: return reg == 5 ? LoadControl : reg == 7 ? StoreWord : reg == 0 ? Load : Store;
      case 0xdb: return reg == 0 || reg == 5 ? Load : Store;
      case 0xdd: return reg == 7 ? StoreWord : reg == 0 ? Load : Store;
      case 0xdf: return reg == 0 || reg == 4 || reg == 5 ? Load : reg == 6 ? Ordinary : Store;
      default: return Load;
    }
  }
  switch (opcode) {
    case 0xda: return reg < 4 ? MoveIf : Plain;
    case 0xdb: return reg < 4 ? MoveIf : reg == 4 ? (rm == 2 ? Plain : Ordinary) : CompareToFlags;  // E2: FNCLEX
    case 0xdf: return reg == 4 ? StoreWord : reg >= 5 ? CompareToFlags : Plain;
    case 0x9b: return Ordinary;
    default: return Plain;
  }
}

// S: the row's ordinary semantics.
template <class S, u8 Opcode, bool Memory, unsigned Reg, int Rm>
struct X87OnHost {
  static constexpr X87HostForm kForm = x87_host_form(Opcode, Memory, Reg, Rm);
  static constexpr u64 kCode = u64{Opcode} << 8 | (Memory ? 0u : 0xc0u) | Reg << 3 | (Rm >= 0 ? static_cast<unsigned>(Rm) : 0u);

  template <class C>
  VELLUM_INLINE static u64 code(C& c) {
    if constexpr (!Memory && Rm < 0) return kCode | c.template operand<0>();
    else return kCode;
  }

  template <class C>
  VELLUM_INLINE static void op(C& c) {
    using enum X87HostForm;
    if constexpr (kForm == Ordinary) {
      S::op(c);
    } else if constexpr (kForm == Plain) {
      constexpr u64 kClearExceptions = 0xdbe2;  // FNCLEX leaves FIP alone
      if constexpr (kCode != kClearExceptions) x87_record(c);
      vellum_x87(code(c));
    } else if constexpr (kForm == Load) {
      load(c);
    } else if constexpr (kForm == Store) {
      store(c);
    } else if constexpr (kForm == LoadControl) {
      const u16 value = c.template read<0>();
      if ((value & x87::kExceptions) != x87::kExceptions) [[unlikely]] c.leave_region();
      vellum_x87_load_2(kCode, value);
    } else if constexpr (kForm == StoreWord) {
      c.template write<0>(vellum_x87_word(kCode));
    } else if constexpr (kForm == CompareToFlags) {
      x87_record(c);
      // The SDM says that these clear C1, AMD's leave it alone; FDECSTP and FINCSTP clear it on both.
      constexpr u64 kDecrementTop = 0xd9f6, kIncrementTop = 0xd9f7;
      vellum_x87(kDecrementTop);
      vellum_x87(kIncrementTop);
      c.set_explicit_flags(vellum_x87_compare(code(c)));
    } else {
      // Which condition it is stands in the opcode; this one is true or false.
      constexpr u64 kMoveIfNotEqual = 0xdbc8;
      constexpr u8 kCondition = static_cast<u8>((Reg == 3 ? 10 : 2 * Reg + 2) + (Opcode == 0xdb ? 1 : 0));
      const bool condition = c.condition(kCondition);
      x87_record(c);
      vellum_x87_move_if(kMoveIfNotEqual | c.template operand<0>(), condition);
    }
  }

 private:
  template <class C>
  VELLUM_INLINE static void load(C& c) {
    u64 offset;
    const auto value = x87_load(c, offset);
    x87_record_data(c, offset);
    constexpr unsigned kSize = Bytes<typename C::template Type<0>>::kSize;
    if constexpr (kSize == 10) vellum_x87_load_10(kCode, value.significand, value.sign_exponent);
    else if constexpr (kSize == 8) vellum_x87_load_8(kCode, value);
    else if constexpr (kSize == 4) vellum_x87_load_4(kCode, value);
    else vellum_x87_load_2(kCode, value);
  }
  // Straight to memory, because nothing may fault behind it any more. Where that cannot be the handler does it.
  template <class C>
  VELLUM_INLINE static void store(C& c) {
    constexpr unsigned kSize = Bytes<typename C::template Type<0>>::kSize, kChecked = kSize == 10 ? 16 : kSize;
    const u64 offset = c.effective_offset();
    const u64 linear = x87_operand_linear(c, offset, AccessType::Write);
    if (kSize == 10 && (linear & 0xfff) > 0x1000 - kChecked) [[unlikely]] c.leave_region();
    u8* host = c.template writable_host<kChecked>(linear);
    if (!host) [[unlikely]] c.leave_region();
    x87_record_data(c, offset);
    vellum_x87_store(kCode, host);
  }
};

}  // namespace vellum::semantics
