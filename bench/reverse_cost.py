#!/usr/bin/env python3
"""How long going back takes: ten million instructions at once, and single steps, at several places of a Linux boot.

usage: reverse_cost.py VELLUM

Exit status 1 where a limit is passed: 2 s for ten million instructions, 0.2 s for one. Snapshots take 512 MB of memory at most.
"""
import argparse
import pathlib
import re
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path += [str(HERE.parent / "tools"), str(HERE.parent / "tests" / "boot")]

import console  # noqa: E402
import guests  # noqa: E402

FAR, MOST_FAR, MOST_STEP = 10_000_000, 2.0, 0.2  # instructions, seconds, seconds
PLACES = (200_000_000, 500_000_000, 1_000_000_000)


def count(machine):
    return int(re.search(r"(\d+) instructions", machine.monitor("info clock"))[1])


def timed(machine, command):
    before = count(machine)
    started = time.monotonic()
    answer = machine.monitor(command, timeout=300)
    took = time.monotonic() - started
    return before - count(machine), took, answer


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("vellum")
    arguments = parser.parse_args()
    good = True
    options = ("-m", "256", "-clock", "instructions", "-history", "512M", "-S", "-kernel", guests.kernel64(), "-initrd", guests.initrd64(), "-append", "console=ttyS0 quiet")
    with console.Machine(arguments.vellum, *options) as machine:
        for place in PLACES:
            machine.monitor(f"goto {place}", timeout=300)
            back, took, answer = timed(machine, f"goto {place - FAR}")
            good = good and back == FAR and took <= MOST_FAR
            print(f"at {place:>13,}: {back:>10,} instructions back in {took * 1000:7.1f} ms (limit {MOST_FAR * 1000:.0f})")
            steps = [timed(machine, "reverse-step") for _ in range(20)]
            worst = max(took for _, took, _ in steps)
            good = good and all(back == 1 for back, _, _ in steps) and worst <= MOST_STEP
            print(f"{'':>17}one instruction back, 20 times: {min(t for _, t, _ in steps) * 1000:.1f} to {worst * 1000:.1f} ms (limit {MOST_STEP * 1000:.0f})", flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
