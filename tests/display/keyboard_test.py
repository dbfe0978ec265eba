#!/usr/bin/env python3
"""Keys that come faster than a keyboard can send them: a guest gets each press and each release, in order.

usage: keyboard_test.py VELLUM
"""
import os
import pathlib
import sys
import tempfile
import unittest

from display_bench import Machine, assemble, wait_for

VELLUM = os.path.abspath(sys.argv[1])
# Scan codes of set 1 by their keys' places (IBM PS/2 Hardware Interface Technical Reference).
CODES = {letter: 0x10 + i for i, letter in enumerate("qwertyuiop")} | {letter: 0x1e + i for i, letter in enumerate("asdfghjkl")}


def byte_of(pixel):
    """What picture.S shows as a byte: six bits of a component are spread over eight."""
    return pixel[0] >> 2 << 2 | pixel[1] >> 6


class Keyboard(unittest.TestCase):
    def keyboard_bytes(self, machine):
        picture = machine.picture()
        values = [byte_of(picture[2 * (i % 320), 2 * (170 + i // 320)]) for i in range(960)]
        while values and values[-1] == 0:
            values.pop()
        return values

    def check(self, *options):
        text = "the quick fox jumps over the lazy dog as they sat idle".translate({ord(c): None for c in " zxcvbnm"})
        with tempfile.TemporaryDirectory() as name:
            path = pathlib.Path(name)
            machine = Machine(VELLUM, path, "-display", "none", "-fda", assemble("picture", path), "-boot", "a", *options)
            try:
                # The mouse's answer to "report" is the guest's last preparation.
                wait_for("the guest", lambda: machine.picture().height == 400 and byte_of(machine.picture()[0, 360]) == 0xfa)
                before = len(self.keyboard_bytes(machine))
                lines = "".join(f"sendkey shift-{key}\n" for key in text)
                machine.socket.sendall(lines.encode())
                answer = b""
                while answer.count(b"(vellum) ") < len(text):
                    answer += machine.socket.recv(65536)
                expected = [byte for key in text for byte in (0x2a, CODES[key], CODES[key] | 0x80, 0xaa)]
                wait_for("all of it", lambda: len(self.keyboard_bytes(machine)) >= before + len(expected))
                self.assertEqual(self.keyboard_bytes(machine)[before:], expected)
            finally:
                machine.end()

    def test_a_burst_arrives_whole(self):
        self.check()

    def test_and_in_a_run_that_is_recorded(self):
        self.check("-record", "keys.rec")


if __name__ == "__main__":
    del sys.argv[1]
    unittest.main()
