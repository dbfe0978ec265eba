// Boots a kernel that wants flat 32-bit protected mode and the firmware's memory map: multiboot 1 and PVH.
//
// Multiboot Specification 0.6.96, 3.2 (machine state) and 3.3 (boot information); Xen's docs/misc/pvh.pandoc. The
// emulator has built the information block, at the setup address. It begins with what this code is to do:
//   0  EAX at entry               4  EBX at entry (address of the structure for the kernel)
//   8  where the first entry of the memory map goes (entries are 24 bytes apart)
//  12  where to store the map's length    16  what to count for each entry    20  how many entries there is room for

        .equ    SEGMENT, 0x6000          // 60000h: some test kernels load at 4000h
        .include "boot_rom.inc"
product:
        .asciz  "Multiboot or PVH kernel"

        // Offsets in SEGMENT
        .equ    BLOCK, 0x7020           // copy of the six numbers
        .equ    ENTRY, 0x7040           // one entry as the firmware returns it
        .equ    DESCRIPTORS, 0x7060     // global descriptor table and its pseudo-descriptor
        .equ    KERNEL, 0x7058          // the kernel's entry point
        .equ    TABLE_SIZE, 3 * 8 + 6

boot:
        SET_UP
        mov     ax, KEY_SETUP_SIZE
        call    read_number
        test    eax, eax
        jz      failed

        LOAD    KEY_INITRD_ADDRESS, KEY_INITRD_SIZE, KEY_INITRD_DATA
        LOAD    KEY_KERNEL_ADDRESS, KEY_KERNEL_SIZE, KEY_KERNEL_DATA
        LOAD    KEY_SETUP_ADDRESS, KEY_SETUP_SIZE, KEY_SETUP_DATA
        mov     ax, KEY_KERNEL_ENTRY
        call    read_number
        mov     dword ptr [KERNEL], eax

        // The block is below 1 MiB, on a paragraph: address it by a segment.
        mov     ax, KEY_SETUP_ADDRESS
        call    read_number
        shr     eax, 4
        mov     fs, ax
        xor     si, si
        mov     di, BLOCK
        mov     cx, 12
1:      mov     ax, word ptr fs:[si]
        stosw
        add     si, 2
        loop    1b

        // INT 15h AX=E820h: entries of 20 bytes until EBX returns 0.
        xor     ebx, ebx
        xor     ebp, ebp                // the length so far
        mov     esi, dword ptr [BLOCK + 8]
2:      cmp     dword ptr [BLOCK + 20], 0
        je      4f
        mov     eax, 0xe820
        mov     edx, 0x534d4150
        mov     ecx, 20
        mov     di, ENTRY
        int     0x15
        jc      4f
        cmp     eax, 0x534d4150
        jne     4f
        mov     eax, esi                // to ESI, below 1 MiB
        shr     eax, 4
        mov     es, ax
        push    si
        mov     di, si
        and     di, 15
        mov     si, ENTRY
        mov     cx, 10
        rep movsw
        pop     si
        mov     ax, ds
        mov     es, ax
        add     esi, 24
        add     ebp, dword ptr [BLOCK + 16]
        dec     dword ptr [BLOCK + 20]
        test    ebx, ebx
        jnz     2b
4:      mov     esi, dword ptr [BLOCK + 12]
        mov     eax, esi
        shr     eax, 4
        mov     es, ax
        and     si, 15
        mov     dword ptr es:[si], ebp
        mov     ax, ds
        mov     es, ax

        // Flat segments: the table is copied to where it is known to be readable, with its own address in it.
        cli
        push    cs
        pop     ds
        mov     si, offset table
        mov     di, DESCRIPTORS
        mov     cx, TABLE_SIZE / 2
        rep movsw
        mov     ax, es
        mov     ds, ax
        lgdt    [DESCRIPTORS + TABLE_SIZE - 6]
        mov     ecx, dword ptr [BLOCK]
        mov     ebx, dword ptr [BLOCK + 4]
        mov     edx, dword ptr [KERNEL]
        // The far jump needs this ROM's linear address, known only now: it goes through a pointer on the stack.
        xor     eax, eax
        mov     ax, cs
        shl     eax, 4
        add     eax, offset flat
        push    8
        push    eax
        mov     bp, sp
        mov     eax, cr0
        or      al, 1
        mov     cr0, eax
        jmp     fword ptr [bp]

        .code32
flat:
        mov     ax, 0x10
        mov     ds, ax
        mov     es, ax
        mov     fs, ax
        mov     gs, ax
        mov     ss, ax
        mov     eax, ecx
        xor     ecx, ecx
        xor     esi, esi
        xor     edi, edi
        xor     ebp, ebp
        jmp     edx

        .align  8
table:
        .quad   0
        .quad   0x00cf9b000000ffff      // 08h: code, 4 GiB, 32-bit
        .quad   0x00cf93000000ffff      // 10h: data
        .word   3 * 8 - 1               // pseudo-descriptor
        .long   LINEAR + DESCRIPTORS
