#!/usr/bin/env python3
"""What a debugger costs: the same guest with and without one, in turn, and the ratio of the least CPU times.

usage: debugger_cost.py [--rounds N] [--check] VELLUM

Each case's least CPU time of all rounds counts, and the order turns from round to round: what else the host does only adds. --check: exit
status 1 when a limit is passed.

The guest is Debian's kernel with a busybox that computes for some seconds. With gdb attached it runs with nothing set, with
one breakpoint in a function that is never called (panic), and with a watchpoint on a page that is seldom touched (the
kernel's banner).
"""
import argparse
import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
PATHS = [str(HERE.parent / "tools"), str(HERE.parent / "tests" / "boot")]
sys.path += PATHS

import debian  # noqa: E402
import guests  # noqa: E402
import initramfs  # noqa: E402

WORK = b"""#!/bin/busybox sh
B=/bin/busybox
$B mkdir -p /proc
$B mount -t proc proc /proc
i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done
$B dd if=/dev/zero bs=1M count=96 2>/dev/null | $B md5sum
$B dd if=/dev/zero bs=1M count=48 2>/dev/null | $B sha256sum
$B dd if=/dev/zero bs=1M count=24 2>/dev/null | $B gzip -c | $B wc -c
$B poweroff -f
"""
CASES = {
    "none": None,
    "attached, nothing set": [],
    "a breakpoint in panic": ["hbreak *&panic"],
    "a watchpoint on linux_banner": ["watch *(char*)&linux_banner"],
}
LIMITS = dict(zip(CASES, (1, 1.02, 1.02, 1.05)))


def work_initrd(directory):
    """An initial RAM disk that does WORK."""
    debian.extract("busybox-static", directory, ["./bin/busybox"], "amd64")
    initrd = f"{directory}/initrd.gz"
    initramfs.busybox(initrd, f"{directory}/bin/busybox", [("work", WORK, 0o755)])
    return initrd


def run(vellum, initrd, symbols, commands, directory):
    """CPU seconds of the machine."""
    options = [vellum, "-display", "none", "-monitor", "none", "-serial", "null", "-m", "256", "-kernel", str(guests.kernel64()), "-initrd", initrd,
               "-append", "nokaslr quiet rdinit=/work"]
    socket = f"{directory}/gdb.sock"
    if commands is not None:
        options += ["-S", "-gdb", f"unix:{socket}"]
    machine = subprocess.Popen(options, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    debugger = None
    if commands is not None:
        while not os.path.exists(socket):
            os.sched_yield()
        script = ["set pagination off", "set osabi none", "set architecture i386:x86-64", f"symbol-file {symbols}", f"target remote {socket}", *commands, "continue"]
        debugger = subprocess.Popen(["gdb", "-nx", "-batch", *sum((["-ex", command] for command in script), [])], stdin=subprocess.DEVNULL,
                                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(machine.pid, 0)
    machine.returncode = os.waitstatus_to_exitcode(status)
    if debugger:
        debugger.wait(20)
    if machine.returncode != 0:
        sys.exit(f"the machine ended with status {machine.returncode}")
    return usage.ru_utime + usage.ru_stime


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("vellum")
    arguments = parser.parse_args()
    symbols = guests.kernel64_symbols([arguments.vellum])
    with tempfile.TemporaryDirectory() as directory:
        initrd = work_initrd(directory)
        times = {name: [] for name in CASES}
        order = list(CASES)
        for _ in range(arguments.rounds):
            for name in order:
                if os.path.exists(f"{directory}/gdb.sock"):
                    os.unlink(f"{directory}/gdb.sock")
                times[name].append(run(arguments.vellum, initrd, symbols, CASES[name], directory))
            print("  ".join(f"{name}: {seconds[-1]:.2f} s" for name, seconds in times.items()), flush=True)
            order = order[1:] + order[:1]
    passed = False
    for name in CASES:
        ratio = min(times[name]) / min(times["none"])
        passed = passed or ratio > LIMITS[name]
        print(f"{name:<32}{min(times[name]):8.2f} s  {ratio:.3f} of the time without (limit {LIMITS[name]})")
    sys.exit(1 if arguments.check and passed else 0)


if __name__ == "__main__":
    main()
