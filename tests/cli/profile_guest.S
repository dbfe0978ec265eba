# A boot sector whose time is known: in 32-bit protected mode, with frame pointers, `hot` runs 2,000 instructions for some 60 of all others.
  .globl start, protected, main, outer, hot, cold, patcher, patched, toucher
  .code16
start:
  cli
  xor %ax, %ax
  mov %ax, %ds
  lgdt gdtr
  mov %cr0, %eax
  or $1, %al
  mov %eax, %cr0
  ljmp $8, $protected
  .code32
protected:
  mov $16, %eax
  mov %eax, %ds
  mov %eax, %es
  mov %eax, %ss
  mov $0x7000, %esp
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
toucher:                           # pages that share their place in a TLB of 4,096 entries
  push %ebp
  mov %esp, %ebp
  mov 0x1000000, %eax
  mov 0x2000000, %eax
  pop %ebp
  ret
  .balign 8
gdt:
  .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdtr:
  .word 23
  .long gdt
  .org 510
  .word 0xaa55
