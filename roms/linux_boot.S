// Boots a Linux bzImage that the emulator offers in fw_cfg: loads its parts and enters the 16-bit setup code.
//
// Linux Documentation/x86/boot.rst ("The Linux/x86 Boot Protocol", "Running the kernel"). The emulator has filled in the
// header's fields for the boot loader, as it knows where everything goes.

        .equ    SEGMENT, 0
        .include "boot_rom.inc"
product:
        .asciz  "Linux kernel"

boot:
        SET_UP
        mov     ax, KEY_SETUP_SIZE
        call    read_number
        test    eax, eax
        jz      failed

        LOAD    KEY_COMMAND_LINE_ADDRESS, KEY_COMMAND_LINE_SIZE, KEY_COMMAND_LINE_DATA
        LOAD    KEY_INITRD_ADDRESS, KEY_INITRD_SIZE, KEY_INITRD_DATA
        LOAD    KEY_KERNEL_ADDRESS, KEY_KERNEL_SIZE, KEY_KERNEL_DATA
        LOAD    KEY_SETUP_ADDRESS, KEY_SETUP_SIZE, KEY_SETUP_DATA

        // The setup code wants DS = ES = SS = its own segment, the stack behind its heap (which ends below the command
        // line), and to be entered 200h bytes in, by CS = segment + 20h, IP = 0.
        mov     ax, KEY_COMMAND_LINE_ADDRESS
        call    read_number
        mov     ebp, eax
        mov     ax, KEY_SETUP_ADDRESS
        call    read_number
        sub     ebp, eax
        sub     ebp, 16
        shr     eax, 4
        cli
        mov     ds, ax
        mov     es, ax
        mov     fs, ax
        mov     gs, ax
        mov     ss, ax
        mov     esp, ebp
        add     ax, 0x20
        push    ax
        push    0
        xor     eax, eax
        xor     ebx, ebx
        xor     ecx, ecx
        xor     edx, edx
        xor     esi, esi
        xor     edi, edi
        xor     ebp, ebp
        .byte   0xcb            // retf with a 16-bit operand, which the assembler cannot be told to emit
