"""Inside gdb: steps over exceptions, software interrupts and interrupts, with and without these held back; Ctrl-C, detaching, and other ways to connect."""
import os
import signal
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from inside_gdb import *  # noqa: E402, F403


def to(place):
    run(f"tbreak *{place:#x}" if isinstance(place, int) else f"tbreak *&{place}")
    run("continue")


def sstep(bits):
    run(f"maintenance packet Qqemu.sstep={bits:#x}")


def in_loop():
    return symbol("loop") <= reg("rip") <= symbol("loop_end")


def exceptions():
    to("undefined")
    equal(reg("rip"), symbol("undefined"), "UD2")
    run("stepi")
    equal(reg("rip"), symbol("invalid"), "a step of an instruction that faults ends at its handler")
    equal(memory(reg("rsp"), 2), symbol("undefined"), "a fault's return address is the instruction (SDM Vol. 3A 6.5)")
    # Over it: the handler's end is where it returns to.
    to("behind_undefined")
    equal(reg("rip"), symbol("behind_undefined"), "behind the exception")
    run("stepi")
    equal(reg("rip"), symbol("call_service"), "INT")
    before = reg("rdx") & 0xFFFF
    run("stepi")
    equal(reg("rip"), symbol("software"), "a step of INT goes to its handler")
    run("stepi")
    equal(reg("rdx") & 0xFFFF, before + 1, "which is stepped like other code")
    run("stepi")
    equal(reg("rip"), symbol("behind_service"), "and IRET back")


def interrupts():
    to("loop")
    contains(run("maintenance packet qqemu.sstepbits"), "ENABLE=1,NOIRQ=2,NOTIMER=4", "the choices")
    contains(run("maintenance packet qqemu.sstep"), "0x7", "where time follows the host, interrupts and timers wait")
    run("stepi 40")
    for bits in (7, 3):
        sstep(bits)
        ticks = memory(symbol("ticks"), 2)
        for _ in range(200):
            run("stepi")
            assert in_loop(), f"sstep={bits}: a step left the loop for {reg('rip'):#x}"
        equal(memory(symbol("ticks"), 2), ticks, f"sstep={bits}: no interrupt came")
    sstep(1)
    for _ in range(20000):
        run("stepi")
        if not in_loop():
            break
    equal(reg("rip"), symbol("timer"), "sstep=1: nothing is held, and a step ends in the interrupt's handler")
    equal(memory(reg("rsp") + 4, 2) & 0x200, 0x200, "FLAGS.IF as the loop had it")
    # Over the interrupt: back where it came from.
    to(memory(reg("rsp"), 2))
    assert in_loop()
    sstep(7)
    run("stepi")
    assert in_loop()


def ctrl_c():
    ticks = memory(symbol("ticks"), 2)
    for _ in range(2):
        threading.Timer(1, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        run("continue")  # nothing else would end it
    assert memory(symbol("ticks"), 2) != ticks, "interrupts came as long as it ran"
    assert in_loop() or reg("rip") >= symbol("timer")


def connections():
    run("hbreak *&finish")
    run("detach")
    connect()
    run("delete")
    ticks = memory(symbol("ticks"), 2)
    run("disconnect")
    time.sleep(1)  # for the guest to run meanwhile
    # With acknowledgements, and with one register a packet.
    for setting in ("noack-packet off", "fetch-register-packet on", "target-features-packet auto"):
        run(f"set remote {setting}")
    connect()
    equal(reg("cs"), 0, "attached with acknowledgements")
    assert memory(symbol("ticks"), 2) != ticks, "the guest ran while nobody was there"
    run("stepi")
    run("disconnect")
    run("set remote noack-packet on")
    connect()


def physical():
    run("maintenance packet Qqemu.PhyMemMode:1")
    contains(run("maintenance packet qqemu.PhyMemMode"), "1", "physical addresses")
    equal(memory(0x7DFE, 2), 0xAA55, "the boot sector's signature")
    run("set {short}0x602 = 1")
    run(f"hbreak *&finish")
    run("continue")
    equal(reg("rip"), symbol("finish"), "a breakpoint by physical address")
    run("delete")
    run("maintenance packet Qqemu.PhyMemMode:0")


def main():
    run("set architecture i8086")
    connect()
    exceptions()
    interrupts()
    ctrl_c()
    connections()
    physical()
    run("kill")


script(main)
