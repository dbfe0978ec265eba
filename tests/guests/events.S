// Interrupts and their shadows, HLT, NMI blocking, SMM, triple fault: SDM Vol. 3A 6.7, 6.8, 2B "STI", 3C chapter 31.
#include "runtime.inc"

#define MARK 0x600

.macro RAISE_INTERRUPT vector
  mov al, \vector
  out 0xe0, al
.endm

test_main:
  cmp dword ptr [MARK], 0x3fa17
  je after_shutdown
  // 6.8.1: IF masks; STI takes effect behind the next instruction.
  TRY
  RAISE_INTERRUPT 0x30
  nop
  nop
  sti
  nop
after_sti:
  nop
  EXPECT_FAULT 0x30, -1, "an interrupt after STI"
  EXPECT_LABEL [V_EIP], after_sti, "one instruction runs behind STI first"
  TRY
  RAISE_INTERRUPT 0x31
  sti
  hlt
after_hlt:
  nop
  EXPECT_FAULT 0x31, -1, "STI, HLT with an interrupt pending"
  EXPECT_LABEL [V_EIP], after_hlt, "HLT is executed and woken"
  TRY
  mov bx, ss
  RAISE_INTERRUPT 0x32
  sti
  mov ss, bx
  nop
after_shadow:
  nop
  EXPECT_FAULT 0x32, -1, "an interrupt after MOV SS"
  EXPECT_LABEL [V_EIP], after_shadow, "one instruction runs behind MOV SS first"
  TRY
  RAISE_INTERRUPT 0x33
  pushfd
  or dword ptr [esp], 0x200
  popfd
after_popf:
  nop
  EXPECT_FAULT 0x33, -1, "an interrupt after POPF"
  EXPECT_LABEL [V_EIP], after_popf, "POPF has no shadow"
  TRY
  RAISE_INTERRUPT 0x34
  push 0x202
  push cs
  push offset after_iret
  iretd
after_iret:
  nop
  EXPECT_FAULT 0x34, -1, "an interrupt after IRET"
  EXPECT_LABEL [V_EIP], after_iret, "IRET has no shadow"
  TRY
  sti
  nop
  RAISE_INTERRUPT 0x35
after_out:
  nop
  EXPECT_FAULT 0x35, -1, "an interrupt with IF set"
  EXPECT_LABEL [V_EIP], after_out, "it comes behind the instruction that raised it"
  cli

  // 6.7.1: an NMI blocks further ones until IRET.
  TRY
  out 0xe1, al
after_nmi:
  nop
  EXPECT_FAULT 2, -1, "NMI with IF clear"
  EXPECT_LABEL [V_EIP], after_nmi, "behind the instruction that raised it"
  TRY
  out 0xe1, al
  nop
  mov dword ptr [V_VECTOR], 0x100
  EXPECT_FAULT 0x100, -1, "a second NMI is blocked"
  TRY
  push 2
  push cs
  push offset nmi_unblocked
  iretd
nmi_unblocked:
  nop
  EXPECT_FAULT 2, -1, "IRET lets it in"
  EXPECT_LABEL [V_EIP], nmi_unblocked, "at once"
  push 2
  push cs
  push offset nmi_done
  iretd
nmi_done:

  // 31.3 to 31.4: SMI, RSM, relocation of SMBASE.
  cld
  mov esi, offset smm_first
  mov edi, 0x38000
  mov ecx, offset smm_end - smm_first
  rep movsb
  mov dword ptr [0x620], 0
  mov ebx, 0xb0b0
  mov ebp, esp
  stc
  out 0xb2, al
after_smi:
  setc al
  movzx eax, al
  EXPECT_REG eax, 1, "RSM restores the flags"
  EXPECT_EQUAL [0x620], 1, "the SMM handler ran"
  EXPECT_EQUAL [0x624], 0x00020064, "revision of the save map"
  EXPECT_LABEL [0x628], after_smi, "the saved RIP is behind OUT"
  EXPECT_EQUAL [0x62c], 0x10, "CR0 in SMM has ET only"
  EXPECT_REG ebx, 0xcafe, "RSM loads a changed EBX"
  sub ebp, esp
  EXPECT_REG ebp, 0, "and the same ESP"
  mov eax, ds
  movzx eax, ax
  EXPECT_REG eax, SEL_DATA, "and DS"
  mov dword ptr [0x38000], 0xfeebfeeb                   // the old place must not run again
  mov esi, offset smm_second
  mov edi, 0x48000
  mov ecx, 32
  rep movsb
  out 0xb2, al
  nop
  EXPECT_EQUAL [0x620], 0x2222, "the second SMI runs at the new SMBASE"
  TRY
  rsm
  EXPECT_FAULT 6, -1, "RSM outside SMM"

  // A triple fault: the board resets, and RAM is kept.
  mov dword ptr [MARK], 0x3fa17
  mov eax, dword ptr [V_FAILED]
  mov dword ptr [MARK + 4], eax
  mov eax, dword ptr [V_COUNT]
  mov dword ptr [MARK + 8], eax
  mov eax, 1                                            // tells the harness that this shutdown is meant
  mov dr0, eax
  lidt [empty_idt]
  ud2
after_shutdown:
  mov dword ptr [MARK], 0
  mov eax, dword ptr [MARK + 4]
  mov dword ptr [V_FAILED], eax
  mov eax, dword ptr [MARK + 8]
  mov dword ptr [V_COUNT], eax
  mov eax, dr0
  EXPECT_REG eax, 0, "RESET clears DR0"
  mov eax, cr0
  and eax, 0x60000000
  EXPECT_REG eax, 0x60000000, "RESET sets CD and NW"
  jmp done

empty_idt:
  .word 0
  .long 0

.code16
smm_first:
  mov ax, 0
  mov ds, ax
  mov dword ptr [0x620], 1
  mov eax, dword ptr cs:[0xfefc]
  mov dword ptr [0x624], eax
  mov eax, dword ptr cs:[0xff78]
  mov dword ptr [0x628], eax
  mov eax, cr0
  and eax, 0x9fffffff
  mov dword ptr [0x62c], eax
  mov dword ptr cs:[0xffe0], 0xcafe
  mov dword ptr cs:[0xff00], 0x40000
  rsm
smm_second:
  mov dword ptr [0x620], 0x2222
  rsm
smm_end:
.code32
