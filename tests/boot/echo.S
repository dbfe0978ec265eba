# A boot sector that prints "ready", then with each tick of the timer computes, reads a sector of the first disk where there is one (or,
# assembled with NETWORK=1, asks by an NE2000 at 300h who has 10.0.2.2), and echoes keys and bytes of the serial line; a q ends it.
.include "boot_sector.inc"
  .code16
  .globl start
start:
  cli
  real_mode_segments 0x7000
  sti
  mov $0x3fb, %dx
  mov $3, %al                      # 8 bits, no parity
  out %al, %dx
  mov $text, %si
.if NETWORK
  call network
  mov $text, %si
.endif
print:
  lodsb
  test %al, %al
  jz tick
  call send
  jmp print
tick:
  hlt
  mov $4, %bp
compute:
  mov $0x8000, %di
  mov $2048, %cx
next:
  imul $25173, %bx, %bx
  add $13849, %bx
  mov %bx, %ax
  xor (%di), %ax
  rol $3, %ax
  stosw
  loop next
  dec %bp
  jnz compute
.if NETWORK
  call ask
  call answers
.else
  incw lba
  andw $63, lba
  mov $packet, %si
  mov $0x42, %ah                   # INT 13h extensions: read
  mov $0x80, %dl
  int $0x13
  jc keys
  mov $256, %cx
  mov $0x9000, %si
sum:
  lodsw
  add %ax, %bx
  loop sum
.endif
keys:
  mov $1, %ah
  int $0x16
  jz line
  xor %ah, %ah
  int $0x16
  call send
  cmp $'q', %al
  je end
line:
  mov $0x3fd, %dx
  in %dx, %al
  test $1, %al
  jz tick
  mov $0x3f8, %dx
  in %dx, %al
  call send
  jmp keys
end:
  mov $0x501, %dx
  mov $16, %al
  out %al, %dx
  hlt
  jmp end
send:
  push %ax
  mov $0x3fd, %dx
busy:
  in %dx, %al
  test $0x20, %al
  jz busy
  pop %ax
  mov $0x3f8, %dx
  out %al, %dx
  ret
text: .asciz "ready\r\n"
.if NETWORK
# DP8390D datasheet. A list of register and value for each write.
.macro write register, value
  .byte \register, \value
.endm
network:
  mov $setup, %si
  mov $(setup_end - setup) / 2, %cx
writes:                            # of %cx registers at %si
  xor %ax, %ax
  lodsb
  mov %ax, %dx
  add $0x300, %dx
  lodsb
  out %al, %dx
  loop writes
  ret
ask:
  mov $to_card, %si
  mov $(to_card_end - to_card) / 2, %cx
  call writes
  mov $frame, %si
  mov $30, %cx
  mov $0x310, %dx
  rep outsw
  mov $transmit, %si
  mov $(transmit_end - transmit) / 2, %cx
  jmp writes
answers:
  mov $0x300, %dx
  mov $0x62, %al                   # page 1: CURR
  out %al, %dx
  mov $0x307, %dx
  in %dx, %al
  mov %al, %ah
  mov $0x300, %dx
  mov $0x22, %al
  out %al, %dx
  mov $0x303, %dx                  # BNRY is the page before the next frame's
  in %dx, %al
  inc %al
  cmp $0x80, %al
  jb 1f
  mov $0x46, %al
1:
  cmp %ah, %al
  je none
  mov %al, from_page
  mov $from_card, %si
  mov $(from_card_end - from_card) / 2, %cx
  call writes
  mov $0x8800, %di
  mov $32, %cx
  mov $0x310, %dx
  rep insw
  mov 0x8801, %al                  # the page behind the frame
  dec %al
  cmp $0x46, %al
  jae 2f
  mov $0x7f, %al
2:
  mov $0x303, %dx
  out %al, %dx
  mov $'!', %al
  call send
  jmp answers
none:
  ret
setup:
  write 0, 0x21                    # stop
  write 14, 0x49                   # DCR: words, FIFO
  write 10, 0
  write 11, 0
  write 12, 4                      # RCR: broadcasts, and what is for us
  write 13, 0
  write 1, 0x46
  write 2, 0x80
  write 3, 0x46
  write 7, 0xff
  write 15, 0
  write 0, 0x61                    # page 1: our address, and CURR
  write 1, 0x52
  write 2, 0x54
  write 3, 0
  write 4, 0x12
  write 5, 0x34
  write 6, 0x56
  write 7, 0x47
  write 0, 0x22                    # start
setup_end:
to_card:
  write 10, 60
  write 11, 0
  write 8, 0
  write 9, 0x40
  write 0, 0x12
to_card_end:
transmit:
  write 4, 0x40
  write 5, 60
  write 6, 0
  write 0, 0x26
transmit_end:
from_card:
  write 10, 64
  write 11, 0
  write 8, 0
  .byte 9
from_page:
  .byte 0
  write 0, 0x0a
from_card_end:
frame:                             # RFC 826
  .byte 255, 255, 255, 255, 255, 255, 0x52, 0x54, 0, 0x12, 0x34, 0x56, 8, 6
  .byte 0, 1, 8, 0, 6, 4, 0, 1, 0x52, 0x54, 0, 0x12, 0x34, 0x56, 10, 0, 2, 15, 0, 0, 0, 0, 0, 0, 10, 0, 2, 2
.else
  .align 4
packet:
  .byte 16, 0
  .word 1, 0x9000, 0
lba:
  .quad 0
.endif
  boot_signature
