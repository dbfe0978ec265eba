// Debug exceptions, RF, TF and the MOV SS shadow: SDM Vol. 3B chapter 18, Vol. 3A 6.8.3.
#include "runtime.inc"

.macro CLEAR_DR6
  xor eax, eax
  mov dr6, eax
.endm

test_main:
  // 18.3.1.4: TF traps behind the next instruction.
  CLEAR_DR6
  TRY
  pushfd
  or dword ptr [esp], 0x100
  popfd
  nop
after_step:
  nop
  EXPECT_FAULT 1, -1, "single step"
  EXPECT_LABEL [V_EIP], after_step, "the trap is behind the instruction after POPF"
  mov eax, dword ptr [V_DR6]
  and eax, 0xe00f
  EXPECT_REG eax, 0x4000, "DR6.BS"
  mov eax, dword ptr [V_EFLAGS]
  and eax, 0x10100
  EXPECT_REG eax, 0x100, "the pushed flags have TF, and not RF: it is a trap"
  // 6.8.3: MOV SS holds the trap off for one instruction.
  CLEAR_DR6
  mov bx, ss
  TRY
  pushfd
  or dword ptr [esp], 0x100
  popfd
  mov ss, bx
  nop
after_shadow:
  nop
  EXPECT_FAULT 1, -1, "single step over MOV SS"
  EXPECT_LABEL [V_EIP], after_shadow, "the trap waits until behind the instruction after MOV SS"
  // INT n clears TF and the trap does not come in between.
  CLEAR_DR6
  TRY
  pushfd
  or dword ptr [esp], 0x100
  popfd
  int 0x30
after_int:
  EXPECT_FAULT 0x30, -1, "INT n with TF set"
  EXPECT_LABEL [V_EIP], after_int, "no trap before the handler's first instruction"

  // 18.3.1.1: instruction breakpoints are faults, and RF in the pushed flags lets the handler resume.
  CLEAR_DR6
  mov eax, offset breakpoint0
  mov dr0, eax
  mov eax, 0x402
  mov dr7, eax
  TRY
  nop
breakpoint0:
  inc ebp
  EXPECT_FAULT 1, -1, "instruction breakpoint"
  EXPECT_LABEL [V_EIP], breakpoint0, "a fault at the instruction"
  mov eax, dword ptr [V_DR6]
  and eax, 0xe00f
  EXPECT_REG eax, 1, "DR6.B0"
  xor ebp, ebp
  TRY
  pushfd
  or dword ptr [esp], 0x10000
  push cs
  push offset breakpoint1
  mov eax, offset breakpoint1
  mov dr0, eax
  iretd
breakpoint1:
  inc ebp
  int 0x30
  EXPECT_FAULT 0x30, -1, "IRET with RF passes the breakpoint"
  EXPECT_REG ebp, 1, "and the instruction runs"
  // 18.3.1.2: data breakpoints are traps.
  CLEAR_DR6
  mov eax, SCRATCH + 4
  mov dr1, eax
  mov eax, 0x00d00408                                    // G1, write, four bytes
  mov dr7, eax
  TRY
  mov eax, dword ptr [SCRATCH + 4]
  mov byte ptr [SCRATCH + 6], 0x5a
after_write:
  nop
  EXPECT_FAULT 1, -1, "data breakpoint on a write"
  EXPECT_LABEL [V_EIP], after_write, "a trap behind the write"
  mov eax, dword ptr [V_DR6]
  and eax, 0xe00f
  EXPECT_REG eax, 2, "DR6.B1"
  TRY
  mov byte ptr [SCRATCH + 8], 1
  mov byte ptr [SCRATCH + 3], 1
  mov dword ptr [V_VECTOR], 0x100
  EXPECT_FAULT 0x100, -1, "writes beside the watched bytes"
  mov eax, 0x00f00408                                    // read or write
  mov dr7, eax
  CLEAR_DR6
  TRY
  mov al, byte ptr [SCRATCH + 7]
after_read:
  nop
  EXPECT_FAULT 1, -1, "data breakpoint on a read"
  EXPECT_LABEL [V_EIP], after_read, "a trap behind the read"
  // With MOV SS the data breakpoint's trap waits, 6.8.3.
  mov eax, 0x400
  mov dr7, eax
  mov word ptr [SCRATCH + 4], SEL_DATA
  mov eax, 0x00f00408
  mov dr7, eax
  CLEAR_DR6
  TRY
  mov ss, word ptr [SCRATCH + 4]
  nop
after_ss:
  nop
  EXPECT_FAULT 1, -1, "data breakpoint hit by MOV SS"
  EXPECT_LABEL [V_EIP], after_ss, "its trap comes behind the instruction after MOV SS"
  // An INT1 in the shadow takes the held trap with it: one #DB, not two.
  CLEAR_DR6
  TRY
  mov ss, word ptr [SCRATCH + 4]
  .byte 0xf1
after_held_icebp:
  EXPECT_FAULT 1, -1, "INT1 behind a MOV SS that hit a data breakpoint"
  EXPECT_LABEL [V_EIP], after_held_icebp, "the only #DB is that of INT1"
  mov eax, 0x400
  mov dr7, eax
  // MOV SS itself has no single-step trap, so that none is left for the handler of INT1.
  CLEAR_DR6
  mov bx, ss
  TRY
  pushfd
  or dword ptr [esp], 0x100
  popfd
  mov ss, bx
  .byte 0xf1
after_stepped_icebp:
  EXPECT_FAULT 1, -1, "INT1 behind MOV SS with TF set"
  EXPECT_LABEL [V_EIP], after_stepped_icebp, "the only #DB is that of INT1, with TF set"
  mov eax, dword ptr [V_DR6]
  and eax, 0xe00f
  EXPECT_REG eax, 0, "INT1 sets no bit of DR6, and MOV SS has left no DR6.BS"

  // 18.2.4: general detect.
  CLEAR_DR6
  mov eax, 0x2400
  TRY
  mov dr7, eax
general_detect:
  mov ebx, dr0
  EXPECT_FAULT 1, -1, "access to a debug register with GD"
  EXPECT_LABEL [V_EIP], general_detect, "a fault"
  mov eax, dword ptr [V_DR6]
  and eax, 0xe00f
  EXPECT_REG eax, 0x2000, "DR6.BD"
  mov eax, dr7
  EXPECT_REG eax, 0x400, "the handler runs with GD clear"
  // 18.2.2: DR4 and DR5.
  mov eax, dr4
  mov ebx, dr6
  sub eax, ebx
  EXPECT_REG eax, 0, "DR4 is DR6 without CR4.DE"
  mov eax, cr4
  or eax, 8
  mov cr4, eax
  TRY
  mov eax, dr5
  EXPECT_FAULT 6, -1, "DR5 does not exist with CR4.DE"
  // 18.2.3, 18.2.4: fixed bits.
  xor eax, eax
  mov dr6, eax
  mov eax, dr6
  EXPECT_REG eax, 0xffff0ff0, "DR6's fixed bits"
  // RF in what faults push, and ICEBP.
  TRY
  ud2
  EXPECT_FAULT 6, -1, "UD2"
  mov eax, dword ptr [V_EFLAGS]
  and eax, 0x10000
  EXPECT_REG eax, 0x10000, "a fault pushes RF"
  TRY
  int 0x30
  EXPECT_FAULT 0x30, -1, "INT 30h"
  mov eax, dword ptr [V_EFLAGS]
  and eax, 0x10000
  EXPECT_REG eax, 0, "a software interrupt does not push RF"
  TRY
  .byte 0xf1
after_icebp:
  EXPECT_FAULT 1, -1, "INT1"
  EXPECT_LABEL [V_EIP], after_icebp, "INT1 is a trap"
  jmp done
