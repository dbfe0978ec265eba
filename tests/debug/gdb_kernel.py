"""Inside gdb: Debian's kernel, with symbols, from the reset vector to start_kernel and into a user process."""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from inside_gdb import *  # noqa: E402, F403


def main():
    run("set architecture i386:x86-64")
    connect()
    # Set long before the kernel is there, by a linear address that nothing maps yet.
    run("break *&start_kernel")
    run("continue")
    equal(reg("rip"), symbol("start_kernel"), "start_kernel")
    assert reg("cr0") >> 31 & 1 and reg("efer") & 0x400, "the kernel begins in 64-bit mode with paging"
    equal(reg("eflags") & 0x200, 0, "interrupts are off (init/main.c, start_kernel)")
    banner = bytes(gdb.selected_inferior().read_memory(symbol("linux_banner"), 13))
    equal(banner, b"Linux version", "linux_banner")
    contains(run("x/i $pc"), "<start_kernel", "disassembly with symbols")
    contains(run("info symbol $pc"), "start_kernel", "the symbol")
    run("delete")
    run("stepi 20")
    # The kernel's clock is written by its timer interrupt only.
    run("watch *(long*)&jiffies")
    run("continue")
    first = memory(symbol("jiffies"), 8)
    run("continue")
    equal(memory(symbol("jiffies"), 8), first + 1, "jiffies goes up by one")
    run("delete")
    # The first system call that writes: its registers lie where the first argument points (struct pt_regs, offsets of
    # arch/x86/include/asm/ptrace.h).
    run("break *&__x64_sys_write")
    run("continue")
    registers = reg("rdi")
    user_rip, user_cs = memory(registers + 0x80, 8), memory(registers + 0x88, 8)
    equal(user_cs & 3, 3, "called by user code")
    run("delete")
    run(f"tbreak *{user_rip:#x}")
    run("continue")
    equal(reg("rip"), user_rip, "behind the system call, in the process")
    equal(reg("cpl"), 3, "CPL")
    # Steps stay in the process: no interrupt comes between.
    for _ in range(50):
        run("stepi")
        if reg("cpl") != 3:
            break
    run("kill")


script(main)
