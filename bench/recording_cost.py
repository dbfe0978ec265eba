#!/usr/bin/env python3
"""What recording costs: the same boot with and without -record, in turn: CPU time, its ratio, and the size of the file.

usage: recording_cost.py [--rounds N] VELLUM

The guest is Debian's kernel with a busybox that computes for some seconds. The time is the CPU's that the program used in its own
code, so that a busy host disturbs little.
"""
import argparse
import os
import statistics
import subprocess
import sys
import tempfile

import debugger_cost

sys.path += debugger_cost.PATHS

import guests  # noqa: E402


def run(vellum, initrd, options):
    """CPU seconds of the program's own code, and bytes of the recording."""
    machine = subprocess.Popen([vellum, "-display", "none", "-monitor", "none", "-serial", "null", "-m", "256", "-kernel", str(guests.kernel64()), "-initrd", initrd,
                                "-append", "nokaslr quiet rdinit=/work", *options], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(machine.pid, 0)
    machine.returncode = os.waitstatus_to_exitcode(status)
    if machine.returncode != 0:
        sys.exit(f"the machine ended with status {machine.returncode}")
    return usage.ru_utime


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("vellum")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        initrd = debugger_cost.work_initrd(directory)
        recording = f"{directory}/recording"
        times = {"plain": [], "recorded": []}
        for _ in range(arguments.rounds):
            for name, options in (("plain", []), ("recorded", ["-record", recording])):
                times[name].append(run(arguments.vellum, initrd, options))
            print(f"plain {times['plain'][-1]:6.2f} s, recorded {times['recorded'][-1]:6.2f} s", flush=True)
        medians = {name: statistics.median(values) for name, values in times.items()}
        leasts = {name: min(values) for name, values in times.items()}
        print(f"medians: {medians['plain']:.2f} s and {medians['recorded']:.2f} s, ratio {medians['recorded'] / medians['plain']:.3f}")
        print(f"least:   {leasts['plain']:.2f} s and {leasts['recorded']:.2f} s, ratio {leasts['recorded'] / leasts['plain']:.3f} (limit 1.20)")
        print(f"the recording has {os.path.getsize(recording)} bytes (limit 10 MB)")


if __name__ == "__main__":
    main()
