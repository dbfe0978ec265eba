# A boot sector that goes from mode to mode for ever, each with one bright colour all over the screen: mode 13h with a white
# palette, and linear modes of 32 bits in orange. It never draws or shows a black pixel once it has begun, which a byte on port
# E9h says. Interface: Bochs "VBE Display HOWTO".
.include "boot_sector.inc"
.code16
.globl start
start:
  real_mode_segments
  find_frame_buffer
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
  enter_protected_mode protected
.code32
protected:
  flat_segments
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
descriptor_table
boot_signature
