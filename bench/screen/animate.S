# A boot sector that fills 1024x768 pixels of 32 bits again and again, every pixel anew, and writes a byte to port E9h for
# each whole frame.
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
  mov $0x4f02, %ax
  mov $0x4144, %bx
  int $0x10
  mov (0x8028), %esi      # PhysBasePtr
  cli
  lgdt descriptor
  mov %cr0, %eax
  or $1, %al
  mov %eax, %cr0
  ljmp $8, $protected
.code32
protected:
  mov $16, %ax
  mov %ax, %ds            # flat, as every system has them
  mov %ax, %es
  mov %ax, %ss
  mov %ax, %fs
  mov %ax, %gs
  xor %ebx, %ebx
frame:
  mov %esi, %edi
  mov %ebx, %eax
  mov $(1024 * 768), %ecx
pixel:
  mov %eax, (%edi)
  add $0x010203, %eax
  add $4, %edi
  dec %ecx
  jnz pixel
  add $0x030501, %ebx
  mov $0x2e, %al
  out %al, $0xe9
  jmp frame
.balign 8
table:
  .quad 0, 0x00cf9a000000ffff, 0x00cf92000000ffff
descriptor:
  .word 23
  .long table
.org 510
.word 0xaa55
