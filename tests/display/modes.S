# A boot sector that goes from mode to mode for ever, each with one bright colour all over the screen: mode 13h with a white
# palette, and linear modes of 32 bits in orange. It never draws or shows a black pixel once it has begun, which a byte on port
# E9h says. Interface: Bochs "VBE Display HOWTO".
.code16
.globl _start
_start:
  xor %ax, %ax
  mov %ax, %ds
  mov %ax, %es
  mov %ax, %ss
  mov $0x7c00, %sp
  mov $0x4f01, %ax        # what the VESA BIOS knows of mode 144h: 1024x768x32 in Bochs's and QEMU's BIOS
  mov $0x144, %cx
  mov $0x8000, %di
  int $0x10
  mov (0x8028), %esi      # PhysBasePtr
  mov $0x13, %ax
  int $0x10
  cli
  mov $0x3c8, %dx
  xor %al, %al
  out %al, %dx
  inc %dx
  mov $768, %cx
  mov $63, %al
white:
  out %al, %dx
  loop white
  lgdt descriptor
  mov %cr0, %eax
  or $1, %al
  mov %eax, %cr0
  ljmp $8, $protected
.code32
protected:
  mov $16, %ax
  mov %ax, %ds
  mov %ax, %es
  mov %ax, %ss
  mov %esi, %edi          # more than the largest mode shows
  mov $0xff8000, %eax
  mov $(1024 * 1024), %ecx
  cld
  rep stosl
  mov $0x2e, %al
  out %al, $0xe9
again:
  mov $modes, %ebx
next:
  mov $4, %ax             # VBE_DISPI_INDEX_ENABLE: 0, what the VGA's registers say
  xor %cx, %cx
  call set
  mov (%ebx), %cx
  test %cx, %cx
  jz again
  cmp $1, %cx
  je hold
  mov $1, %ax
  call set
  inc %ax
  mov 2(%ebx), %cx
  call set
  inc %ax
  mov $32, %cx
  call set
  inc %ax
  mov $0xc1, %cx          # enabled, linear, memory is not cleared
  call set
hold:
  add $4, %ebx
  mov $2000, %ecx         # bit 4 of port 61h changes each 15 microseconds
wait:
  in $0x61, %al
  and $0x10, %al
  cmp %ah, %al
  je wait
  mov %al, %ah
  loop wait
  jmp next
set:                      # DISPI register AX is CX
  mov $0x1ce, %dx
  out %ax, %dx
  inc %dx
  xchg %ax, %cx
  out %ax, %dx
  xchg %ax, %cx
  ret
.balign 4
modes:                    # 1: mode 13h
  .word 640, 480, 1, 0, 800, 600, 1024, 768, 640, 480, 1024, 768, 1, 0, 1024, 768, 800, 600, 0
.balign 8
table:
  .quad 0, 0x00cf9a000000ffff, 0x00cf92000000ffff
descriptor:
  .word 23
  .long table
.org 510
.word 0xaa55
