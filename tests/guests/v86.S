// Virtual-8086 mode, with and without CR4.VME: SDM Vol. 3A chapter 20.
#include "runtime.inc"

#define V86_SS   0x0d00
#define V86_SP   0x0ffe
#define FRAME    (STACK0 - 0x400)

// To `target` (in segment F000) in V86 mode with these flags.
.macro TO_V86 target, flags
  push 0x4444                // GS
  push 0x3333                // FS
  push 0x0c00                // DS: linear C000h, SCRATCH
  push 0x1111                // ES
  push V86_SS
  push V86_SP
  push (\flags) | 0x20002
  push 0xf000
  push offset \target - 0xf0000
  iretd
.endm

test_main:
  mov byte ptr [IDT + 0x30 * 8 + 5], 0xee
  mov byte ptr [IDT + 3 * 8 + 5], 0xee
  mov dword ptr [SCRATCH], 0xcafe1234
  TRY
  TO_V86 v86_cli, 0
.code16
v86_cli:
  cli
.code32
  EXPECT_FAULT 13, 0, "CLI with IOPL 0"
  EXPECT_EQUAL [V_CS], 0xf000, "the pushed CS"
  EXPECT_EQUAL [V_SS], V86_SS, "the pushed SS"
  EXPECT_EQUAL [V_ESP], V86_SP, "the pushed ESP"
  EXPECT_EQUAL [FRAME-4], 0x4444, "GS is pushed first, 20.3.1"
  EXPECT_EQUAL [FRAME-8], 0x3333, "then FS"
  EXPECT_EQUAL [FRAME-12], 0x0c00, "then DS"
  EXPECT_EQUAL [FRAME-16], 0x1111, "then ES"
  EXPECT_LABEL [V_EIP], v86_cli-0xf0000, "the pushed EIP is that of CLI"
  mov eax, dword ptr [V_EFLAGS]
  and eax, 0x30000
  EXPECT_REG eax, 0x30000, "VM and RF in the pushed flags"
  mov eax, fs
  movzx eax, ax
  EXPECT_REG eax, 0, "FS is null in the handler"

  // 20.2.6: what IOPL 3 allows.
  TRY
  TO_V86 v86_iopl3, 0x3200
.code16
v86_iopl3:
  cli
  pushf
  pop bx
  sti
  mov eax, dword ptr [0]
  int 0x30
.code32
  EXPECT_FAULT 0x30, 0, "INT n with IOPL 3 through the IDT"
  TRY
  TO_V86 v86_read, 0x3000
.code16
v86_read:
  mov eax, dword ptr [0]
  mov dword ptr [4], eax
  mov si, 0xfffd
  mov eax, dword ptr [si]
.code32
  EXPECT_FAULT 13, 0, "segments have a limit of FFFFh"
  EXPECT_EQUAL [SCRATCH+4], 0xcafe1234, "a base is the selector times 16"
  TRY
  TO_V86 v86_int, 0
.code16
v86_int:
  int 0x30
.code32
  EXPECT_FAULT 13, 0, "INT n with IOPL below 3: #GP(0)"
  TRY
  TO_V86 v86_int3, 0
.code16
v86_int3:
  .byte 0xcc
.code32
  EXPECT_FAULT 3, 0, "INT3 does not look at IOPL"
  TRY
  TO_V86 v86_pushf, 0
.code16
v86_pushf:
  pushf
.code32
  EXPECT_FAULT 13, 0, "PUSHF with IOPL below 3"
  TRY
  TO_V86 v86_iret, 0
.code16
v86_iret:
  iret
.code32
  EXPECT_FAULT 13, 0, "IRET with IOPL below 3"
  TRY
  TO_V86 v86_hlt, 0x3000
.code16
v86_hlt:
  hlt
.code32
  EXPECT_FAULT 13, 0, "HLT"
  TRY
  TO_V86 v86_sldt, 0x3000
.code16
v86_sldt:
  sldt ax
.code32
  EXPECT_FAULT 6, -1, "SLDT does not exist"
  TRY
  TO_V86 v86_cr0, 0x3000
.code16
v86_cr0:
  mov eax, cr0
.code32
  EXPECT_FAULT 13, 0, "MOV from CR0"
  TRY
  TO_V86 v86_port, 0x3000
.code16
v86_port:
  mov dx, 0x71
  in al, dx
  mov dx, 0x1f
v86_port_closed:
  in al, dx
.code32
  EXPECT_FAULT 13, 0, "ports follow the bitmap even with IOPL 3"
  EXPECT_LABEL [V_EIP], v86_port_closed-0xf0000, "the port inside the bitmap did not fault"

  // 20.3.3: CR4.VME and the redirection bitmap.
  mov eax, cr4
  or eax, 1
  mov cr4, eax
  mov word ptr [TSS + 0x66], 0x88
  mov dword ptr [TSS + 0x68 + 0x04], 1 << 1              // vector 21h to the monitor, all others to the 8086 program
  mov eax, offset v86_handler
  mov word ptr [0x22 * 4], ax
  mov word ptr [0x22 * 4 + 2], 0xf000
  mov byte ptr [IDT + 0x21 * 8 + 5], 0xee
  TRY
  TO_V86 v86_redirected, 0x80000                         // VIF set, IOPL 0
.code16
v86_redirected:
  int 0x22
after_redirected:
  pushf
  pop ax
  mov word ptr [0x20], ax
  cli
  pushf
  pop ax
  mov word ptr [0x22], ax
  int 0x21
.code32
  EXPECT_FAULT 13, 0, "a vector whose bit is set needs IOPL 3"
  EXPECT_LABEL [SCRATCH+0x10], after_redirected-0xf0000, "the redirected interrupt pushed IP"
  mov eax, dword ptr [SCRATCH + 0x14]
  and eax, 0x3200
  EXPECT_REG eax, 0x3200, "it pushed IF = VIF and IOPL = 3"
  mov eax, dword ptr [SCRATCH + 0x18]
  and eax, 0x200
  EXPECT_REG eax, 0, "it cleared VIF"
  mov eax, dword ptr [SCRATCH + 0x20]
  and eax, 0x3200
  EXPECT_REG eax, 0x3200, "IRET set VIF again; PUSHF shows it as IF"
  mov eax, dword ptr [SCRATCH + 0x20]
  and eax, 0x02000000
  EXPECT_REG eax, 0, "CLI cleared VIF"
  TRY
  TO_V86 v86_sti_vip, 0x100000
.code16
v86_sti_vip:
  sti
.code32
  EXPECT_FAULT 13, 0, "STI with VIP set: #GP(0), 20.3.1.2"
  TRY
  TO_V86 v86_pushfd, 0x80000
.code16
v86_pushfd:
  pushfd
.code32
  EXPECT_FAULT 13, 0, "PUSHFD with IOPL below 3 even with VME"
  TRY
  TO_V86 v86_monitor, 0x3000
.code16
v86_monitor:
  int 0x21
.code32
  EXPECT_FAULT 0x21, 0, "a vector whose bit is set goes to the monitor with IOPL 3"
  jmp done

.code16
v86_handler:
  mov bp, sp
  mov eax, dword ptr [bp]
  movzx ecx, ax
  mov dword ptr [0x10], ecx
  mov ax, word ptr [bp + 4]
  mov dword ptr [0x14], eax
  pushf
  pop ax
  mov dword ptr [0x18], eax
  iret
.code32
