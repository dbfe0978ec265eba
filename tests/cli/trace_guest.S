# A boot sector for the tests of traces: an event of each kind, one behind the other, each at an instruction with a name.
.include "boot_sector.inc"
.equ directory, 0x9000

.code16
.globl start
start:
  cli
  real_mode_segments 0x7000
  movw $invalid, 6 * 4
  mov %ax, 6 * 4 + 2
.globl undefined
undefined:
  ud2
  mov $0x03, %ah
  xor %bh, %bh
.globl call_bios
call_bios:
  int $0x10
  mov $0x5a, %al
.globl write_port
write_port:
  out %al, $0x80
.globl read_port
read_port:
  in $0x92, %al
  lgdt gdtr
  lidt idt_register
  mov %cr0, %eax
  or $1, %al
.globl write_cr0
write_cr0:
  mov %eax, %cr0
.globl to_protected
to_protected:
  ljmp $8, $protected

invalid:                        # over the two bytes of UD2
  push %bp
  mov %sp, %bp
  addw $2, 2(%bp)
  pop %bp
  iret

.code32
protected:
  flat_segments
  mov $directory, %edi
  xor %eax, %eax
  mov $1024, %ecx
  rep stosl
  movl $0x83, directory         # 4 MiB pages: the first, and the local APIC's
  movl $0xfec00093, directory + 4 * (0xfec00000 >> 22)
  mov %cr4, %eax
  or $0x10, %eax
.globl write_cr4
write_cr4:
  mov %eax, %cr4
  mov $directory, %eax
.globl write_cr3
write_cr3:
  mov %eax, %cr3
  mov %cr0, %eax
  or $0x80000000, %eax
.globl enable_paging
enable_paging:
  mov %eax, %cr0
.globl touch
touch:
  movl $0x1234, 0x800010
.globl read_apic
read_apic:
  mov 0xfee00020, %eax
  mov $0x1b, %ecx
.globl read_msr
read_msr:
  rdmsr
.globl write_msr
write_msr:
  wrmsr
forever:
  jmp forever

fault:
  movl $0x800083, directory + 8
  add $4, %esp
  iret

descriptor_table
idt:
  .fill 14, 8, 0
  .word fault, 8, 0x8e00, 0
idt_register:
  .word idt_register - idt - 1
  .long idt

boot_signature
