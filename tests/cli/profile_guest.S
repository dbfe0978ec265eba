# A boot sector whose time is known: in 32-bit protected mode, with frame pointers, `hot` runs 2,000 instructions for some 60 of all others.
.include "boot_sector.inc"
  .globl start, protected, main, outer, hot, cold, patcher, patched, toucher
  .code16
start:
  cli
  real_mode_segments
  enter_protected_mode protected
  .code32
protected:
  flat_segments
  xor %ebp, %ebp
main:
  call outer
  jmp main
outer:
  push %ebp
  mov %esp, %ebp
  call hot
  call cold
  call patcher
  call toucher
  pop %ebp
  ret
hot:
  push %ebp
  mov %esp, %ebp
  mov $1000, %ecx
1:
  dec %ecx
  jnz 1b
  pop %ebp
  ret
cold:
  push %ebp
  mov %esp, %ebp
  xor %eax, %eax
  cpuid
  pop %ebp
  ret
patcher:                           # writes the code that it calls
  push %ebp
  mov %esp, %ebp
  incb patched + 1
  call patched
  pop %ebp
  ret
  .balign 32
patched:
  mov $0, %al
  ret
toucher:                           # pages that no TLB knows
  push %ebp
  mov %esp, %ebp
  invlpg 0x1000000
  mov 0x1000000, %eax
  invlpg 0x2000000
  mov 0x2000000, %eax
  pop %ebp
  ret
  descriptor_table
  boot_signature
