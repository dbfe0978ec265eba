# A boot sector that two emulators run alike: real, protected and 64-bit mode, an exception, repeated strings, x87, SSE. Defined from
# outside: ADDEND (1), the number that a loop in 64-bit mode adds, and COUNT (16), of a string store where there is no memory.
  .globl start
  .code16
start:
  cli
  xor %ax, %ax
  mov %ax, %ds
  mov %ax, %es
  mov %ax, %ss
  mov $0x7c00, %sp
  mov $0x1000, %di
  mov $0x4321, %ax
  mov $100, %cx
  rep stosw
  mov $0x1000, %si
  mov $0x1100, %di
  mov $50, %cx
  rep movsb
  mov $37, %ax
  mov $11, %bl
  mul %bl
  div %bl
  shl $3, %ax
  movw $invalid_opcode, 6 * 4
  movw $0, 6 * 4 + 2
  ud2
behind:
  lgdtl gdtr
  mov %cr0, %eax
  or $1, %al
  mov %eax, %cr0
  ljmpl $8, $protected
invalid_opcode:
  pop %bx
  push $behind
  iretw
  .code32
protected:
  mov $16, %ax
  mov %ax, %ds
  mov %ax, %es
  mov %ax, %ss
  mov $0x7000, %esp
  mov $0x80000000, %edi
  mov $COUNT, %ecx
  rep stosb
  fninit
  fld1
  fldpi
  fmulp
  fsqrt
  fstpl 0x2000
  mov %cr4, %eax
  or $0x220, %eax                  # PAE, OSFXSR
  mov %eax, %cr4
  movsd 0x2000, %xmm0
  addsd %xmm0, %xmm0
  paddq %xmm0, %xmm0
  movl $0x11003, 0x10000
  movl $0x12003, 0x11000
  movl $0x83, 0x12000              # 2 MiB, mapped to themselves
  mov $0x10000, %eax
  mov %eax, %cr3
  mov $0xc0000080, %ecx
  rdmsr
  or $0x100, %eax
  wrmsr
  mov %cr0, %eax
  or $0x80000000, %eax
  mov %eax, %cr0
  ljmp $24, $long64
  .code64
long64:
  movabs $0x123456789abcdef0, %rax
  mov %rax, %r8
  imul %rax, %r8
  bswap %r8
  movq %r8, %xmm9
  mov $20, %ecx
again:
  lea ADDEND(%r8, %rcx), %r8
  loop again
  xor %eax, %eax
  cpuid
  in $0x61, %al
  mov $0x501, %dx
  out %al, %dx
done:
  hlt
  jmp done

  .align 8
gdt:
  .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00af9b000000ffff
gdtr:
  .word gdtr - gdt - 1
  .long gdt
  .org 510
  .word 0xaa55
