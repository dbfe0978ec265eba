// Page faults, their error codes, accessed and dirty bits, in 32-bit and PAE paging: SDM Vol. 3A chapter 4.
#include "runtime.inc"

#define PD       0x110000
#define PT       0x111000
#define PDPT     0x114000
#define PD_PAE   0x115000
#define PT_PAE   0x116000
#define WINDOW   0x400000      /* linear; its page table is PT */
#define FRAME0   0x120000
#define FRAME1   0x121000

.macro TO_USER target
  push SEL_UDATA
  push STACK3
  pushfd
  push SEL_UCODE
  push offset \target
  iretd
.endm

.macro FLUSH
  mov eax, cr3
  mov cr3, eax
.endm

test_main:
  mov byte ptr [IDT + 0x30 * 8 + 5], 0xee
  mov dword ptr [FRAME0], 0x11111111
  mov dword ptr [FRAME1], 0x22222222
  // The first 4 MiB one to one with one large page, user and writable; the window by PT.
  mov eax, cr4
  or eax, 0x10                                          // PSE
  mov cr4, eax
  mov dword ptr [PD], 0x87
  mov dword ptr [PD + 4], PT + 7
  mov dword ptr [PT], FRAME0 + 7
  mov dword ptr [PT + 4], FRAME1 + 5                    // user, read-only
  mov dword ptr [PT + 8], FRAME1 + 3                    // supervisor, writable
  mov dword ptr [PT + 12], 0
  mov eax, PD
  mov cr3, eax
  mov eax, cr0
  or eax, 0x80000000
  mov cr0, eax

  EXPECT_EQUAL [WINDOW], 0x11111111, "a page is mapped"
  mov eax, dword ptr [PT]
  and eax, 0x60
  EXPECT_REG eax, 0x20, "a read sets A and not D"
  mov dword ptr [WINDOW], 0x33333333
  mov eax, dword ptr [PT]
  and eax, 0x60
  EXPECT_REG eax, 0x60, "a write sets D"
  EXPECT_EQUAL [FRAME0], 0x33333333, "the write went to the frame"
  mov eax, dword ptr [PD + 4]
  and eax, 0x20
  EXPECT_REG eax, 0x20, "A in the directory entry"
  // 4.7: error codes.
  TRY
  mov eax, dword ptr [WINDOW + 0x3004]
  EXPECT_FAULT 14, 0, "read of a page that is not present"
  EXPECT_EQUAL [V_CR2], (WINDOW+0x3004), "CR2"
  TRY
  mov dword ptr [WINDOW + 0x3004], eax
  EXPECT_FAULT 14, 2, "write to a page that is not present"
  TRY
  TO_USER user_read
user_read:
  mov eax, dword ptr ss:[WINDOW + 0x2000]
  EXPECT_FAULT 14, 5, "user read of a supervisor page"
  TRY
  TO_USER user_write
user_write:
  mov dword ptr ss:[WINDOW + 0x1000], eax
  EXPECT_FAULT 14, 7, "user write to a read-only page"
  TRY
  TO_USER user_absent
user_absent:
  mov dword ptr ss:[WINDOW + 0x3000], eax
  EXPECT_FAULT 14, 6, "user write to a page that is not present"
  TRY
  TO_USER user_jump
user_jump:
  mov eax, WINDOW + 0x2000
  jmp eax
  EXPECT_FAULT 14, 5, "user fetch from a supervisor page, without NX no I bit"
  EXPECT_EQUAL [V_EIP], (WINDOW+0x2000), "the fetch's fault is at the target"
  // CR0.WP.
  TRY
  mov dword ptr [WINDOW + 0x1000], 0x44444444
  mov dword ptr [V_VECTOR], 0x100
  EXPECT_FAULT 0x100, -1, "supervisor write to a read-only page without WP"
  mov eax, cr0
  or eax, 0x10000
  mov cr0, eax
  TRY
  mov dword ptr [WINDOW + 0x1000], 0x55555555
  EXPECT_FAULT 14, 3, "supervisor write to a read-only page with WP"
  EXPECT_EQUAL [FRAME1], 0x44444444, "it did not happen"
  // An access across pages faults as a whole.
  mov dword ptr [FRAME1 + 0xffc], 0x66666666
  mov dword ptr [PT + 4], FRAME1 + 7
  FLUSH
  mov dword ptr [PT + 12], 0
  TRY
  mov dword ptr [WINDOW + 0x2ffe], 0x77777777
  EXPECT_FAULT 14, 2, "a write into an absent second page"
  EXPECT_EQUAL [V_CR2], (WINDOW+0x3000), "CR2 is the second page's first byte"
  EXPECT_EQUAL [FRAME1+0xffc], 0x66666666, "nothing was written to the first"
  // 4.10.4: INVLPG and stale entries.
  mov eax, dword ptr [WINDOW]
  mov dword ptr [PT], FRAME1 + 7
  invlpg [WINDOW]
  EXPECT_EQUAL [WINDOW+0xffc], 0x66666666, "INVLPG makes the new mapping visible"
  // A present entry needs no INVLPG after a fault on an absent one.
  mov dword ptr [PT + 12], FRAME0 + 7
  EXPECT_EQUAL [WINDOW+0x3000], 0x33333333, "a page made present"
  // The same code under another mapping.
  mov dword ptr [FRAME0], 0x90c301b0                    // mov al, 1; ret
  mov dword ptr [FRAME1], 0x90c302b0                    // mov al, 2; ret
  mov dword ptr [PT], FRAME0 + 7
  invlpg [WINDOW]
  xor eax, eax
  mov ebx, WINDOW
  call ebx
  EXPECT_REG eax, 1, "code in the first frame"
  mov dword ptr [PT], FRAME1 + 7
  invlpg [WINDOW]
  xor eax, eax
  call ebx
  EXPECT_REG eax, 2, "code in the second frame at the same address"
  mov byte ptr [WINDOW + 1], 3
  xor eax, eax
  call ebx
  EXPECT_REG eax, 3, "code that was overwritten"
  // Global pages survive CR3, 4.10.4.1.
  mov eax, cr4
  or eax, 0x80
  mov cr4, eax
  mov dword ptr [FRAME0 + 0x10], 0x1234
  mov dword ptr [FRAME1 + 0x10], 0x5678
  mov dword ptr [PT + 16], FRAME0 + 0x107
  mov eax, dword ptr [WINDOW + 0x4010]
  mov dword ptr [PT + 16], FRAME1 + 0x107
  mov eax, cr4
  and eax, 0xffffff7f
  mov cr4, eax
  EXPECT_EQUAL [WINDOW+0x4010], 0x5678, "clearing PGE flushes global pages"
  // Reserved bits: bit 21 of a large page's entry without PSE-36 room is reserved, 4.3.
  mov dword ptr [PD + 8], 0x00200087
  TRY
  mov eax, dword ptr [0x800000]
  EXPECT_FAULT 14, 9, "reserved bit: RSVD and P"

  // PAE paging, 4.4.
  mov eax, cr0
  and eax, 0x7fffffff
  mov cr0, eax
  mov dword ptr [PDPT], PD_PAE + 1
  mov dword ptr [PD_PAE], 0x87
  mov dword ptr [PD_PAE + 16], PT_PAE + 7
  mov dword ptr [PT_PAE], FRAME0 + 7
  mov dword ptr [PT_PAE + 8], FRAME0 + 7
  mov dword ptr [PT_PAE + 12], 0x80000000               // NX
  mov dword ptr [PT_PAE + 16], FRAME0 + 7
  mov dword ptr [PT_PAE + 20], 0x00100000               // reserved: above the physical addresses
  mov eax, cr4
  or eax, 0x20
  mov cr4, eax
  mov eax, PDPT
  mov cr3, eax
  mov ecx, 0xc0000080
  rdmsr
  or eax, 0x800                                         // NXE
  wrmsr
  mov eax, cr0
  or eax, 0x80000000
  mov cr0, eax
  EXPECT_EQUAL [WINDOW+0x10], 0x1234, "PAE: a page is mapped"
  TRY
  mov eax, WINDOW + 0x1000
  jmp eax
  EXPECT_FAULT 14, 0x11, "fetch from a page with NX: I and P"
  TRY
  mov eax, dword ptr [WINDOW + 0x2000]
  EXPECT_FAULT 14, 9, "PAE: reserved bit"
  TRY
  mov eax, dword ptr [0x40000000]
  EXPECT_FAULT 14, 0, "PAE: PDPTE not present"
  mov dword ptr [PDPT + 8], PD_PAE + 1
  TRY
  mov eax, dword ptr [0x40000000]
  EXPECT_FAULT 14, 0, "PDPTEs are loaded by MOV to CR3 only, 4.4.1"
  FLUSH
  mov eax, dword ptr [0x40000000 + FRAME0 + 0x10]
  EXPECT_REG eax, 0x1234, "after MOV to CR3 the PDPTE is there"
  mov dword ptr [PDPT + 16], PD_PAE + 3                  // bit 1 is reserved
  TRY
  FLUSH
  EXPECT_FAULT 13, 0, "a PDPTE with reserved bits: #GP(0) of MOV to CR3"
  mov dword ptr [PDPT + 16], 0
  // SMEP and SMAP, 4.6.1: from here the low 2 MiB are supervisor pages.
  mov dword ptr [PD_PAE], 0x83
  FLUSH
  mov eax, cr4
  or eax, 0x300000
  mov cr4, eax
  TRY
  mov eax, WINDOW
  jmp eax
  EXPECT_FAULT 14, 0x11, "SMEP: supervisor fetch from a user page"
  TRY
  mov eax, dword ptr [WINDOW]
  EXPECT_FAULT 14, 1, "SMAP: supervisor read of a user page"
  TRY
  stac
  mov eax, dword ptr [WINDOW + 0x10]
  clac
  mov dword ptr [V_VECTOR], eax
  EXPECT_FAULT 0x1234, -1, "STAC permits it"
  TRY
  mov dword ptr [WINDOW], eax
  EXPECT_FAULT 14, 3, "SMAP: and CLAC forbids it again"
  jmp done
