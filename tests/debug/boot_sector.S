# A boot sector that goes from real mode through protected to 64-bit mode, and counts there.
  .globl start, real_loop, to_protected, protected, function32, to_long, long64, again, after_store, function64, done, counter
  .set counter, 0x8000
  .code16
start:
  cli
  xor %ax, %ax
  mov %ax, %ds
  mov %ax, %es
  mov %ax, %ss
  mov $0x7c00, %sp
  xor %bx, %bx
  mov $5, %cx
real_loop:
  inc %bx
  loop real_loop
  ljmp $0x7c0, $(1f - start)       # the same place, with a base in CS
1:
  nop
  nop
  ljmp $0, $to_protected
to_protected:
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
  mov $0x9000, %esp
  call function32
  movl $0x11003, 0x10000
  movl $0x12003, 0x11000
  movl $0x83, 0x12000              # 2 MiB, mapped to themselves
  mov %cr4, %eax
  or $0x20, %eax
  mov %eax, %cr4
  mov $0x10000, %eax
  mov %eax, %cr3
  mov $0xc0000080, %ecx
  rdmsr
  or $0x100, %eax
  wrmsr
to_long:
  mov %cr0, %eax
  or $0x80000000, %eax
  mov %eax, %cr0
  ljmp $24, $long64
function32:
  mov $0x32, %eax
  ret
  .code64
long64:
  mov $0x9000, %rsp
  movabs $0x123456789abcdef0, %rax
  xor %ecx, %ecx
again:
  inc %rcx
  mov %rcx, counter
after_store:
  call function64
  cmp $1000, %rcx
  jb again
done:
  xor %eax, %eax
  out %al, $0xf4
  jmp done
function64:
  lea 1(%rcx), %rdx
  ret

  .align 8
gdt:
  .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00af9b000000ffff
gdtr:
  .word gdtr - gdt - 1
  .long gdt
  .org 510
  .word 0xaa55
