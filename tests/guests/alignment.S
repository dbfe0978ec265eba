// Alignment checks: SDM Vol. 3A 6.15 (#AC).
#include "runtime.inc"

.macro TO_USER target, flags
  push SEL_UDATA
  push STACK3
  push (\flags) | 2
  push SEL_UCODE
  push offset \target
  iretd
.endm

test_main:
  mov byte ptr [IDT + 0x30 * 8 + 5], 0xee
  mov dword ptr [SCRATCH], 0x11223344
  mov dword ptr [SCRATCH + 4], 0x55667788
  TRY
  TO_USER without_am, 0x40000
without_am:
  mov eax, dword ptr ss:[SCRATCH + 1]
  int 0x30
  EXPECT_FAULT 0x30, -1, "EFLAGS.AC without CR0.AM"
  mov eax, cr0
  or eax, 0x40000
  mov cr0, eax
  TRY
  TO_USER without_ac, 0
without_ac:
  mov eax, dword ptr ss:[SCRATCH + 1]
  int 0x30
  EXPECT_FAULT 0x30, -1, "CR0.AM without EFLAGS.AC"
  TRY
  TO_USER dword_read, 0x40000
dword_read:
  mov eax, dword ptr ss:[SCRATCH + 2]
  EXPECT_FAULT 17, 0, "unaligned dword read: #AC(0)"
  EXPECT_LABEL [V_EIP], dword_read, "a fault"
  TRY
  TO_USER word_write, 0x40000
word_write:
  mov word ptr ss:[SCRATCH + 1], ax
  EXPECT_FAULT 17, 0, "unaligned word write: #AC(0)"
  TRY
  TO_USER aligned, 0x40000
aligned:
  mov ax, word ptr ss:[SCRATCH + 2]
  mov al, byte ptr ss:[SCRATCH + 3]
  mov eax, dword ptr ss:[SCRATCH + 4]
  push eax
  pop ebp
  int 0x30
  EXPECT_FAULT 0x30, -1, "aligned accesses"
  EXPECT_REG ebp, 0x55667788, "their value"
  TRY
  TO_USER stack, 0x40000
stack:
  sub esp, 2
stack_push:
  push eax
  EXPECT_FAULT 17, 0, "unaligned push: #AC(0)"
  EXPECT_LABEL [V_EIP], stack_push, "a fault at PUSH"
  EXPECT_EQUAL [V_ESP], (STACK3-2), "ESP is unchanged"
  TRY
  pushfd
  or dword ptr [esp], 0x40000
  popfd
  mov eax, dword ptr [SCRATCH + 1]
  mov dword ptr [V_VECTOR], 0x100
  EXPECT_FAULT 0x100, -1, "no checks below CPL 3"
  jmp done
