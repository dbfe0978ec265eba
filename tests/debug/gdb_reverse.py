"""Inside gdb: backwards through a boot sector's run, to the writes of a value and through the changes of mode, and forwards again."""
import os
import re
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from inside_gdb import *  # noqa: E402, F403


def clock():
    return int(re.search(r"(\d+) instructions", run("monitor info clock")).group(1))


def state():
    return run("monitor info hash")


def main():
    run("set architecture i386:x86-64")
    connect()
    beginning = state()
    run("break *&done")
    run("continue")
    run("delete")
    end, end_count = state(), clock()
    counter, store = symbol("counter"), symbol("again") + 3
    # Who wrote the value? Each write is found in front of its instruction, with memory as it was.
    run(f"watch *(long*){counter}")
    for value in (999, 998, 997):
        run("reverse-continue")
        equal(reg("rip"), store, "the instruction that stores")
        equal(memory(counter, 8), value, "what was there before")
        equal(reg("rcx"), value + 1, "what it stores")
    run("delete")
    run("reverse-stepi")
    equal(reg("rip"), symbol("again"), "one instruction back")
    equal(reg("rcx"), 997, "before INC")
    run("stepi")
    equal(reg("rip"), store, "and forwards again")
    # A breakpoint, backwards: the last time that it was met.
    run("break *&function64")
    run("reverse-continue")
    equal((reg("rip"), reg("rcx")), (symbol("function64"), 997), "the last call")
    run("delete")
    # Through the modes.
    run("break *&long64")
    run("reverse-continue")
    run("delete")
    equal(reg("rip"), symbol("long64"), "the first instruction of 64-bit code")
    run("reverse-stepi")
    equal(reg("cs"), 8, "the 32-bit code segment is back")
    run("break *&real_loop")
    run("reverse-continue")
    equal((reg("rip"), reg("cr0") & 1, reg("rcx") & 0xFFFF), (symbol("real_loop"), 0, 1), "the last round of the loop in real mode")
    run("delete")
    # To the end again: the same run.
    run("break *&done")
    run("continue")
    equal(clock(), end_count, "as many instructions")
    equal(state(), end, "the same state")
    run("delete")
    started = time.monotonic()
    run("reverse-stepi")
    print(f"one instruction back: {time.monotonic() - started:.3f} s")
    # To the beginning.
    started = time.monotonic()
    run("reverse-continue")  # gdb says that there is no more history, past what it lets scripts see
    print(f"{end_count} instructions back: {time.monotonic() - started:.3f} s")
    equal(reg("rip"), 0xFFFFFFF0, "the reset vector")
    equal(state(), beginning, "the state as it began")
    run("kill")


script(main)
