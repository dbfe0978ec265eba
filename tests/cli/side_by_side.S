# A boot sector that two emulators run alike: real, protected and 64-bit mode, an exception, repeated strings, x87, SSE. Defined from
# outside: ADDEND (1), the number that a loop in 64-bit mode adds, and COUNT (16), of a string store where there is no memory.
.include "boot_sector.inc"
  .globl start
  .code16
start:
  cli
  real_mode_segments
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
  enter_protected_mode protected
invalid_opcode:
  pop %bx
  push $behind
  iretw
  .code32
protected:
  flat_segments
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
  or $0x200, %eax                  # OSFXSR
  mov %eax, %cr4
  movsd 0x2000, %xmm0
  addsd %xmm0, %xmm0
  paddq %xmm0, %xmm0
  enable_long_mode
  enter_long_mode long64
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

  descriptor_table
  boot_signature
