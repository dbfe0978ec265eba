"""A running vellum under test: its serial line, its monitor, its text screen."""
import os
import pathlib
import re
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))

import debian  # noqa: E402
from png_reader import read_png  # noqa: E402


class Failure(Exception):
    """The guest did not do what the test expects; the message shows what it printed last."""


class Machine:
    """Starts vellum with the serial line on pipes and the monitor on a socket. Use it in a with statement."""

    def __init__(self, vellum, *arguments, speed=1.0):
        self._directory = tempfile.TemporaryDirectory(prefix="vellum-boot-")
        self._socket_path = os.path.join(self._directory.name, "monitor")
        self._command = [vellum, "-display", "none", "-serial", "stdio",
                         "-monitor", f"unix:{self._socket_path},server,nowait", *map(str, arguments)]
        self._speed = speed
        self.serial = ""
        self._position = 0  # up to where expect() has read
        self._monitor = None

    def __enter__(self):
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         stderr=subprocess.STDOUT)
        os.set_blocking(self._process.stdout.fileno(), False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._process.stdout, selectors.EVENT_READ)
        return self

    def __exit__(self, *_):
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()
        if self._monitor:
            self._monitor.close()
        self._directory.cleanup()

    @property
    def process(self):
        return self._process

    # ---- Serial line

    def _read(self, seconds):
        """Collects output for at most this long; returns False at its end."""
        if not self._selector.select(max(0, seconds)):
            return True
        data = self._process.stdout.read()
        if data is None:
            return True
        self.serial += data.decode("utf-8", "replace")
        return bool(data)

    def expect(self, *patterns, timeout):
        """Waits until one of the regular expressions matches what came since the last match; returns its index."""
        deadline = time.monotonic() + timeout * self._speed
        while True:
            for index, pattern in enumerate(patterns):
                match = re.compile(pattern, re.MULTILINE).search(self.serial, self._position)
                if match:
                    self._position = match.end()
                    self.match = match
                    return index
            left = deadline - time.monotonic()
            if left <= 0:
                raise Failure(f"{' or '.join(patterns)} did not come within {timeout * self._speed:.0f} s.\n{self.describe()}")
            if not self._read(left):
                raise self._ended(" or ".join(patterns))

    def _ended(self, awaited):
        """The exception for a vellum that ended too soon; the test is skipped where this build lacks what it needs."""
        status = self._process.wait()
        lacking = re.search(r"^vellum: .*\bmade without .*", self.serial, re.MULTILINE)
        if status and lacking:
            return debian.Unavailable(lacking[0].strip())
        return Failure(f"vellum ended with status {status} before {awaited}.\n{self.describe()}")

    def send(self, text):
        self._process.stdin.write(text.encode())
        self._process.stdin.flush()

    def command(self, line, timeout=60):
        """Runs a shell command in the guest and returns what it printed. The prompt must be there already."""
        self._count = getattr(self, "_count", 0) + 1
        # The echo of the line contains the mark in two pieces, so that only its output matches.
        self.send(f"{line}; echo MA''RK{self._count}=$?\n")
        start = self._position
        self.expect(rf"MARK{self._count}=(\d+)", timeout=timeout)
        # What stands before the echo's end belongs to the prompt.
        output = self.serial[start:self.match.start()].replace("\r", "")
        return output.partition("=$?")[2].partition("\n")[2]

    def wait(self, timeout, status=0):
        """Waits for vellum to end with this status."""
        deadline = time.monotonic() + timeout * self._speed
        while self._read(deadline - time.monotonic()):
            if time.monotonic() >= deadline:
                raise Failure(f"vellum did not end within {timeout * self._speed:.0f} s.\n{self.describe()}")
        ended = self._process.wait()
        if ended != status:
            raise Failure(f"vellum ended with status {ended}, not {status}.\n{self.describe()}")

    # ---- Monitor and screen

    def monitor(self, line, timeout=60):
        """Runs a monitor command and returns its output."""
        if not self._monitor:
            self._monitor = socket.socket(socket.AF_UNIX)
            deadline = time.monotonic() + 10
            while True:
                try:
                    self._monitor.connect(self._socket_path)
                    break
                except OSError:
                    if not self._read(0):
                        raise self._ended("its monitor could be reached")
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.05)
            self._monitor_until_prompt(timeout)
        self._monitor.sendall(line.encode() + b"\n")
        text = self._monitor_until_prompt(timeout)
        return text.replace("\r", "").partition("\n")[2]

    def _monitor_until_prompt(self, timeout):
        # The guest's output must be taken meanwhile, or vellum may wait for us.
        self._monitor.settimeout(0.05)
        text = ""
        deadline = time.monotonic() + timeout * self._speed
        while not text.endswith("(vellum) "):
            self._read(0)
            if time.monotonic() > deadline:
                raise Failure(f"the monitor did not answer; it said {text!r}")
            try:
                data = self._monitor.recv(65536)
            except TimeoutError:
                continue
            if not data:
                raise Failure(f"the monitor went away; it said {text!r}")
            text += data.decode("utf-8", "replace")
        return text[:-len("(vellum) ")]

    def screen(self):
        """The text screen as lines; none in a graphics mode."""
        return self.monitor("info screen").splitlines()

    def expect_screen(self, pattern, timeout):
        deadline = time.monotonic() + timeout * self._speed
        while True:
            text = "\n".join(self.screen())
            match = re.search(pattern, text, re.MULTILINE)
            if match:
                return match
            if time.monotonic() > deadline:
                raise Failure(f"{pattern} did not appear on the screen within {timeout * self._speed:.0f} s.\n{self.describe()}")
            if not self._read(0.2):
                raise Failure(f"vellum ended with status {self._process.wait()}.\n{self.describe()}")

    def picture(self, keep=None):
        """What the screen shows, as a picture; also written to the file `keep`."""
        path = os.path.join(self._directory.name, "screen.png")
        answer = self.monitor(f"screendump {path}")
        if answer:
            raise Failure(f"screendump: {answer}")
        data = pathlib.Path(path).read_bytes()
        if keep:
            pathlib.Path(keep).write_bytes(data)
        return read_png(data)

    def expect_picture(self, what, condition, timeout, keep=None):
        """Waits for a picture that `condition` accepts and that does not change for a while."""
        deadline = time.monotonic() + timeout * self._speed
        before = None
        while True:
            picture = self.picture(keep)
            if condition(picture) and before is not None and picture.rows == before.rows:
                return picture
            before = picture
            if time.monotonic() > deadline:
                raise Failure(f"{what} did not appear on the screen within {timeout * self._speed:.0f} s; it has {picture.width}x{picture.height} pixels.\n{self.describe()}")
            if not self._read(0.5):
                raise Failure(f"vellum ended with status {self._process.wait()}.\n{self.describe()}")

    def keys(self, *names):
        for name in names:
            self.monitor(f"sendkey {name}")
            time.sleep(0.02)  # fifty keys a second: faster than anybody types

    def type(self, text):
        """Types text on the PC's keyboard (US layout)."""
        named = {" ": "spc", "\n": "ret", "-": "minus", "=": "equal", "/": "slash", ".": "dot", ",": "comma",
                 ";": "semicolon", "'": "apostrophe", "_": "shift-minus", ":": "shift-semicolon", "(": "shift-9",
                 ")": "shift-0", '"': "shift-apostrophe", "$": "shift-4", "*": "shift-8", "+": "shift-equal", ">": "shift-dot", "|": "shift-backslash"}
        self.keys(*(named.get(c) or (f"shift-{c.lower()}" if c.isupper() else c) for c in text))

    def describe(self):
        tail = "\n".join(f"  | {line}" for line in self.serial.replace("\r", "").splitlines()[-40:])
        text = f"The serial line ended with:\n{tail}"
        if self._process.poll() is None:
            try:
                rows = [line for line in self.screen() if line]
                text += "\nThe screen:\n" + "\n".join(f"  | {line}" for line in rows[-25:])
                text += "\nRegisters:\n" + self.monitor("info registers")
            except (Failure, OSError) as error:
                text += f"\n(no screen: {error})"
        return text
