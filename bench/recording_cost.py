#!/usr/bin/env python3
"""What recording costs: the same boot with and without -record, in turn: CPU time, its ratio, and the size of the file.

usage: recording_cost.py [--rounds N] [--pieces N] [--disk] [--check] VELLUM

The guest is Debian's kernel with a busybox that computes for some seconds (--pieces says how much) and switches the machine off; with
--disk it is a Debian system with systemd, from its disk image up to its login prompt (made by root the first time: cache/guests/debian).
The time is the CPU's that the program used in its own code, so that a busy host disturbs little. --check: exit status 1 where a limit
is passed.
"""
import argparse
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import debugger_cost

sys.path += debugger_cost.PATHS

import debian  # noqa: E402
import guests  # noqa: E402

# One piece of it is what debugger_cost.py's guest repeats for ever.
WORK = """#!/bin/busybox sh
B=/bin/busybox
n=0
while [ $n -lt {pieces} ]; do
  n=$((n+1))
  i=0; while [ $i -lt 2000 ]; do i=$((i+1)); done
  $B dd if=/dev/zero bs=64k count=32 2>/dev/null | $B md5sum >/dev/null
done
echo WORK-DONE
$B poweroff -f
"""
PATIENCE = 600  # seconds for one run; it ends only what hangs
MOST_RATIO, MOST_BYTES = 1.20, 10_000_000


def run(vellum, options, directory, told, switches_off):
    """CPU seconds of the program's own code until the guest has told `told` over its serial line, and has switched the machine off or,
    where it does not do so, was ended."""
    serial, errors = pathlib.Path(directory, "serial.txt"), pathlib.Path(directory, "errors.txt")
    serial.write_bytes(b"")
    with open(errors, "wb") as error_file:
        machine = subprocess.Popen([vellum, "-display", "none", "-monitor", "none", "-serial", f"file:{serial}", "-no-reboot", *options],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=error_file)
    deadline = time.monotonic() + PATIENCE
    ended, late, ending = 0, False, False
    while ended == 0:
        ended, status, usage = os.wait4(machine.pid, os.WNOHANG)
        if ended != 0:
            break
        if time.monotonic() > deadline and not late:
            late = True
            machine.kill()
        elif not switches_off and not ending and told in serial.read_bytes():
            ending = True
            machine.send_signal(signal.SIGTERM)
        time.sleep(0.02)
    machine.returncode = os.waitstatus_to_exitcode(status)
    text = serial.read_bytes()
    if late:
        sys.exit(f"recording_cost.py: the guest had not ended after {PATIENCE} s; its serial line ends with {text[-500:]}")
    if machine.returncode != 0 or told not in text:
        sys.exit(f"recording_cost.py: the machine ended with status {machine.returncode}; it said {errors.read_bytes()[-500:]}, and its serial line ends with {text[-500:]}")
    return usage.ru_utime


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=debugger_cost.positive, default=5)
    parser.add_argument("--pieces", type=debugger_cost.positive, default=100, help="of work, without --disk (default: %(default)s)")
    parser.add_argument("--disk", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("vellum")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        if arguments.disk:
            guest = ["-m", "512", "-hda", str(guests.debian_system() / "disk.img"), "-snapshot"]
            told, switches_off = b"vellum login: ", False
        else:
            initrd = debugger_cost.work_initrd(directory, WORK.format(pieces=arguments.pieces).encode())
            guest = ["-m", "256", "-kernel", str(guests.kernel64()), "-initrd", initrd, "-append", "console=ttyS0 nokaslr quiet rdinit=/work"]
            told, switches_off = b"WORK-DONE", True
        recording = f"{directory}/recording"
        times = {"plain": [], "recorded": []}
        size = 0
        for _ in range(arguments.rounds):
            for name, options in (("plain", []), ("recorded", ["-record", recording])):
                times[name].append(run(arguments.vellum, [*guest, *options], directory, told, switches_off))
            size = max(size, os.path.getsize(recording))
            print(f"plain {times['plain'][-1]:6.2f} s, recorded {times['recorded'][-1]:6.2f} s", flush=True)
        medians = {name: statistics.median(values) for name, values in times.items()}
        leasts = {name: min(values) for name, values in times.items()}
        ratio = medians["recorded"] / medians["plain"]
        print(f"medians: {medians['plain']:.2f} s and {medians['recorded']:.2f} s, ratio {ratio:.3f} (limit {MOST_RATIO:.2f})")
        print(f"least:   {leasts['plain']:.2f} s and {leasts['recorded']:.2f} s, ratio {leasts['recorded'] / leasts['plain']:.3f}")
        print(f"the recording has {size} bytes (limit {MOST_BYTES})")
    sys.exit(1 if arguments.check and (ratio > MOST_RATIO or size > MOST_BYTES) else 0)


if __name__ == "__main__":
    try:
        main()
    except debian.Unavailable as reason:
        print(f"skipped: {reason}")
        sys.exit(77)
