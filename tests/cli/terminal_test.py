#!/usr/bin/env python3
"""The terminal and the ways to end: raw mode, the Ctrl-A keys, Ctrl-C, SIGTERM, a closed terminal.

usage: terminal_test.py VELLUM
"""
import os
import pathlib
import pty
import select
import signal
import subprocess
import sys
import tempfile
import termios
import time
import unittest

VELLUM = os.path.abspath(sys.argv[1])
PATIENCE = 60  # seconds; only a hung program takes so long
# Under nohup, or from a shell that ignores them, the program would inherit the ignored signals that this test sends.
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_DFL)


class Terminal:
    """vellum on a pseudo-terminal, with the slave side kept open to look at its modes."""

    def __init__(self, *arguments):
        self.master, self.slave = pty.openpty()
        self.before = termios.tcgetattr(self.slave)
        self.text = b""

        def become_foreground():
            os.setsid()
            import fcntl
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen([VELLUM, "-m", "16", *arguments], stdin=self.slave, stdout=self.slave, stderr=self.slave,
                                        preexec_fn=become_foreground)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for descriptor in (self.master, self.slave):
            if descriptor >= 0:
                os.close(descriptor)

    def expect(self, what):
        deadline = time.monotonic() + PATIENCE
        while what not in self.text:
            if time.monotonic() > deadline:
                raise AssertionError(f"{what!r} did not come; there came {self.text[-500:]!r}")
            if select.select([self.master], [], [], 0.2)[0]:
                self.text += os.read(self.master, 4096)

    def type(self, keys):
        os.write(self.master, keys)

    def status(self):
        deadline = time.monotonic() + PATIENCE
        while self.process.poll() is None:
            if time.monotonic() > deadline:
                raise AssertionError(f"vellum did not end; there came {self.text[-500:]!r}")
            if select.select([self.master], [], [], 0.1)[0]:
                self.text += os.read(self.master, 4096)
        return self.process.returncode

    def wait_until_raw(self):
        deadline = time.monotonic() + PATIENCE
        while termios.tcgetattr(self.slave)[3] & termios.ICANON:
            if time.monotonic() > deadline:
                raise AssertionError("the terminal did not become raw")
            time.sleep(0.02)


class Ways(unittest.TestCase):
    def check_restored(self, terminal):
        self.assertEqual(termios.tcgetattr(terminal.slave), terminal.before)

    def test_ctrl_a_x_ends_and_restores_the_terminal(self):
        with Terminal("-nographic") as t:
            t.expect(b"SeaBIOS")
            self.assertFalse(termios.tcgetattr(t.slave)[3] & termios.ISIG, "Ctrl-C would not go to the guest")
            t.type(b"\x01x")
            self.assertEqual(t.status(), 0)
            self.check_restored(t)

    def test_the_monitor_shares_the_terminal(self):
        with Terminal("-nographic", "-S") as t:
            t.wait_until_raw()
            t.type(b"\x01c")
            t.expect(b"(vellum) ")
            t.type(b"info status\r")
            t.expect(b"VM status: paused")
            t.type(b"quit\r")
            self.assertEqual(t.status(), 0)
            self.check_restored(t)

    def test_ctrl_c_ends_it_when_the_terminal_is_only_a_serial_line(self):
        with Terminal("-display", "none", "-serial", "stdio") as t:
            t.wait_until_raw()
            t.type(b"\x03")
            self.assertEqual(t.status(), 0)
            self.check_restored(t)

    def test_sigterm_ends_it_cleanly(self):
        with Terminal("-nographic") as t:
            t.wait_until_raw()
            t.process.send_signal(signal.SIGTERM)
            self.assertEqual(t.status(), 0)
            self.check_restored(t)

    def test_sigterm_ends_it_while_stopped(self):
        with Terminal("-nographic", "-S") as t:
            t.wait_until_raw()
            t.process.send_signal(signal.SIGTERM)
            self.assertEqual(t.status(), 0)

    def test_a_fatal_signal_restores_the_terminal(self):
        with Terminal("-nographic", "-S") as t:
            t.wait_until_raw()
            t.process.send_signal(signal.SIGABRT)
            self.assertEqual(t.status(), -signal.SIGABRT)
            self.check_restored(t)

    def test_a_closed_terminal_ends_it(self):
        with Terminal("-nographic") as t:
            t.expect(b"SeaBIOS")
            os.close(t.slave)
            os.close(t.master)
            t.master = t.slave = -1
            self.assertEqual(t.process.wait(PATIENCE), 0)

    def test_standard_input_that_has_ended_is_no_reason_to_end(self):
        process = subprocess.Popen([VELLUM, "-m", "16", "-nographic"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.DEVNULL)
        self.assertIn(b"SeaBIOS", process.stdout.readline() + process.stdout.readline())
        self.assertIsNone(process.poll())
        process.terminate()
        process.stdout.read()
        self.assertEqual(process.wait(PATIENCE), 0)
        process.stdout.close()

    def test_an_error_leaves_the_terminal_as_it_is(self):
        with Terminal("-nographic", "-hda", "/nonexistent") as t:
            self.assertEqual(t.status(), 1)
            self.check_restored(t)


class Memory(unittest.TestCase):
    def test_64_gib_cost_nothing_until_touched(self):
        with tempfile.TemporaryDirectory() as directory:
            path = f"{directory}/monitor"
            process = subprocess.Popen([VELLUM, "-m", "64G", "-display", "none", "-S", "-monitor", f"unix:{path},server,nowait"])
            try:
                deadline = time.monotonic() + PATIENCE
                while not os.path.exists(path) and time.monotonic() < deadline:
                    time.sleep(0.02)
                resident = int(pathlib.Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
            finally:
                process.terminate()
                process.wait(PATIENCE)
        self.assertLess(resident, 96 << 20)  # the program, and the large pages of its own tables


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
