# A boot sector whose loop an interrupt of the timer leaves 18,000 times a second, and that raises exceptions and software interrupts.
.include "boot_sector.inc"
  .globl start, loop, loop_end, timer, invalid, software, undefined, behind_undefined, call_service, behind_service, finish, ticks
  .set ticks, 0x600
  .code16
start:
  cli
  real_mode_segments
  movw $timer, 8 * 4               # IRQ 0
  movw %ax, 8 * 4 + 2
  movw $invalid, 6 * 4             # #UD
  movw %ax, 6 * 4 + 2
  movw $software, 0x60 * 4
  movw %ax, 0x60 * 4 + 2
  mov %ax, ticks
undefined:
  ud2
behind_undefined:
  nop
call_service:
  int $0x60
behind_service:
  nop
  mov $0x34, %al                   # 8254: counter 0, mode 2, both bytes
  out %al, $0x43
  mov $64, %al
  out %al, $0x40
  mov $0, %al
  out %al, $0x40
  in $0x21, %al
  and $0xfe, %al
  out %al, $0x21
  sti
loop:
  inc %bx
  add %bx, %cx
  cmpw $0, 0x602
loop_end:
  je loop
finish:
  hlt
  jmp finish
timer:
  push %ax
  incw ticks
  mov $0x20, %al
  out %al, $0x20
  pop %ax
  iret
invalid:
  push %bp
  mov %sp, %bp
  addw $2, 2(%bp)                  # behind UD2
  pop %bp
  iret
software:
  inc %dx
  iret
  boot_signature
