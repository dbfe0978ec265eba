// IA-32e mode: interrupts, IST, SYSCALL, SYSENTER, canonical addresses, control registers. SDM Vol. 3A 5.8.7, 6.14, 9.8.5.
#include "runtime.inc"

#define PML4     0x110000
#define PDPT     0x111000
#define PD       0x112000
// Of another process; the two have different code at WINDOW64, which the low 2 MiB pages CODE_A and CODE_B hold.
#define PML4_B   0x113000
#define PDPT_B   0x114000
#define WINDOW_A 0x115000
#define WINDOW_B 0x116000
#define WINDOW64 0x40000000
#define CODE_A   0x600000
#define CODE_B   0x800000
#define IDT64    0x5000
#define V_HANDLER_RSP 0x540
#define SEL_SYS_SS    0x48
#define SEL_UCODE32   0x53
#define SEL_UDATA2    0x5b
#define SEL_UCODE64   0x63
#define SEL_GATE      0x68     /* 16 bytes */
#define IST1     0xe000
#define RSP0     0xd800

// From compatibility mode to 64-bit code, which ends with a fault or INT 30h.
.macro TRY64
  TRY
  .byte 0xea
  .long 6f
  .word SEL_CODE64
.code64
6:
.endm
.macro END64 vector, error, name
  int 0x30
.code32
  EXPECT_FAULT \vector, \error, "\name"
.endm
// From 64-bit ring 0 to ring 3 at a 64-bit label.
.macro TO_USER64 target
  push SEL_UDATA2
  push STACK3
  pushfq
  push SEL_UCODE64
  lea rax, [rip + \target]
  push rax
  iretq
.endm

test_main:
  // Page tables: the low 16 MiB one to one, for ring 3 too.
  mov dword ptr [PML4], PDPT + 7
  mov dword ptr [PDPT], PD + 7
  mov edi, PD
  mov eax, 0x87
  mov ecx, 8
1: mov dword ptr [edi], eax
  add edi, 8
  add eax, 0x200000
  dec ecx
  jnz 1b
  // 9.8.5: EFER.LME, PAE, CR3, then PG activates IA-32e mode.
  mov ecx, 0xc0000080
  rdmsr
  or eax, 0x101                                         // LME, SCE
  wrmsr
  mov eax, PML4
  mov cr3, eax
  mov eax, cr4
  or eax, 0x20
  mov cr4, eax
  // IDT of 16-byte gates.
  mov edi, IDT64
  mov edx, offset stubs64
  mov ecx, 64
2: mov dword ptr [edi], edx
  mov word ptr [edi + 2], SEL_CODE64
  mov eax, edx
  mov ax, 0x8e00
  mov dword ptr [edi + 4], eax
  mov dword ptr [edi + 8], 0
  mov dword ptr [edi + 12], 0
  add edi, 16
  add edx, 16
  dec ecx
  jnz 2b
  lidt [idt64_pointer]
  SET_DESCRIPTOR SEL_SYS_SS, 0x0000ffff, 0x00cf9300
  SET_DESCRIPTOR 0x50, 0x0000ffff, 0x00cffb00
  SET_DESCRIPTOR 0x58, 0x0000ffff, 0x00cff300
  SET_DESCRIPTOR 0x60, 0x0000ffff, 0x00affb00
  mov eax, cr0
  or eax, 0x80000000
  mov cr0, eax
  mov ecx, 0xc0000080
  rdmsr
  and eax, 0x500
  EXPECT_REG eax, 0x500, "LMA is set with LME and PG"
  // A 64-bit TSS; its descriptor has 16 bytes.
  mov dword ptr [GDT + SEL_TSS + 4], 0x00008900
  SET_DESCRIPTOR (SEL_TSS+8), 0, 0
  mov dword ptr [TSS + 4], RSP0
  mov dword ptr [TSS + 8], 0
  mov dword ptr [TSS + 0x24], IST1
  mov ax, SEL_TSS
  ltr ax

  // 6.14.2: the frame is always full and aligned to 16 bytes.
  TRY64
  mov rsp, STACK0 - 3
  int 0x30
  END64 0x30, 0, "INT n in 64-bit mode"
  EXPECT_EQUAL [V_ESP], (STACK0-3), "the frame holds RSP"
  EXPECT_EQUAL [V_SS], SEL_DATA, "and SS, without a change of level"
  EXPECT_EQUAL [V_HANDLER_RSP], (STACK0-16-40), "the frame is aligned to 16 bytes"
  mov byte ptr [IDT64 + 0x31 * 16 + 4], 1
  TRY64
  int 0x31
  END64 0x31, 0, "INT n with an IST"
  EXPECT_EQUAL [V_HANDLER_RSP], (IST1-40), "the IST's stack, 6.14.5"
  // 3.3.7.1: canonical addresses.
  TRY64
  mov rax, 0x8000000000000000
  mov al, byte ptr [rax]
  END64 13, 0, "an address that is not canonical: #GP(0)"
  mov byte ptr [IDT64 + 12 * 16 + 4], 1                  // an IST, as that stack is of no use to the handler
  mov byte ptr [IDT64 + 13 * 16 + 4], 1
  TRY64
  mov rsp, 0x0000900000000000
  push rax
  END64 12, 0, "a stack that is not canonical: #SS(0)"
  mov byte ptr [IDT64 + 13 * 16 + 4], 0
  TRY64
  mov rax, 0x0000800000000000
  jmp rax
  END64 13, 0, "a jump to an address that is not canonical"
  TRY64
  mov rax, 0xffff800000000000
  mov al, byte ptr [rax]
  END64 14, 0, "a canonical address that is not mapped"
  // Vol. 2: what does not exist in 64-bit mode.
  TRY64
  .byte 0x06
  END64 6, -1, "PUSH ES"
  TRY64
  .byte 0xea, 0, 0, 0, 0, 0, 0
  END64 6, -1, "far JMP with an immediate"
  // 5.4.1.1: null SS in ring 0.
  TRY64
  xor eax, eax
  mov ss, ax
  push rax
  pop rax
  mov rbx, 0x1122334455667788
  mov qword ptr [SCRATCH], rbx
  END64 0x30, 0, "a null SS works in 64-bit mode below CPL 3"
  EXPECT_EQUAL [SCRATCH+4], 0x11223344, "a 64-bit store"
  // Control registers.
  TRY64
  mov rax, cr0
  btr rax, 31
  mov cr0, rax
  END64 13, 0, "clearing PG in 64-bit mode"
  TRY64
  mov rax, cr4
  btr rax, 5
  mov cr4, rax
  END64 13, 0, "clearing PAE in IA-32e mode"
  TRY64
  mov rax, 0x100000000
  mov cr0, rax
  END64 13, 0, "upper bits of CR0"
  TRY64
  mov ecx, 0xc0000080
  rdmsr
  btr eax, 8
  wrmsr
  END64 13, 0, "clearing LME with paging on"
  TRY64
  mov eax, 9
  mov cr8, rax
  mov rbx, cr8
  mov dword ptr [SCRATCH], ebx
  xor eax, eax
  mov cr8, rax
  mov eax, 16
  mov cr8, rax
  END64 13, 0, "CR8 above 15"
  EXPECT_EQUAL [SCRATCH], 9, "CR8 holds the priority"
  TRY64
  mov ecx, 0xc0000082
  mov edx, 0x8000
  xor eax, eax
  wrmsr
  END64 13, 0, "LSTAR that is not canonical"
  // Ring 3 and back, 6.14.4.
  TRY64
  TO_USER64 user_hlt
user_hlt:
  hlt
  END64 13, 0, "HLT in 64-bit ring 3"
  EXPECT_EQUAL [V_CS], SEL_UCODE64, "CS of ring 3"
  EXPECT_EQUAL [V_SS], SEL_UDATA2, "SS of ring 3"
  EXPECT_EQUAL [V_ESP], STACK3, "RSP of ring 3"
  EXPECT_EQUAL [V_HANDLER_RSP], (RSP0-40), "RSP0 of the TSS"
  // 5.8.6: segments of ring 0 become null on the way out; the base of GS in its hidden part goes on to serve.
  mov dword ptr [SCRATCH + 0x40], 0x600df00d
  TRY64
  mov ax, SEL_DATA
  mov gs, ax
  mov ecx, 0xc0000101
  mov eax, SCRATCH
  xor edx, edx
  wrmsr
  TO_USER64 user_gs
user_gs:
  mov eax, dword ptr gs:[0x40]
  mov ebx, gs
  mov dword ptr [SCRATCH + 0x44], eax
  mov dword ptr [SCRATCH + 0x48], ebx
  hlt
  END64 13, 0, "HLT behind the access through GS"
  EXPECT_EQUAL [SCRATCH+0x44], 0x600df00d, "GS's base outlives its selector"
  EXPECT_EQUAL [SCRATCH+0x48], 0, "GS's selector is null in ring 3"
  // SYSCALL and SYSRET, 5.8.8.
  mov ecx, 0xc0000081
  xor eax, eax
  mov edx, 0x00500040
  wrmsr
  mov ecx, 0xc0000082
  mov eax, offset syscall_target
  xor edx, edx
  wrmsr
  mov ecx, 0xc0000084
  mov eax, 0x400                                        // DF
  wrmsr
  mov byte ptr [IDT64 + 0x30 * 16 + 5], 0xee
  TRY64
  TO_USER64 user_syscall
user_syscall:
  std
  syscall
after_syscall:
  pushfq
  pop rbx
  mov dword ptr [SCRATCH + 24], ebx
  mov ebx, cs
  mov dword ptr [SCRATCH + 28], ebx
  mov ebx, ss
  mov dword ptr [SCRATCH + 32], ebx
  cld
  int 0x30
syscall_target:
  mov dword ptr [SCRATCH], ecx
  mov dword ptr [SCRATCH + 4], r11d
  mov eax, cs
  mov dword ptr [SCRATCH + 8], eax
  mov eax, ss
  mov dword ptr [SCRATCH + 12], eax
  pushfq
  pop rax
  mov dword ptr [SCRATCH + 16], eax
  mov dword ptr [SCRATCH + 20], esp
  sysretq
  END64 0x30, 0, "SYSCALL and SYSRET"
  EXPECT_LABEL [SCRATCH], after_syscall, "RCX is the return address"
  mov eax, dword ptr [SCRATCH + 4]
  and eax, 0x400
  EXPECT_REG eax, 0x400, "R11 holds the flags"
  EXPECT_EQUAL [SCRATCH+8], SEL_CODE64, "CS from STAR"
  EXPECT_EQUAL [SCRATCH+12], SEL_SYS_SS, "SS from STAR"
  mov eax, dword ptr [SCRATCH + 16]
  and eax, 0x400
  EXPECT_REG eax, 0, "FMASK clears flags"
  EXPECT_EQUAL [SCRATCH+20], STACK3, "RSP is kept"
  mov eax, dword ptr [SCRATCH + 24]
  and eax, 0x400
  EXPECT_REG eax, 0x400, "SYSRET restores the flags"
  EXPECT_EQUAL [SCRATCH+28], SEL_UCODE64, "CS of SYSRET"
  EXPECT_EQUAL [SCRATCH+32], SEL_UDATA2, "SS of SYSRET"
  TRY64
  mov ecx, offset stepped_sysret
  mov r11d, 0x102
  sysretq
stepped_sysret:
  nop
  END64 1, 0, "SYSRET sets TF"
  EXPECT_LABEL [V_EIP], stepped_sysret, "the trap comes before the first instruction"
  EXPECT_EQUAL [V_CS], SEL_UCODE64, "and in ring 3"
  TRY
  syscall
  EXPECT_FAULT 6, -1, "SYSCALL in compatibility mode (Intel)"
  // SYSENTER and SYSEXIT, 5.8.7.
  mov ecx, 0x174
  mov eax, SEL_CODE64
  xor edx, edx
  wrmsr
  mov ecx, 0x175
  mov eax, RSP0 - 0x100
  wrmsr
  mov ecx, 0x176
  mov eax, offset sysenter_target
  wrmsr
  TRY64
  TO_USER64 user_sysenter
user_sysenter:
  sysenter
sysenter_target:
  mov dword ptr [SCRATCH], esp
  mov eax, cs
  mov dword ptr [SCRATCH + 4], eax
  mov edx, offset user_sysexit
  mov rcx, STACK3
  sysexitq
user_sysexit:
  END64 0x30, 0, "SYSENTER and SYSEXIT"
  EXPECT_EQUAL [V_CS], SEL_UCODE64, "SYSEXIT with REX.W goes to 64-bit mode: SYSENTER_CS + 32"
  EXPECT_EQUAL [V_SS], (SEL_CODE64+40+3), "its SS: SYSENTER_CS + 40"
  EXPECT_EQUAL [SCRATCH], (RSP0-0x100), "SYSENTER_ESP"
  EXPECT_EQUAL [SCRATCH+4], SEL_CODE64, "SYSENTER_CS"
  // SWAPGS, and the bases of FS and GS.
  TRY64
  mov ecx, 0xc0000102
  mov eax, SCRATCH
  xor edx, edx
  wrmsr
  swapgs
  mov dword ptr [SCRATCH + 0x40], 0x600d
  mov eax, dword ptr gs:[0x40]
  mov dword ptr [SCRATCH + 0x44], eax
  swapgs
  mov rax, cr4
  bts rax, 16
  mov cr4, rax
  mov eax, SCRATCH + 0x10
  wrfsbase rax
  rdfsbase rbx
  mov dword ptr [SCRATCH + 0x48], ebx
  mov eax, dword ptr fs:[0x30]
  mov dword ptr [SCRATCH + 0x4c], eax
  END64 0x30, 0, "SWAPGS, WRFSBASE, RDFSBASE"
  EXPECT_EQUAL [SCRATCH+0x44], 0x600d, "SWAPGS exchanges the base with KERNEL_GS_BASE"
  EXPECT_EQUAL [SCRATCH+0x48], (SCRATCH+0x10), "RDFSBASE"
  EXPECT_EQUAL [SCRATCH+0x4c], 0x600d, "FS's base counts"
  // A 64-bit call gate, 5.8.3.1.
  mov eax, offset gate_target
  mov word ptr [GDT + 0x68], ax
  mov word ptr [GDT + 0x68 + 2], SEL_CODE64
  mov word ptr [GDT + 0x68 + 4], 0xec00
  shr eax, 16
  mov word ptr [GDT + 0x68 + 6], ax
  mov dword ptr [GDT + 0x70], 0
  mov dword ptr [GDT + 0x74], 0
  mov word ptr [SCRATCH + 4], SEL_GATE
  TRY64
  TO_USER64 user_gate
user_gate:
  call fword ptr [SCRATCH]
after_gate:
  int 0x30
gate_target:
  mov rax, qword ptr [rsp]
  mov dword ptr [SCRATCH + 16], eax
  mov rax, qword ptr [rsp + 16]
  mov dword ptr [SCRATCH + 20], eax
  mov eax, ss
  mov dword ptr [SCRATCH + 24], eax
  retfq
  END64 0x30, 0, "a call gate to 64-bit ring 0, and RETF"
  EXPECT_LABEL [SCRATCH+16], after_gate, "its return address"
  EXPECT_EQUAL [SCRATCH+20], STACK3, "its saved RSP"
  EXPECT_EQUAL [SCRATCH+24], 0, "SS is null at the inner level"
  // IRETQ to a selector with L and D both set, and NT.
  TRY64
  pushfq
  bts qword ptr [rsp], 14
  popfq
  iretq
  END64 13, 0, "IRET with NT in IA-32e mode"
  TRY64
  pushfq
  btr qword ptr [rsp], 14
  popfq
  int 0x30
  END64 0x30, 0, "NT cleared"
  // 4.10.4: what a process context is known to map outlives the run of another.
  mov dword ptr [CODE_A], 0x90c301b0                    // mov al, 1; ret
  mov dword ptr [CODE_B], 0x90c302b0                    // mov al, 2; ret
  mov dword ptr [PML4_B], PDPT_B + 7
  mov dword ptr [PDPT_B], PD + 7
  mov dword ptr [PDPT + 8], WINDOW_A + 7
  mov dword ptr [PDPT_B + 8], WINDOW_B + 7
  mov dword ptr [WINDOW_A], CODE_A + 0x87
  mov dword ptr [WINDOW_B], CODE_B + 0x87
  TRY64
  mov rax, cr4
  or eax, 0x20080                                       // PCIDE, PGE
  mov cr4, rax
  mov edi, SCRATCH
  mov r15d, WINDOW64
  mov r14, PML4 + 1
  mov r13, PML4_B + 2
  mov cr3, r14
  call r15
  stosb
  mov cr3, r13
  call r15
  stosb
  bts r14, 63
  bts r13, 63
  mov ecx, 20
1: mov cr3, r14
  call r15
  stosb
  mov cr3, r13
  call r15
  stosb
  dec ecx
  jnz 1b
  // INVPCID of the other context's page, then of the whole context, while the first is not current.
  mov dword ptr [WINDOW_A], CODE_B + 0x87
  mov qword ptr [SCRATCH + 0x80], 1
  mov qword ptr [SCRATCH + 0x88], r15
  xor eax, eax
  invpcid rax, [SCRATCH + 0x80]
  mov cr3, r14
  call r15
  stosb
  mov cr3, r13
  mov dword ptr [WINDOW_A], CODE_A + 0x87
  mov eax, 1
  invpcid rax, [SCRATCH + 0x80]
  mov cr3, r14
  call r15
  stosb
  // INVLPG in the current one; then CR3 without bit 63.
  mov dword ptr [WINDOW_A], CODE_B + 0x87
  invlpg [r15]
  call r15
  stosb
  mov dword ptr [WINDOW_A], CODE_A + 0x87
  btr r14, 63
  mov cr3, r14
  call r15
  stosb
  // A global page survives neither INVLPG nor all-context INVPCID in any of them.
  mov dword ptr [WINDOW_B], CODE_A + 0x187
  mov dword ptr [WINDOW_A], CODE_A + 0x187
  mov eax, 2
  invpcid rax, [SCRATCH + 0x80]
  mov cr3, r13
  call r15
  bts r14, 63
  mov cr3, r14
  call r15
  mov dword ptr [WINDOW_A], CODE_B + 0x87
  mov dword ptr [WINDOW_B], CODE_B + 0x87
  invlpg [r15]
  call r15
  stosb
  mov cr3, r13
  call r15
  stosb
  int 0x30
  END64 0x30, 0, "process contexts"
  EXPECT_EQUAL [SCRATCH], 0x02010201, "each context has its own code"
  EXPECT_EQUAL [SCRATCH+38], 0x02010201, "after twenty turns, too"
  EXPECT_EQUAL [SCRATCH+42], 0x01020102, "INVPCID of a page, INVPCID of a context, INVLPG, CR3"
  mov eax, dword ptr [SCRATCH + 46]
  and eax, 0xffff
  EXPECT_REG eax, 0x0202, "INVLPG of a global page holds in all contexts"
  jmp done

.code64
.macro STUB64 vector, has_error
  .balign 16
  .if \has_error == 0
  push 0
  .endif
  push \vector
  jmp common64
.endm
.balign 16
stubs64:
.set stub_vector, 0
.rept 64
  .if (stub_vector == 8) || (stub_vector >= 10 && stub_vector <= 14) || (stub_vector == 17)
  STUB64 stub_vector, 1
  .else
  STUB64 stub_vector, 0
  .endif
  .set stub_vector, stub_vector + 1
.endr
common64:
  pop rax
  mov dword ptr [V_VECTOR], eax
  pop rax
  mov dword ptr [V_ERROR], eax
  mov dword ptr [V_HANDLER_RSP], esp
  pop rax
  mov dword ptr [V_EIP], eax
  pop rax
  mov dword ptr [V_CS], eax
  pop rax
  mov dword ptr [V_EFLAGS], eax
  pop rax
  mov dword ptr [V_ESP], eax
  pop rax
  mov dword ptr [V_SS], eax
  mov rax, cr2
  mov dword ptr [V_CR2], eax
  mov eax, SEL_DATA
  mov ds, eax
  mov es, eax
  mov ss, eax
  mov esp, dword ptr [V_RESUME_SP]
  mov eax, dword ptr [V_RESUME]
  push SEL_CODE
  push rax
  retfq
.code32
.balign 8
idt64_pointer:
  .word 0x3ff
  .long IDT64
