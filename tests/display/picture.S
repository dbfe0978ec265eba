# A boot sector that shows a picture in mode 13h and below it every byte that keyboard and mouse send, a pixel each.
# Colour i has red i >> 2 and green (i & 3) << 4 of 63, so that a screenshot gives the bytes back. Rows 0 to 159: x + y;
# from row 170 the keyboard's bytes, from row 180 the mouse's.
.include "boot_sector.inc"
.code16
.globl start
start:
  xor %ax, %ax
  mov %ax, %ss
  mov $0x7c00, %sp
  mov $0x13, %ax
  int $0x10
  mov $0x3c8, %dx
  xor %al, %al
  out %al, %dx
  inc %dx
  xor %bx, %bx
palette:
  mov %bl, %al
  shr $2, %al
  out %al, %dx
  mov %bl, %al
  and $3, %al
  shl $4, %al
  out %al, %dx
  xor %al, %al
  out %al, %dx
  inc %bl
  jnz palette
  mov $0xa000, %ax
  mov %ax, %es
  xor %di, %di
  cld
  xor %cx, %cx
row:
  xor %bx, %bx
pixel:
  mov %bl, %al
  add %cl, %al
  stosb
  inc %bx
  cmp $320, %bx
  jb pixel
  inc %cx
  cmp $160, %cx
  jb row
  cli
  mov $0xa8, %al          # the auxiliary port on
  call command
  mov $0xd4, %al          # to the mouse: report
  call command
  call ready
  mov $0xf4, %al
  out %al, $0x60
  mov $(320 * 170), %si
  mov $(320 * 180), %bp
poll:
  in $0x64, %al
  test $1, %al
  jz poll
  mov %al, %ah
  in $0x60, %al
  test $0x20, %ah
  jnz mouse
  xchg %si, %di
  stosb
  xchg %si, %di
  jmp poll
mouse:
  xchg %bp, %di
  stosb
  xchg %bp, %di
  jmp poll
command:
  push %ax
  call ready
  pop %ax
  out %al, $0x64
  ret
ready:
  in $0x64, %al
  test $2, %al
  jnz ready
  ret
boot_signature
