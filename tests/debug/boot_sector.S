# A boot sector that goes from real mode through protected to 64-bit mode, and counts there.
.include "boot_sector.inc"
  .globl start, real_loop, to_protected, protected, function32, to_long, long64, again, after_store, function64, done, counter
  .set counter, 0x8000
  .code16
start:
  cli
  real_mode_segments
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
  enter_protected_mode protected
  .code32
protected:
  flat_segments 0x9000
  call function32
  enable_long_mode
to_long:
  enter_long_mode long64
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

  descriptor_table
  boot_signature
