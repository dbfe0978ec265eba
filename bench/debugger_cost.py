#!/usr/bin/env python3
"""What a debugger costs: one guest that does the same work again and again, with and without a debugger in turn.

usage: debugger_cost.py [--rounds N] [--check] VELLUM

The guest is Debian's kernel with a busybox that computes, forks and copies, and sends a character over its serial line behind each
piece of this work. A client of the gdb server comes and goes meanwhile, in one process of Vellum, so that nothing else differs:
memory's layout, which code is translated, the place in the guest's program. Each round measures, in an order that turns from round to
round, the CPU time of so many pieces
  - without a client,
  - with one that has set nothing,
  - with a hardware breakpoint in a function that is never called (panic),
  - with a watchpoint on a page that is seldom touched (the kernel's banner).
What counts is the median over all rounds of the ratio to the same round's time without a client, and the interval in which it lies
with a confidence of 95 % (by order statistics, which assume nothing of how the ratios are distributed). A limit is kept where all of
the interval lies below it. --check: exit status 1 where one is not.
"""
import argparse
import math
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
PATHS = [str(HERE.parent / "tools"), str(HERE.parent / "tests" / "boot")]
sys.path += PATHS

import debian  # noqa: E402
import guests  # noqa: E402
import initramfs  # noqa: E402

WORK = b"""#!/bin/busybox sh
B=/bin/busybox
while :; do
  i=0; while [ $i -lt 2000 ]; do i=$((i+1)); done
  $B dd if=/dev/zero bs=64k count=32 2>/dev/null | $B md5sum >/dev/null
  echo -n '#'
done
"""
MARK = b"#"
WARM_UP, SKIPPED, PIECES = 60, 2, 6  # pieces of work before the first round, behind each change, and measured
LIMITS = {"attached, nothing set": 1.02, "a breakpoint in panic": 1.02, "a watchpoint on linux_banner": 1.05}
CONFIDENCE = 0.95


def work_initrd(directory, work=WORK):
    """An initial RAM disk that does `work`."""
    debian.extract("busybox-static", directory, ["./bin/busybox"], "amd64")
    initrd = f"{directory}/initrd.gz"
    initramfs.busybox(initrd, f"{directory}/bin/busybox", [("work", work, 0o755)])
    return initrd


class Client:
    """A client of the gdb server that sets something, lets the machine go on, and leaves ("Debugging with GDB", appendix E)."""

    def __init__(self, path, packet=None):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        self.socket.connect(path)
        self.ask("qSupported:swbreak+;hwbreak+")
        self.ask("?")
        if packet:
            answer = self.ask(packet)
            if answer != b"OK":
                sys.exit(f"'{packet}' is answered by {answer}")
        self.send("vCont;c")

    def send(self, packet):
        self.socket.sendall(f"${packet}#{sum(packet.encode()) & 0xff:02x}".encode())

    def ask(self, packet):
        self.send(packet)
        data = b""
        while not (len(data) > 3 and data[-3:-2] == b"#"):
            data += self.socket.recv(65536)
        self.socket.sendall(b"+")
        return data[data.index(b"$") + 1:-3]

    def close(self):
        self.socket.close()  # breakpoints go with their client


class Guest:
    def __init__(self, vellum, initrd, directory):
        self.gdb, serial = f"{directory}/gdb.sock", f"{directory}/serial.sock"
        self.process = subprocess.Popen([vellum, "-display", "none", "-monitor", "none", "-serial", f"unix:{serial},server", "-gdb", f"unix:{self.gdb}", "-m", "256", "-kernel",
                                         str(guests.kernel64()), "-initrd", initrd, "-append", "console=ttyS0 quiet nokaslr rdinit=/work"],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not os.path.exists(serial):
            if self.process.poll() is not None:
                sys.exit(f"the machine ended with status {self.process.returncode}")
            time.sleep(0.05)
        self.serial = socket.socket(socket.AF_UNIX)
        self.serial.settimeout(600)
        self.serial.connect(serial)
        # CPU time of all threads of another process: clock_getcpuclockid(3).
        self.clock = (~self.process.pid << 3) | 2

    def await_marks(self, count):
        while count > 0:
            data = self.serial.recv(1)
            if not data:
                sys.exit("the guest is gone")
            count -= data == MARK

    def measure(self):
        """CPU seconds of PIECES."""
        self.await_marks(SKIPPED)
        start = time.clock_gettime(self.clock)
        self.await_marks(PIECES)
        return time.clock_gettime(self.clock) - start

    def end(self):
        self.process.kill()
        self.process.wait()


def positive(text):
    """A number of rounds or pieces of work."""
    if int(text) < 1:
        raise ValueError
    return int(text)


def interval(values):
    """Where the median lies with CONFIDENCE, from the sorted values: the binomial distribution with p = 1/2."""
    count = len(values)
    below, rank = 0.0, 0
    while rank < count // 2:
        below += math.comb(count, rank) / 2 ** count
        if below > (1 - CONFIDENCE) / 2:
            break
        rank += 1
    ordered = sorted(values)
    return ordered[max(rank - 1, 0)], ordered[count - max(rank, 1)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=positive, default=350, help="(default: %(default)s, which decide on a quiet host)")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("vellum")
    arguments = parser.parse_args()
    symbols = {}
    for line in subprocess.run(["nm", guests.kernel64_symbols([arguments.vellum])], check=True, capture_output=True, text=True).stdout.splitlines():
        address, _, name = line.split()
        symbols[name] = int(address, 16)
    cases = {"none": None, "attached, nothing set": "", "a breakpoint in panic": f"Z1,{symbols['panic']:x},1",
             "a watchpoint on linux_banner": f"Z2,{symbols['linux_banner']:x},1"}
    times = {name: [] for name in cases}
    with tempfile.TemporaryDirectory() as directory:
        guest = Guest(arguments.vellum, work_initrd(directory), directory)
        try:
            guest.await_marks(WARM_UP)
            order = list(cases)
            for _ in range(arguments.rounds):
                for name in order:
                    client = None if cases[name] is None else Client(guest.gdb, cases[name])
                    times[name].append(guest.measure())
                    if client:
                        client.close()
                order = order[1:] + order[:1]
        finally:
            guest.end()
    none = times["none"]
    spread = statistics.quantiles(none, n=20) if len(none) > 1 else none
    print(f"{arguments.rounds} rounds; without a client {statistics.median(none) * 1000:.0f} ms, nine of ten rounds from {spread[0] * 1000:.0f} to {spread[-1] * 1000:.0f} ms")
    kept = True
    for name, limit in LIMITS.items():
        ratios = [with_client / without for with_client, without in zip(times[name], none)]
        low, high = interval(ratios)
        verdict = "kept" if high <= limit else "passed" if low > limit else "not decided: more rounds, or a quieter host"
        kept = kept and high <= limit
        print(f"{name:<32}{statistics.median(ratios):.3f} of the time without, {low:.3f} to {high:.3f}; limit {limit}: {verdict}")
    sys.exit(1 if arguments.check and not kept else 0)


if __name__ == "__main__":
    try:
        main()
    except debian.Unavailable as reason:
        print(f"skipped: {reason}")
        sys.exit(77)
