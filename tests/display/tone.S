# A boot sector that plays a tone of 1000 Hz on the PC speaker (mode 3 of the 8254's counter 2) and keeps the CPU and the screen
# at full load: mode 13h, drawn anew again and again.
.include "boot_sector.inc"
.code16
.globl start
start:
  xor %ax, %ax
  mov %ax, %ss
  mov $0x7c00, %sp
  mov $0x13, %ax
  int $0x10
  mov $0xb6, %al
  out %al, $0x43
  mov $1193, %ax          # 1193182 Hz / 1193
  out %al, $0x42
  mov %ah, %al
  out %al, $0x42
  in $0x61, %al
  or $3, %al
  out %al, $0x61
  mov $0xa000, %ax
  mov %ax, %es
  cld
frame:
  inc %bx
  xor %di, %di
  mov $0xfa00, %cx
  mov %bx, %ax
pixel:
  imul $251, %ax
  inc %ax
  mov %ah, %es:(%di)
  inc %di
  loop pixel
  jmp frame
boot_signature
