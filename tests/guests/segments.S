// Segment loads, limits, descriptor tables: SDM Vol. 3A chapters 3 and 5.
#include "runtime.inc"

test_main:
  // 5.3: limit checks.
  SET_DESCRIPTOR SEL_FREE, 0xc0000fff, 0x00409300        // data, base C000, limit FFF bytes
  mov ax, SEL_FREE
  mov fs, ax
  TRY
  mov eax, dword ptr fs:[0xffc]
  mov dword ptr [V_VECTOR], 0x100
  EXPECT_FAULT 0x100, -1, "dword at the limit is inside"
  TRY
  mov eax, dword ptr fs:[0xffd]
  EXPECT_FAULT 13, 0, "dword across the limit: #GP(0)"
  TRY
  mov al, byte ptr fs:[0x1000]
  EXPECT_FAULT 13, 0, "byte behind the limit: #GP(0)"
  // 5.3: expand-down, B = 0: FFFFh is the top.
  SET_DESCRIPTOR SEL_FREE, 0x00000fff, 0x00009700
  mov ax, SEL_FREE
  mov fs, ax
  TRY
  mov al, byte ptr fs:[0xfff]
  EXPECT_FAULT 13, 0, "expand-down: the limit itself is outside"
  TRY
  mov al, byte ptr fs:[0x1000]
  mov al, byte ptr fs:[0xffff]
  mov dword ptr [V_VECTOR], 0x100
  EXPECT_FAULT 0x100, -1, "expand-down: from limit + 1 to FFFF"
  TRY
  mov al, byte ptr fs:[0x10000]
  EXPECT_FAULT 13, 0, "expand-down with B = 0: above FFFF"
  // 3.5.1, 5.4.1: null selectors.
  xor eax, eax
  mov fs, ax
  TRY
  mov al, byte ptr fs:[0]
  EXPECT_FAULT 13, 0, "access through a null segment"
  TRY
  xor eax, eax
  mov ss, ax
  EXPECT_FAULT 13, 0, "null into SS"
  // Vol. 2B MOV.
  TRY
  mov ax, SEL_CODE
  mov ss, ax
  EXPECT_FAULT 13, SEL_CODE, "code into SS"
  TRY
  mov ax, SEL_UDATA
  mov ss, ax
  EXPECT_FAULT 13, 0x20, "SS with RPL 3 at CPL 0"
  TRY
  mov ax, SEL_TSS
  mov ds, ax
  EXPECT_FAULT 13, SEL_TSS, "system descriptor into DS"
  TRY
  mov ax, 0x7f8
  add ax, 8
  mov ds, ax
  EXPECT_FAULT 13, 0x800, "selector outside the GDT"
  TRY
  mov ax, 0x0c
  mov ds, ax
  EXPECT_FAULT 13, 0x0c, "LDT selector without an LDT"
  SET_DESCRIPTOR SEL_FREE, 0x0000ffff, 0x00cf1300        // not present
  TRY
  mov ax, SEL_FREE
  mov ds, ax
  EXPECT_FAULT 11, SEL_FREE, "DS not present: #NP"
  TRY
  mov ax, SEL_FREE
  mov ss, ax
  EXPECT_FAULT 12, SEL_FREE, "SS not present: #SS"
  // 3.4.5.1: the accessed bit.
  SET_DESCRIPTOR SEL_FREE, 0x0000ffff, 0x00cf9200
  mov ax, SEL_FREE
  mov gs, ax
  EXPECT_EQUAL [GDT + SEL_FREE + 4], 0x00cf9300, "a load sets the accessed bit"
  // 5.3: type checks.
  SET_DESCRIPTOR SEL_FREE, 0x0000ffff, 0x00cf9000        // read-only data
  mov ax, SEL_FREE
  mov gs, ax
  TRY
  mov byte ptr gs:[SCRATCH], 1
  EXPECT_FAULT 13, 0, "write to read-only data"
  TRY
  mov byte ptr cs:[SCRATCH], 1
  EXPECT_FAULT 13, 0, "write to code"
  SET_DESCRIPTOR SEL_FREE, 0x0000ffff, 0x00cf9800        // execute-only code
  TRY
  mov ax, SEL_FREE
  mov gs, ax
  EXPECT_FAULT 13, SEL_FREE, "execute-only code into GS"
  // #SS by limit, 6.15.
  SET_DESCRIPTOR SEL_FREE, 0x0000ffff, 0x00409200
  mov dword ptr [SCRATCH], esp
  TRY
  mov ax, SEL_FREE
  mov ss, ax
  mov eax, dword ptr [ebp + 0]
  mov ebp, 0x20000
  mov eax, dword ptr [ebp + 0]
  EXPECT_FAULT 12, 0, "stack limit: #SS(0)"

  // LAR, LSL, VERR, VERW, ARPL: Vol. 2A, 2B.
  mov ax, SEL_CODE
  lar ebx, ax
  setz cl
  movzx ecx, cl
  and ebx, 0xfff0ffff                                    // the limit's bits are undefined
  EXPECT_REG ebx, 0x00c09b00, "LAR of code"
  EXPECT_REG ecx, 1, "LAR sets ZF"
  lsl ebx, ax
  EXPECT_REG ebx, 0xffffffff, "LSL applies granularity"
  mov ax, 0x800
  mov ebx, 0x1234
  lar ebx, ax
  setz cl
  movzx ecx, cl
  EXPECT_REG ebx, 0x1234, "LAR outside the table leaves the register"
  EXPECT_REG ecx, 0, "LAR outside the table clears ZF"
  mov ax, SEL_CODE
  verw ax
  setz cl
  movzx ecx, cl
  EXPECT_REG ecx, 0, "VERW of code"
  verr ax
  setz cl
  movzx ecx, cl
  EXPECT_REG ecx, 1, "VERR of readable code"
  mov ax, 0x10
  mov bx, 3
  arpl ax, bx
  movzx eax, ax
  EXPECT_REG eax, 0x13, "ARPL raises RPL"

  // LLDT, LTR, SLDT, STR.
  TRY
  mov ax, SEL_CODE
  lldt ax
  EXPECT_FAULT 13, SEL_CODE, "LLDT of a code segment"
  SET_DESCRIPTOR SEL_FREE, 0xc00000ff, 0x00008200
  mov ax, SEL_FREE
  lldt ax
  mov dword ptr [SCRATCH + 8], 0x0000ffff
  mov dword ptr [SCRATCH + 12], 0x00cf9200
  mov ax, 0x0c
  mov gs, ax
  mov ax, gs
  movzx eax, ax
  EXPECT_REG eax, 0x0c, "selector of the LDT"
  sldt eax
  EXPECT_REG eax, SEL_FREE, "SLDT"
  str eax
  EXPECT_REG eax, SEL_TSS, "STR"
  TRY
  mov ax, SEL_TSS
  ltr ax
  EXPECT_FAULT 13, SEL_TSS, "LTR of a busy TSS"
  EXPECT_EQUAL [GDT + SEL_TSS + 4], 0x00008b00, "LTR set the busy bit"

  // SGDT, SIDT.
  sgdt [SCRATCH]
  EXPECT_EQUAL [SCRATCH + 2], GDT, "SGDT base"
  sidt [SCRATCH]
  EXPECT_EQUAL [SCRATCH + 2], IDT, "SIDT base"

  // PUSH Sreg writes two bytes of a 32-bit slot, Vol. 2B PUSH.
  mov dword ptr [esp - 4], 0xaaaaaaaa
  push ds
  pop eax
  and eax, 0xffff
  EXPECT_REG eax, SEL_DATA, "PUSH DS"
  // POP of a bad selector leaves ESP.
  TRY
  mov ebp, esp
  push 0x800
  pop es
  EXPECT_FAULT 13, 0x800, "POP ES of a bad selector"
  sub ebp, 4
  mov eax, dword ptr [V_EIP]
  cmp byte ptr [eax], 0x07
  sete al
  movzx eax, al
  EXPECT_REG eax, 1, "the fault points to POP"
  // LFS.
  mov dword ptr [SCRATCH], 0x12345678
  mov word ptr [SCRATCH + 4], SEL_UDATA
  lfs eax, [SCRATCH]
  EXPECT_REG eax, 0x12345678, "LFS offset"
  mov eax, fs
  movzx eax, ax
  EXPECT_REG eax, SEL_UDATA, "LFS selector"
  jmp done
