"""Inside gdb: from the reset vector through SeaBIOS into a boot sector, and with it through the modes of the CPU."""
import os
import random
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from inside_gdb import *  # noqa: E402, F403


def reset_vector():
    connect()
    equal(reg("rip"), 0xFFFFFFF0, "the linear address of the reset vector (SDM Vol. 3A 9.1.4)")
    equal(reg("cs"), 0xF000, "CS")
    equal(reg("cs_base"), 0xFFFF0000, "CS.base")
    equal(reg("ip"), 0xFFF0, "IP")
    equal(reg("eflags"), 2, "EFLAGS")
    equal(reg("cr0"), 0x60000010, "CR0")
    equal(reg("efer"), 0, "EFER")
    listed = run("info registers")
    for name in ("rip", "cs_base", "gdtr_limit", "cr0", "efer", "dr7", "lstar", "sysenter_eip", "apic_base"):
        contains(listed, f"\n{name} ", "info registers")
    run("set architecture i8086")
    contains(run("x/i $pc"), "ljmp   $0xf000,$0xe05b", "SeaBIOS begins with its far jump")
    run("stepi")
    equal(reg("eip"), 0xFE05B, "the jump's target, linear")
    equal(reg("cs_base"), 0xF0000, "CS.base after a far jump in real mode")


def every_register():
    # Those that hold any number come first; those below take only what a processor can hold, and have values of their own. CPL is
    # no register: it follows from CS.
    fixed = {"cpl", "apic_base", "pat", "xcr0", "eflags", "cr0", "cr4", "efer", "mxcsr", "fctrl", "dr6", "dr7"}
    run("set architecture i386:x86-64")
    frame = gdb.selected_frame()
    names = [r.name for group in ("system", "general", "float") for r in frame.architecture().registers(group)]
    wide = {f"r{i}" for i in range(8, 16)} | {"rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp"}
    assert wide <= set(names), names
    source = random.Random(1)
    saved = {}
    for name in sorted(set(names) - fixed):
        old = gdb.parse_and_eval(f"${name}")
        if old.type.code not in (gdb.TYPE_CODE_INT, gdb.TYPE_CODE_FLAGS) or old.type.sizeof > 8:
            continue
        bits = 8 * old.type.sizeof
        if name in ("cs", "es", "ss", "ds", "fs", "gs", "tr", "ldtr", "gdtr_limit", "idtr_limit"):
            bits = 16
        if name.startswith("cr"):
            bits = {"cr3": 32, "cr8": 4}.get(name, 64)
        if name in ("ip", "rip"):
            bits = 32
        if name.endswith("_base") and name not in ("gdtr_base", "idtr_base", "kernel_gs_base"):
            bits = 32
        if name in ("fiseg", "foseg", "fstat", "ftag"):
            bits = 16
        if name == "fop":
            bits = 11
        value = source.getrandbits(bits)
        if name == "ftag":
            value = 0xFFFF
        if name == "cr3":
            value &= ~0xFFF
        saved[name] = int(old)
        run(f"set ${name} = {value:#x}")
        run("maintenance flush register-cache")
        equal(reg(name) & (1 << 8 * old.type.sizeof) - 1, value, f"${name} read back")
        run(f"set ${name} = {int(old) & (1 << 8 * old.type.sizeof) - 1:#x}")
    assert len(saved) > 60, sorted(saved)
    assert {"cs", "cs_base", "ip", "rip", "eip", "eax", "esp", "gdtr_limit", "lstar"} <= set(saved), sorted(saved)
    run("maintenance flush register-cache")
    for name, value in saved.items():
        equal(reg(name), value & 0xFFFF_FFFF_FFFF_FFFF, f"${name} as it was")
    for i in range(16):
        value = source.getrandbits(62)
        run(f"set $xmm{i}.v2_int64[0] = {value}")
        run(f"set $xmm{i}.v2_int64[1] = {value // 3}")
        run("maintenance flush register-cache")
        equal(int(gdb.parse_and_eval(f"$xmm{i}.v2_int64[0]")), value, f"$xmm{i}")
        run(f"set $ymm{i}.v4_int64[3] = {value // 5}")
        run("maintenance flush register-cache")
        equal(int(gdb.parse_and_eval(f"$ymm{i}.v4_int64[3]")), value // 5, f"$ymm{i}, upper half")
    for i in range(8):
        run(f"set $st{i} = {i}.5")
        run("maintenance flush register-cache")
        equal(float(gdb.parse_and_eval(f"$st{i}")), i + 0.5, f"$st{i}")
    for name, value in (("eflags", 0x246), ("mxcsr", 0x1FA0), ("fctrl", 0x27F), ("dr7", 0x455), ("dr6", 0xFFFF0FF3), ("cr0", 0x60010010),
                        ("cr4", 0x620), ("efer", 0x801), ("pat", 0x0007010600070501), ("xcr0", 7), ("apic_base", 0xFEE00100)):
        old = reg(name)
        run(f"set ${name} = {value:#x}")
        run("maintenance flush register-cache")
        equal(reg(name), value, f"${name}")
        run(f"set ${name} = {old:#x}")
    # Both names of a register are one.
    run("set $rbx = 0x1122334455667788")
    run("maintenance flush register-cache")
    equal(reg("ebx"), 0x55667788, "$ebx is the lower half of $rbx")
    # What no processor can hold is refused (SDM Vol. 3A 2.5, 12.12.2; Vol. 1 13.3): paging without protection, a memory type that
    # does not exist, AVX's state without SSE's; and CPL, which is CS's.
    for name, value in (("cr0", 0x80000010), ("pat", 2), ("xcr0", 5), ("cpl", 3)):
        try:
            run(f"set ${name} = {value:#x}")
        except gdb.error:
            continue
        raise AssertionError(f"${name} = {value:#x} was accepted")


def real_mode():
    run("break *0x7c00")
    run("continue")
    equal(reg("rip"), 0x7C00, "the boot sector's address (IBM PC)")
    run("delete")
    run("set architecture i8086")
    contains(run("x/i $pc"), "cli", "16-bit disassembly")
    run("break *&real_loop")
    run("continue")
    equal(reg("rcx") & 0xFFFF, 5, "CX")
    for left in (4, 3, 2):
        run("continue")
        equal(reg("rcx") & 0xFFFF, left, "CX goes down")
        equal(reg("rbx") & 0xFFFF, 5 - left, "BX goes up")
    run("delete")
    # The same address by another segment.
    while reg("cs") == 0:
        run("stepi")
    equal(reg("cs"), 0x7C0, "CS after the far jump")
    start = reg("rip")
    equal(reg("ip"), start - 0x7C00, "IP counts from CS's base")
    contains(run("x/i $pc"), "nop", "disassembly at the linear address")
    run(f"break *{start + 1:#x}")
    run("continue")
    equal(reg("rip"), start + 1, "a linear breakpoint where CS has a base")
    run("delete")


def protected_mode():
    run("break *&protected")
    run("continue")
    equal(reg("rip"), symbol("protected"), "the first instruction in protected mode")
    equal(reg("cr0") & 1, 1, "CR0.PE")
    run("set architecture i386")
    contains(run("x/i $pc"), "mov    $0x10,%eax", "32-bit disassembly")
    run("break *&function32")
    run("continue")
    run("delete")
    run("stepi")
    equal(reg("rax"), 0x32, "EAX")
    run("break *&to_long")
    run("continue")
    run("delete")


def long_mode():
    run("break *&long64")
    run("continue")
    run("set architecture i386:x86-64")
    equal(reg("rip"), symbol("long64"), "the first instruction in 64-bit mode")
    equal(reg("efer") & 0x500, 0x500, "EFER.LMA and EFER.LME")
    contains(run("info threads"), "64-bit mode", "the thread's description")
    run("stepi 2")
    equal(reg("rax"), 0x123456789ABCDEF0, "RAX")
    run("delete")


def watchpoints():
    counter, after = symbol("counter"), symbol("after_store")
    run(f"watch *(long*){counter}")
    for value in range(1, 6):
        run("continue")
        equal(reg("rip"), after, "behind the store")
        equal(memory(counter, 8), value, "what was stored")
    run("delete")
    run(f"rwatch *(long*){counter}")       # nothing reads it; the breakpoint behind comes first
    run("break *&function64")
    run("continue")
    equal(reg("rip"), symbol("function64"), "a read watchpoint does not see stores")
    run("delete")
    run(f"awatch *(char*){counter + 1}")   # a byte within
    run("continue")
    equal(reg("rip"), after, "a watchpoint on one byte of a wider access")
    run("delete")
    # Many at once, of which one is hit.
    for i in range(300):
        run(f"watch *(char*){0x8100 + i}")
    run(f"watch *(char*){counter}")
    before = reg("rcx")
    run("continue")
    equal(reg("rcx"), before + 1, "the next round")
    run("delete")


def breakpoints():
    code = bytes(gdb.selected_inferior().read_memory(0x7C00, 512))
    for i in range(500):
        run(f"break *{0x100000 + 16 * i}")
    for name in ("again", "after_store", "function64"):
        run(f"break *&{name}")
    before = reg("rcx")
    for name in ("function64", "again", "after_store", "function64"):
        run("continue")
        equal(reg("rip"), symbol(name), f"the breakpoint at {name}, among hundreds")
    equal(reg("rcx"), before + 1, "one round")
    equal(bytes(gdb.selected_inferior().read_memory(0x7C00, 512)), code, "no byte of the guest is patched")
    run("delete")
    # Calls are stepped over, and returned from.
    run("break *&after_store")
    run("continue")
    run("delete")
    run("nexti")
    contains(run("x/i $pc"), "cmp", "nexti steps over a call")
    run("break *&function64 if $rcx == 500")
    run("continue")
    equal(reg("rcx"), 500, "a conditional breakpoint")
    run("delete")


def memory_and_physical():
    run("set {long}0x8008 = 0x1122334455667788")
    equal(memory(0x8008, 8), 0x1122334455667788, "memory read back")
    block = bytes(random.Random(2).getrandbits(8) for _ in range(20000))
    gdb.selected_inferior().write_memory(0x100000, block)
    equal(bytes(gdb.selected_inferior().read_memory(0x100000, len(block))), block, "20,000 bytes")
    try:
        memory(0x40000000, 8)
        raise AssertionError("memory that is not mapped was read")
    except gdb.MemoryError:
        pass
    run("maintenance packet Qqemu.PhyMemMode:1")
    assert len(bytes(gdb.selected_inferior().read_memory(0xFFFF0, 16))) == 16
    memory(0x800000, 8)  # not mapped, but there
    run("maintenance packet Qqemu.PhyMemMode:0")
    contains(run("monitor info registers"), "RIP=", "the monitor, from gdb")
    contains(run("info mem"), "0x8000000000000000", "the memory map")


def main():
    reset_vector()
    every_register()
    real_mode()
    protected_mode()
    long_mode()
    watchpoints()
    breakpoints()
    memory_and_physical()
    run("break *&done")
    run("continue")
    equal(reg("rcx"), 1000, "all rounds were made, and none twice")
    run("delete")
    run("detach")
    connect()
    equal(reg("cs"), 24, "attached again, in the code segment of 64-bit mode")
    assert symbol("done") <= reg("rip") < symbol("function64"), "attached again, in the last loop"
    run("kill")


script(main)
