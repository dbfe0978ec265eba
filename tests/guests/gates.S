// Interrupt, trap and call gates, privilege changes, IRET, far returns, task switches: SDM Vol. 3A chapters 5 to 7.
#include "runtime.inc"

#define SEL_GATE   0x50
#define SEL_CONF   0x58
#define SEL_TSS2   0x60
#define SEL_TGATE  0x68
#define TSS2       0x4000
#define STACK2     0xa000

// To ring 3 at `target` with IOPL 0.
.macro TO_USER target
  push SEL_UDATA
  push STACK3
  pushfd
  push SEL_UCODE
  push offset \target
  iretd
.endm

test_main:
  // 6.12.1: interrupt gate, same privilege: IF is cleared; INT n pushes the next EIP.
  sti
  TRY
  int 0x30
after_int:
  EXPECT_FAULT 0x30, 0, "INT 30h"
  EXPECT_LABEL [V_EIP], after_int, "INT pushes the address behind it"
  EXPECT_EQUAL [V_CS], SEL_CODE, "INT pushes CS"
  pushfd
  pop eax
  and eax, 0x200
  EXPECT_REG eax, 0, "an interrupt gate clears IF"
  // Trap gate: IF stays.
  mov byte ptr [IDT + 0x30 * 8 + 5], 0x8f
  sti
  TRY
  int 0x30
  EXPECT_FAULT 0x30, 0, "INT 30h through a trap gate"
  pushfd
  cli
  pop eax
  and eax, 0x200
  EXPECT_REG eax, 0x200, "a trap gate keeps IF"
  mov byte ptr [IDT + 0x30 * 8 + 5], 0x8e
  // 6.13: errors of delivery.
  mov byte ptr [IDT + 0x31 * 8 + 5], 0x0e
  TRY
  int 0x31
  EXPECT_FAULT 11, (0x31*8+2), "gate not present: #NP with the IDT bit"
  TRY
  int 0x80
  EXPECT_FAULT 13, (0x80*8+2), "vector outside the IDT: #GP with the IDT bit"
  mov byte ptr [IDT + 0x31 * 8 + 5], 0x8c
  TRY
  int 0x31
  EXPECT_FAULT 13, (0x31*8+2), "not an interrupt gate: #GP with the IDT bit"
  mov byte ptr [IDT + 0x31 * 8 + 5], 0x8e
  mov word ptr [IDT + 0x31 * 8 + 2], SEL_DATA
  TRY
  int 0x31
  EXPECT_FAULT 13, SEL_DATA, "gate to a data segment: #GP(selector), EXT clear for INT n"
  mov word ptr [IDT + 0x31 * 8 + 2], 0
  TRY
  int 0x31
  EXPECT_FAULT 13, 0, "gate to a null selector"
  mov word ptr [IDT + 0x31 * 8 + 2], SEL_CODE
  // A fault's own gate broken: contributory after #UD is benign, so the second is delivered, with EXT.
  mov byte ptr [IDT + 6 * 8 + 5], 0x0e
  TRY
  ud2
  EXPECT_FAULT 11, (6*8+3), "#NP for the gate of #UD has EXT set"
  mov byte ptr [IDT + 6 * 8 + 5], 0x8e
  // 6.15 #DF: #GP while delivering #GP.
  mov byte ptr [IDT + 13 * 8 + 5], 0x0e
  TRY
  mov ax, 0x800
  mov ds, ax
  EXPECT_FAULT 8, 0, "#NP while delivering #GP: double fault with error code 0"
  mov byte ptr [IDT + 13 * 8 + 5], 0x8e

  // 5.8.5 and 6.12.1: from ring 3 the stack comes from the TSS.
  TRY
  TO_USER user_privileged
user_privileged:
  hlt
  EXPECT_FAULT 13, 0, "HLT in ring 3"
  EXPECT_EQUAL [V_CS], SEL_UCODE, "the pushed CS has RPL 3"
  EXPECT_EQUAL [V_ESP], STACK3, "the pushed ESP is that of ring 3"
  EXPECT_EQUAL [V_SS], SEL_UDATA, "the pushed SS is that of ring 3"
  TRY
  TO_USER user_int
user_int:
  int 0x30
  EXPECT_FAULT 13, (0x30*8+2), "INT n through a gate with DPL 0 in ring 3"
  mov byte ptr [IDT + 0x30 * 8 + 5], 0xee
  TRY
  TO_USER user_int3
user_int3:
  int 0x30
  EXPECT_FAULT 0x30, 0, "INT n through a gate with DPL 3 in ring 3"
  mov dword ptr [TSS + 0x68 + 0x0c], 0xfffd0000         // ports 70h and 72h on are closed, 71h is open
  TRY
  TO_USER user_io_open
user_io_open:
  in al, 0x71
  int 0x30
  EXPECT_FAULT 0x30, 0, "port inside the I/O bitmap"
  TRY
  TO_USER user_io_word
user_io_word:
  in ax, 0x71
  EXPECT_FAULT 13, 0, "every byte of a wide port access needs its bit"
  EXPECT_LABEL [V_EIP], user_io_word, "the fault is that of IN"
  TRY
  TO_USER user_io
user_io:
  in al, 0x72
  EXPECT_FAULT 13, 0, "port closed by the I/O bitmap"
  EXPECT_LABEL [V_EIP], user_io, "the fault is that of IN"
  TRY
  TO_USER user_cli
user_cli:
  cli
  EXPECT_FAULT 13, 0, "CLI with CPL above IOPL"
  TRY
  TO_USER user_ds
user_ds:
  mov ax, SEL_DATA
  mov ds, ax
  EXPECT_FAULT 13, SEL_DATA, "DPL 0 data in ring 3"
  TRY
  TO_USER user_popf
user_popf:
  push 0x3202
  popfd
  pushfd
  pop eax
  mov ebp, eax
  int 0x30
  EXPECT_FAULT 0x30, 0, "POPF in ring 3 does not fault"
  and ebp, 0x3200
  EXPECT_REG ebp, 0, "POPF in ring 3 changes neither IOPL nor IF"
  // 5.8.4: call gate to ring 0 with two parameters.
  SET_DESCRIPTOR SEL_GATE, 0, 0x0000ec02
  mov eax, offset gate_target
  mov word ptr [GDT + SEL_GATE], ax
  mov word ptr [GDT + SEL_GATE + 2], SEL_CODE
  shr eax, 16
  mov word ptr [GDT + SEL_GATE + 6], ax
  TRY
  TO_USER user_gate
user_gate:
  push 0x11111111
  push 0x22222222
  .byte 0x9a
  .long 0
  .word SEL_GATE + 3
after_gate:
  mov ebp, esp
  mov ebx, cs
  int 0x30
  EXPECT_FAULT 0x30, 0, "call gate and return"
  EXPECT_EQUAL [SCRATCH], 0x22222222, "the last parameter is copied first"
  EXPECT_EQUAL [SCRATCH + 4], 0x11111111, "the first parameter is copied"
  EXPECT_LABEL [SCRATCH + 8], after_gate, "the return address"
  EXPECT_EQUAL [SCRATCH + 12], SEL_UCODE, "the return CS"
  EXPECT_EQUAL [SCRATCH + 16], (STACK3-8), "the outer ESP"
  EXPECT_EQUAL [SCRATCH + 20], SEL_CODE, "CS of the gate has CPL 0 as RPL"
  EXPECT_REG ebp, STACK3, "RETF imm releases the parameters of the outer stack"
  jmp gate_done
gate_target:
  push ds
  push SEL_UDATA
  pop ds
  mov eax, dword ptr [esp + 12]
  mov dword ptr [SCRATCH], eax
  mov eax, dword ptr [esp + 16]
  mov dword ptr [SCRATCH + 4], eax
  mov eax, dword ptr [esp + 4]
  mov dword ptr [SCRATCH + 8], eax
  mov eax, dword ptr [esp + 8]
  mov dword ptr [SCRATCH + 12], eax
  mov eax, dword ptr [esp + 20]
  mov dword ptr [SCRATCH + 16], eax
  mov eax, cs
  movzx eax, ax
  mov dword ptr [SCRATCH + 20], eax
  add esp, 4
  retf 8
gate_done:
  // 5.8.6: RETF and IRET to an outer level clear segment registers that it may not use.
  mov ax, SEL_DATA
  mov gs, ax
  TRY
  TO_USER user_null
user_null:
  mov eax, gs
  mov ebp, eax
  int 0x30
  EXPECT_FAULT 0x30, 0, "to ring 3 with GS of DPL 0"
  movzx ebp, bp
  EXPECT_REG ebp, 0, "GS was made null"
  // 5.8.1.2: conforming code keeps CPL.
  SET_DESCRIPTOR SEL_CONF, 0x0000ffff, 0x00cf9e00
  TRY
  TO_USER user_conforming
user_conforming:
  .byte 0xea
  .long in_conforming
  .word SEL_CONF
in_conforming:
  int 0x30
  EXPECT_FAULT 0x30, 0, "jump to conforming code from ring 3"
  EXPECT_EQUAL [V_CS], (SEL_CONF+3), "CPL stays 3 in conforming code"
  TRY
  TO_USER user_jump0
user_jump0:
  .byte 0xea
  .long 0
  .word SEL_CODE
  EXPECT_FAULT 13, SEL_CODE, "far jump from ring 3 to ring 0 code"
  TRY
  push SEL_UCODE - 3
  push 0
  retf
  EXPECT_FAULT 13, (SEL_UCODE-3), "RETF to code of another DPL with RPL 0"
  TRY
  .byte 0xea
  .long 0
  .word SEL_DATA
  EXPECT_FAULT 13, SEL_DATA, "far jump to data"

  // Chapter 7: a task switch by CALL and back by IRET.
  SET_DESCRIPTOR SEL_TSS2, 0x40000067, 0x00008900
  mov edi, TSS2
  mov ecx, 0x68 / 4
  xor eax, eax
  rep stosd
  mov dword ptr [TSS2 + 0x20], offset task2
  mov dword ptr [TSS2 + 0x24], 2
  mov dword ptr [TSS2 + 0x28], 0x77777777              // EAX
  mov dword ptr [TSS2 + 0x38], STACK2
  mov dword ptr [TSS2 + 0x48], SEL_DATA
  mov dword ptr [TSS2 + 0x4c], SEL_CODE
  mov dword ptr [TSS2 + 0x50], SEL_DATA
  mov dword ptr [TSS2 + 0x54], SEL_DATA
  mov dword ptr [TSS2 + 0x58], SEL_DATA
  mov dword ptr [TSS2 + 0x5c], SEL_DATA
  clts
  mov ebp, esp
  mov ebx, 0x12344321
  .byte 0x9a
  .long 0
  .word SEL_TSS2
  sub ebp, esp
  EXPECT_REG ebp, 0, "ESP comes back from the task"
  EXPECT_REG ebx, 0x12344321, "EBX comes back from the task"
  EXPECT_EQUAL [SCRATCH], 0x77777777, "the task starts with its EAX"
  mov eax, dword ptr [SCRATCH + 4]
  and eax, 0x4000
  EXPECT_REG eax, 0x4000, "NT is set in a task that was called"
  mov eax, dword ptr [SCRATCH + 8]
  and eax, 8
  EXPECT_REG eax, 8, "a task switch sets CR0.TS"
  mov eax, dword ptr [TSS2]
  movzx eax, ax
  EXPECT_REG eax, SEL_TSS, "the back link"
  EXPECT_EQUAL [SCRATCH + 12], 0x00008b00, "the calling task stays busy while the other runs"
  EXPECT_EQUAL [GDT + SEL_TSS2 + 4], 0x00008900, "IRET makes the task available"
  str eax
  EXPECT_REG eax, SEL_TSS, "back in the first task"
  pushfd
  pop eax
  and eax, 0x4000
  EXPECT_REG eax, 0, "NT is clear in the first task"
  // By JMP through a task gate, and back by JMP to the TSS.
  SET_DESCRIPTOR SEL_TGATE, (SEL_TSS2<<16), 0x00008500
  mov dword ptr [TSS2 + 0x20], offset task2_jump
  mov dword ptr [TSS2 + 0x24], 2
  .byte 0xea
  .long 0
  .word SEL_TGATE
  EXPECT_EQUAL [SCRATCH + 16], 0x00008900, "JMP makes the old task available"
  // An exception through a task gate pushes its error code there.
  mov word ptr [IDT + 13 * 8 + 2], SEL_TSS2
  mov byte ptr [IDT + 13 * 8 + 5], 0x85
  mov dword ptr [TSS2 + 0x20], offset task2_fault
  mov dword ptr [TSS2 + 0x24], 2
  mov dword ptr [TSS2 + 0x38], STACK2
  mov dword ptr [SCRATCH + 20], 0
  mov ax, 0x7f0
faulting:
  mov fs, ax
after_faulting:
  EXPECT_EQUAL [SCRATCH + 20], 0x7f0, "the error code on the task's stack"
  EXPECT_LABEL [SCRATCH + 24], faulting, "the faulting task's EIP in its TSS"
  mov word ptr [IDT + 13 * 8 + 2], SEL_CODE
  mov byte ptr [IDT + 13 * 8 + 5], 0x8e
  // 7.3: a bad new task.
  mov byte ptr [GDT + SEL_TSS2 + 5], 0x8b
  TRY
  .byte 0xea
  .long 0
  .word SEL_TSS2
  EXPECT_FAULT 13, SEL_TSS2, "JMP to a busy TSS"
  mov byte ptr [GDT + SEL_TSS2 + 5], 0x89
  mov byte ptr [GDT + SEL_TSS2], 0x66
  TRY
  .byte 0xea
  .long 0
  .word SEL_TSS2
  EXPECT_FAULT 10, SEL_TSS2, "a TSS that is too short: #TS"
  clts
  jmp done

task2:
  mov dword ptr [SCRATCH], eax
  pushfd
  pop dword ptr [SCRATCH + 4]
  mov eax, cr0
  mov dword ptr [SCRATCH + 8], eax
  mov eax, dword ptr [GDT + SEL_TSS + 4]
  mov dword ptr [SCRATCH + 12], eax
  iretd
task2_jump:
  mov eax, dword ptr [GDT + SEL_TSS + 4]
  mov dword ptr [SCRATCH + 16], eax
  .byte 0xea
  .long 0
  .word SEL_TSS
task2_fault:
  pop dword ptr [SCRATCH + 20]
  mov eax, dword ptr [TSS + 0x20]
  mov dword ptr [SCRATCH + 24], eax
  mov dword ptr [TSS + 0x20], offset after_faulting
  iretd
