#!/usr/bin/env python3
"""Runs one debugger test: Debian's gdb, unmodified, on a guest in vellum.

usage: run.py [--engine ENGINE] VELLUM TEST      (run.py --list names the tests)

Exit status 77: skipped, with the reason.
"""
import argparse
import contextlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import threading

HERE = pathlib.Path(__file__).resolve().parent
sys.path += [str(HERE.parents[1] / "tools"), str(HERE.parent / "boot"), str(HERE.parent / "boot_sectors")]

import assemble as boot_sectors  # noqa: E402
import debian  # noqa: E402
import named_tests  # noqa: E402


class Failure(Exception):
    pass


def need(*programs):
    for program in programs:
        if not shutil.which(program):
            raise debian.Unavailable(f"there is no {program}")


def boot_sector(directory, source="boot_sector.S"):
    """A floppy image that begins with this boot sector, and an ELF file with its symbols."""
    need(*boot_sectors.PROGRAMS)
    return boot_sectors.assemble(HERE / source, directory)


@contextlib.contextmanager
def stopped_machine(vellum, options):
    """A stopped machine with these options, that waits for a debugger: the path of its socket, and a function that returns what it said."""
    with tempfile.TemporaryDirectory() as directory:
        socket = f"{directory}/gdb.sock"
        with open(f"{directory}/vellum.txt", "w+") as output:
            def said():
                output.seek(0)
                return output.read()
            machine = subprocess.Popen([*vellum, "-display", "none", "-monitor", f"file:{directory}/monitor.txt", "-S", "-gdb", f"unix:{socket}", *options],
                                       stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
            try:
                for _ in range(200):
                    if os.path.exists(socket) or machine.poll() is not None:
                        break
                    try:
                        machine.wait(0.05)
                    except subprocess.TimeoutExpired:
                        pass
                yield socket, said
            finally:
                if machine.poll() is None:
                    machine.terminate()
                    machine.wait(20)


def with_debugger(vellum, options, command, timeout, input=None):
    """Runs a debugger on such a machine: what it printed. command(socket) is its command line, `input` what is typed."""
    with stopped_machine(vellum, options) as (socket, said):
        try:
            done = subprocess.run(command(socket), env={**os.environ, "VELLUM_GDB": socket, "LC_ALL": "C"}, capture_output=True, text=True, timeout=timeout,
                                  **({"input": input} if input else {"stdin": subprocess.DEVNULL}))
        except subprocess.TimeoutExpired as error:
            raise Failure("".join(part.decode(errors="replace") for part in (error.stdout, error.stderr) if part) + f"\ntimeout\nvellum:\n{said()}")
        return done.returncode, done.stdout + done.stderr, said()


def with_gdb(vellum, script, options, symbols, timeout):
    """Runs the gdb script on a stopped machine with these options."""
    need("gdb")
    load = ["-ex", f"symbol-file {symbols}"] if symbols else []
    status, log, said = with_debugger(vellum, options, lambda _: ["gdb", "-nx", "-q", "-batch", *load, "-x", HERE / script], timeout)
    if status != 0 or "script done" not in log:
        raise Failure(f"gdb:\n{log}\nvellum:\n{said}")


def test_boot_sector(vellum, directory):
    """From the reset vector through SeaBIOS into a boot sector, real to 64-bit mode, every register, many breakpoints."""
    image, elf = boot_sector(directory)
    with_gdb(vellum, "gdb_boot_sector.py", ["-fda", str(image), "-device", "isa-debug-exit", "-serial", "null"], elf, 120)


def test_reverse(vellum, directory):
    """Backwards through the boot sector: to writes, breakpoints, other modes and the beginning, and forwards to the same end."""
    image, elf = boot_sector(directory)
    options = ["-fda", str(image), "-snapshot", "-device", "isa-debug-exit", "-serial", "null", "-clock", "instructions"]
    with_gdb(vellum, "gdb_reverse.py", options, elf, 240)


def test_kernel(vellum, directory):
    """Debian's kernel to start_kernel with symbols, and on into a user process."""
    need("as", "ld")
    import guests
    symbols = guests.kernel64_symbols(vellum)
    options = ["-m", "256", "-kernel", str(guests.kernel64()), "-initrd", str(guests.initrd64()), "-append", "nokaslr console=ttyS0 quiet", "-serial", "null"]
    with_gdb(vellum, "gdb_kernel.py", options, symbols, 240)


def test_grub(vellum, directory):
    """From the reset vector through SeaBIOS, GRUB, and each mode into Debian's kernel and a process, with symbols."""
    need("as", "ld", "grub-mkimage", "mke2fs")
    import guests
    symbols = guests.kernel64_symbols(vellum)
    options = ["-m", "256", "-hda", str(guests.grub_disk_symbols()), "-snapshot", "-serial", "null"]
    with_gdb(vellum, "gdb_grub.py", options, symbols, 240)


def test_steps(vellum, directory):
    """Steps over exceptions and interrupts, which are held or not; Ctrl-C, attaching again, acknowledgements, physical addresses."""
    image, elf = boot_sector(directory, "steps.S")
    with_gdb(vellum, "gdb_steps.py", ["-fda", str(image), "-serial", "null"], elf, 240)


def test_lldb(vellum, directory):
    """Debian's lldb: registers, breakpoints, steps, a watchpoint, memory"""
    need("lldb")
    image, elf = boot_sector(directory)
    commands = lambda socket: ["lldb", "--no-lldbinit", "--batch", *sum((["-o", command] for command in (  # noqa: E731
        f"target create {elf}", f"process connect --plugin gdb-remote unix-connect://{socket}", "register read rip cs", "breakpoint set --address 0x7c00 --hardware", "continue",
        "register read rip", "breakpoint set --name long64 --hardware", "continue", "register read rip efer", "stepi", "stepi", "register read rax", "register write rbx 0x1234",
        "register read rbx", "breakpoint delete --force", "watchpoint set expression -w write -s 8 -- 0x8000", "continue", "memory read --size 8 --format x --count 1 0x8000",
        "memory write --size 8 0x8100 0x1122334455667788", "memory read --size 8 --format x --count 1 0x8100", "disassemble --pc --count 1", "process kill")), [])]
    status, log, said = with_debugger(vellum, ["-fda", str(image), "-device", "isa-debug-exit", "-serial", "null"], commands, 120)
    position = 0
    for pattern in (r"rip = 0x0*fffffff0", r"cs = 0x0*f000", r"rip = 0x0*7c00", r"rip = 0x[0-9a-f]+ ", r"efer = 0x0*500", r"rax = 0x123456789abcdef0", r"rbx = 0x0*1234",
                    r"stop reason = watchpoint", r"0x0*8000: 0x0*1\b", r"0x0*8100: 0x1122334455667788"):
        found = re.compile(pattern).search(log, position)
        if not found:
            raise Failure(f"lldb printed no {pattern!r} from character {position} on:\n{log}\nvellum:\n{said}")
        position = found.end()


def test_machine_interface(vellum, directory):
    """gdb as an editor's debugger drives it: gdb/MI commands and records"""
    need("gdb")
    image, elf = boot_sector(directory)
    exchange = []  # command, what its result and all behind it must have
    def say(command, *patterns):
        exchange.append((command, patterns))
    say("-gdb-set osabi none")
    say(f"-file-symbol-file {elf}", r"\^done")
    say("-gdb-set mi-async off", r"\^done")
    say("-target-select remote {socket}", r"\^connected")
    say("-break-insert -h *0x7c00", r'\^done,bkpt={number="1",type="hw breakpoint"')
    say("-exec-continue", r"\^running", r'\*stopped,reason="breakpoint-hit",disp="keep",bkptno="1",frame={addr="0x0*7c00"')
    say("-data-list-register-names", r'\^done,register-names=\["rax".*"lstar"')
    say("-data-evaluate-expression $cs", r'\^done,value="0"')
    say("-gdb-set architecture i386:x86-64")
    say("-break-insert -t *&long64", r"\^done")
    say("-exec-continue", r'\*stopped,reason="breakpoint-hit"')
    say("-exec-step-instruction", r'\*stopped,reason="end-stepping-range"')
    say("-exec-step-instruction", r'\*stopped,reason="end-stepping-range"')
    say("-data-evaluate-expression $rax", r'\^done,value="1311768467463790320"')
    say("-data-disassemble -s $pc -e $pc+4 -- 0", r'\^done,asm_insns=\[{address="0x0*[0-9a-f]+",func-name="long64"')
    say("-break-watch *(long*)0x8000", r'\^done,wpt={number="3"')
    say("-exec-continue", r'\*stopped,reason="watchpoint-trigger",wpt={number="3".*value={old="0",new="1"}')
    say("-data-read-memory-bytes 0x8000 8", r'\^done,memory=\[{begin="0x0*8000",offset="0x0*0",end="0x0*8008",contents="0100000000000000"}')
    say("-thread-info", r'\^done,threads=\[{id="1".*details="64-bit mode"')
    say("-target-detach", r"\^done")
    say("-gdb-exit", r"\^exit")

    with stopped_machine(vellum, ["-fda", str(image), "-device", "isa-debug-exit", "-serial", "null"]) as (socket, said):
        gdb = subprocess.Popen(["gdb", "-nx", "-q", "--interpreter=mi3"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               env={**os.environ, "LC_ALL": "C"})
        watchdog = threading.Timer(60, gdb.kill)
        watchdog.start()
        log = ""
        try:
            for number, (command, patterns) in enumerate(exchange, 1):
                gdb.stdin.write(f"{number}{command.replace('{socket}', socket)}\n")
                gdb.stdin.flush()
                answer = ""
                wanted = patterns or (r"\^done",)
                while not all(re.search(pattern, answer) for pattern in wanted):
                    line = gdb.stdout.readline()
                    log += line
                    answer += line
                    if not line or "^error" in line:
                        raise Failure(f"{command}: wanted {wanted}\n{log}\nvellum:\n{said()}")
        finally:
            watchdog.cancel()
            gdb.kill()
            gdb.wait()


def run(test, arguments):
    with tempfile.TemporaryDirectory() as directory:
        test([arguments.vellum, *(["-engine", arguments.engine] if arguments.engine else [])], pathlib.Path(directory))


if __name__ == "__main__":
    sys.exit(named_tests.main(globals(), argparse.ArgumentParser(), run, Failure))
