#!/usr/bin/env python3
"""What translation does for guests that make code themselves: Node.js and Java compute the same with their compilers and with their
interpreters alone, in a Debian system with systemd, on Vellum and, side by side, on QEMU's TCG.

usage: jits.py [--size N] [--rounds N] [--qemu COMMAND] [--only NAME,...] VELLUM [OPTION...]

OPTIONs go to vellum. Prints for each program the guest's own time and the host's CPU time, of all threads: of its first run, and the least of
the rounds behind that; and what Vellum's -stats said. Needs root the first time, when it makes the guest (cache/guests/jits).
"""
import argparse
import os
import pathlib
import re
import sys
import typing

HERE = pathlib.Path(__file__).resolve().parent
sys.path += [str(HERE.parent / "tools"), str(HERE.parent / "tests" / "boot")]

import console  # noqa: E402
import guests  # noqa: E402

PROGRAMS = {
    "node": "node /opt/work.js",
    "node --jitless": "node --jitless /opt/work.js",
    "java": "java -cp /opt Work",
    "java -Xint": "java -Xint -cp /opt Work",
}
PATIENCE = 3600  # seconds for anything; it ends only what hangs


def host_cpu(process):
    """CPU seconds of all threads of a process so far."""
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Result(typing.NamedTuple):
    """Seconds of a program's first run and the least of those behind it."""
    first_guest: float
    first_cpu: float
    guest: float
    cpu: float
    checksum: str


def measure(command, chosen, size, rounds):
    """CPU seconds of the boot, a Result per program, and what the emulator said when it ended."""
    results = {}
    with console.Machine(*command, "-m", "1G", "-hda", guests.jit_system() / "disk.img", "-snapshot", "-no-reboot") as m:
        m.expect(r"vellum login: ", timeout=PATIENCE)
        boot = host_cpu(m.process)
        m.send("root\n")
        m.expect(r"Password: ", timeout=PATIENCE)
        m.send("vellum\n")
        m.expect(r"root@vellum:~# ", timeout=PATIENCE)
        m.command("systemctl is-system-running --wait; TIMEFORMAT='seconds %R %U %S'", timeout=PATIENCE)
        for name in chosen:
            times = []
            for _ in range(1 + rounds):
                before = host_cpu(m.process)
                output = m.command(f"time {PROGRAMS[name]} {size}", timeout=PATIENCE)
                spent = host_cpu(m.process) - before
                checksum, elapsed = re.search(r"checksum (\d+)", output), re.search(r"seconds ([\d.]+)", output)
                if not checksum or not elapsed:
                    raise console.Failure(f"{name}: {output}")
                times.append((float(elapsed[1]), spent))
            later = times[1:] or times
            results[name] = Result(*times[0], min(guest for guest, _ in later), min(cpu for _, cpu in later), checksum[1])
            print(f"  {name}: {results[name]}", file=sys.stderr, flush=True)
        m.send("poweroff\n")
        m.wait(PATIENCE)
        return boot, results, m.serial.replace("\r", "").rpartition("Power down")[2]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=3, help="of the work")
    parser.add_argument("--rounds", type=int, default=1, help="behind the first; 0: the first counts")
    parser.add_argument("--qemu", help="for instance qemu-system-x86_64")
    parser.add_argument("--only", default=",".join(PROGRAMS))
    parser.add_argument("vellum")
    options, vellum_options = parser.parse_known_args()
    chosen = options.only.split(",")
    boot, ours, end = measure([options.vellum, "-stats", *vellum_options], chosen, options.size, options.rounds)
    print(end.strip())
    print(f"\nboot to the login: Vellum {boot:.1f} s CPU", end="")
    theirs, status = {}, 0
    if options.qemu:
        boot, theirs, _ = measure([options.qemu, "-accel", "tcg", "-cpu", "max"], chosen, options.size, options.rounds)
        print(f", QEMU {boot:.1f}", end="")
    print("\n\n| program | emulator | first run, guest s | CPU s | later, guest s | CPU s |\n|---|---|---|---|---|---|")
    for name, our in ours.items():
        for emulator, result in ("Vellum", our), ("QEMU", theirs.get(name)):
            if result:
                print(f"| {name} | {emulator} | {result.first_guest:.2f} | {result.first_cpu:.2f} | {result.guest:.2f} | {result.cpu:.2f} |")
        if name in theirs:
            their = theirs[name]
            print(f"| {name} | QEMU ÷ Vellum | {their.first_guest / our.first_guest:.2f} | {their.first_cpu / our.first_cpu:.2f} | "
                  f"{their.guest / our.guest:.2f} | {their.cpu / our.cpu:.2f} |")
            if their.checksum != our.checksum:
                print(f"{name}: the checksums differ: {our.checksum} and {their.checksum}")
                status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
