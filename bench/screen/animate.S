# A boot sector that fills 1024x768 pixels of 32 bits again and again, every pixel anew, and writes a byte to port E9h for
# each whole frame.
.include "boot_sector.inc"
.code16
.globl start
start:
  real_mode_segments
  mov $0x4f02, %ax
  mov $0x4144, %bx
  int $0x10
  find_frame_buffer
  cli
  enter_protected_mode protected
.code32
protected:
  flat_segments
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
descriptor_table
boot_signature
