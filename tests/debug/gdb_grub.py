"""Inside gdb: from the reset vector through SeaBIOS, GRUB and every mode into Debian's kernel, with symbols, and into a process."""
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from inside_gdb import *  # noqa: E402, F403


def mode():
    return re.search(r"[(, ]([\w-]+(?: protected)? mode)", run("info threads")).group(1)


def to(address):
    run(f"hbreak *{address:#x}")
    run("continue")
    equal(reg("rip"), address, "the breakpoint")
    run("delete")


def firmware():
    connect()
    run("set architecture i8086")
    equal((reg("rip"), mode()), (0xFFFFFFF0, "real mode"), "the reset vector")
    run("stepi")
    equal(reg("rip"), 0xFE05B, "SeaBIOS's entry (the IBM PC's)")


def grub():
    # GRUB's boot.img: a jump over the BIOS parameter block (util/setup.c, boot/i386/pc/boot.S).
    to(0x7C00)
    contains(run("x/i $pc"), "jmp    0x7c65", "boot.S begins with a jump")
    contains(str(bytes(gdb.selected_inferior().read_memory(0x7C00, 512))), "GRUB ", "its message")
    equal(reg("rdx") & 0xFF, 0x80, "DL: the drive booted from (BIOS Boot Specification)")
    # diskboot.img at 0:8000h, and behind it the compressed core at 0:8200h.
    to(0x8000)
    equal(mode(), "real mode", "diskboot")
    to(0x8200)
    equal(mode(), "real mode", "startup_raw")
    # It goes to protected mode, and the unpacked core's first instruction is at 1 MiB.
    to(0x100000)
    run("set architecture i386")
    equal((mode(), reg("cr0") & 1), ("32-bit protected mode", 1), "GRUB's core")
    contains(run("x/i $pc"), "0x100000", "32-bit disassembly")


def linux():
    # Set long before the kernel is there, by a linear address that nothing maps yet.
    run("break *&start_kernel")
    # 32-bit code of the kernel's own switches to long mode: stopped at by the monitor's event, from gdb.
    run("monitor break msr 0xc0000080 write")
    contains(run("continue"), "MSR 0xc0000080", "the kernel's decompressor enables long mode")
    equal((mode(), reg("efer") & 0x100), ("32-bit protected mode", 0x100), "EFER.LME, before paging is on")
    run("monitor delete")
    run("monitor break mode")
    seen = [mode()]
    while seen[-1] != "64-bit mode":
        run("continue")
        seen.append(mode())
        assert len(seen) < 50, seen
    equal(seen[-2:], ["compatibility mode", "64-bit mode"], "the way into 64-bit mode (SDM Vol. 3A 9.8.5)")
    run("monitor delete")
    run("set architecture i386:x86-64")
    run("continue")
    equal((reg("rip"), mode()), (symbol("start_kernel"), "64-bit mode"), "start_kernel")
    contains(run("x/i $pc"), "<start_kernel", "disassembly with symbols")
    run("delete")


def process():
    run("break *&__x64_sys_write")
    run("continue")
    registers = reg("rdi")  # struct pt_regs, arch/x86/include/asm/ptrace.h
    user_rip = memory(registers + 0x80, 8)
    equal(memory(registers + 0x88, 8) & 3, 3, "called by user code")
    run("delete")
    run(f"tbreak *{user_rip:#x}")
    run("continue")
    equal((reg("rip"), reg("cpl")), (user_rip, 3), "behind the system call, in the process")
    run("stepi 5")
    equal(reg("cpl"), 3, "steps stay in the process")


def main():
    firmware()
    grub()
    linux()
    process()
    run("kill")


script(main)
