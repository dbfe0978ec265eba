#!/usr/bin/env python3
"""Sound through SDL while the guest keeps its CPU and its screen at full load: a tone without a gap.

usage: sound_test.py VELLUM

SDL's "disk" driver stands for a sound card: it takes samples on a thread of its own and writes them to a file. It waits for whole
milliseconds between its pieces of 10.67, so on a quiet host it is 5 % faster than a sound card may be, more than playback follows:
each gap makes the buffer larger, and the next one comes later.
"""
import array
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

from display_bench import Machine, assemble, skip, wait_for

VELLUM = os.path.abspath(sys.argv[1])
RATE = 48000
SECONDS = 3


class Sound(unittest.TestCase):
    def test_no_gap_at_full_load(self):
        with tempfile.TemporaryDirectory() as name:
            path = pathlib.Path(name)
            samples = path / "samples"
            environment = dict(os.environ, SDL_AUDIODRIVER="disk", SDL_DISKAUDIOFILE=str(samples))
            machine = Machine(VELLUM, path, "-display", "none", "-audiodev", "sdl", "-fda", assemble("tone", path), "-boot", "a", environment=environment)
            try:
                # Another program may keep this host's processors from ours for longer than any buffer lasts, so some stretch of the time
                # counts. A machine that neglects its sound while the guest works never has one.
                stretch = wait_for(f"{SECONDS} seconds of the tone without a gap", lambda: self.longest_tone(samples))
            finally:
                machine.end()
        crossings = sum((before < 0) != (after < 0) for before, after in zip(stretch, stretch[1:]))
        # Playback runs up to one percent faster or slower, to stay with the card's clock.
        self.assertAlmostEqual(crossings / 2 / (len(stretch) / RATE), 1000, delta=20)

    def longest_tone(self, path):
        """A square wave's samples never stay small for two milliseconds. The longest stretch of it, if it is long enough."""
        data = path.read_bytes() if path.exists() else b""
        left = array.array("h", data[:len(data) & ~3])[::2]
        peak = max(left, default=0)
        if peak < 1000:
            return None
        best, start, last = (0, 0), None, None
        for at, value in enumerate(left):
            if abs(value) * 2 < peak:
                continue
            if last is None or at - last > RATE * 2 // 1000:
                start = at
            last = at
            if last - start > best[1] - best[0]:
                best = (start, last)
        return left[best[0]:best[1]] if best[1] - best[0] >= SECONDS * RATE else None


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        probe = subprocess.run([VELLUM, "-display", "none", "-audiodev", "sdl", "-monitor", "stdio"], input="quit\n", capture_output=True, text=True, timeout=60,
                               cwd=directory, env=dict(os.environ, SDL_AUDIODRIVER="disk"))
    if probe.returncode:
        skip(f"no sound through SDL's disk driver: {probe.stderr.strip()}")
    del sys.argv[1]
    unittest.main()
