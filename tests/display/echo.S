# A boot sector that shows all sixteen colours and a box of line characters, and then prints what is typed.
.include "boot_sector.inc"
.code16
.globl start
start:
  xor %ax, %ax
  mov %ax, %ds
  mov %ax, %ss
  mov $0x7c00, %sp
  mov $3, %ax
  int $0x10
  mov $0x1003, %ax        # bright backgrounds instead of blinking
  xor %bx, %bx
  int $0x10
  mov $0xb800, %ax
  mov %ax, %es
  cld
  xor %di, %di            # row 0: 16 foregrounds; row 1: 16 backgrounds
  mov $0x0041, %ax
foregrounds:
  stosw
  inc %ah
  inc %al
  cmp $16, %ah
  jb foregrounds
  mov $160, %di
  mov $0x0061, %ax
backgrounds:
  stosw
  add $0x10, %ah
  inc %al
  cmp $0x71, %al
  jb backgrounds
  mov $box, %si
  mov $320, %di
  mov $0x07, %ah
  mov $3, %dl
box_row:
  mov $8, %cx
box_column:
  lodsb
  stosw
  loop box_column
  add $(160 - 16), %di
  dec %dl
  jnz box_row
  mov $2, %ah             # cursor to row 6, column 3
  xor %bh, %bh
  mov $0x0603, %dx
  int $0x10
type:
  xor %ah, %ah
  int $0x16
  mov $0x0e, %ah
  mov $7, %bx
  int $0x10
  jmp type
box:
  .byte 0xc9, 0xcd, 0xcd, 0xcb, 0xcd, 0xcd, 0xcd, 0xbb
  .byte 0xba, 0xe1, 0x01, 0xba, 0xb0, 0xb1, 0xdb, 0xba
  .byte 0xc8, 0xcd, 0xcd, 0xca, 0xcd, 0xcd, 0xcd, 0xbc
boot_signature
