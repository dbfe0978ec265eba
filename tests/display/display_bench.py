"""What the display tests share: guests from boot sectors, a machine with a monitor, pictures."""
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path += [str(HERE.parents[1] / "tools"), str(HERE.parent / "boot_sectors")]
import assemble as boot_sectors  # noqa: E402
from png_reader import read_png  # noqa: E402

PATIENCE = 60  # seconds; only a hung program takes so long
SKIPPED = 77   # what meson takes as "skipped"


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(SKIPPED)


def need(*programs):
    for program in programs:
        if not shutil.which(program):
            skip(f"this machine has no {program}")


def assemble(name, directory):
    """A floppy image that boots tests/display/NAME.S."""
    need(*boot_sectors.PROGRAMS)
    return boot_sectors.assemble(HERE / f"{name}.S", directory)[0]


def wait_for(what, condition):
    end = time.monotonic() + PATIENCE
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not come within {PATIENCE} seconds")
        time.sleep(0.1)


class Machine:
    """vellum with a monitor on a socket."""

    def __init__(self, vellum, directory, *arguments, environment=None):
        self.directory = directory
        path = directory / "monitor.sock"
        self.process = subprocess.Popen([vellum, "-m", "16", "-monitor", f"unix:{path},server,nowait", *map(str, arguments)], cwd=directory,
                                        env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.socket = socket.socket(socket.AF_UNIX)
        try:
            wait_for("the monitor", lambda: self.process.poll() is not None or path.exists())
            if self.process.poll() is not None:
                raise AssertionError(f"vellum ended: {self.process.stderr.read()}")
            self.socket.settimeout(PATIENCE)
            self.socket.connect(str(path))
            self._read_prompt()
        except BaseException:
            self._clean_up()
            raise

    def _read_prompt(self):
        text = b""
        while not text.endswith(b"(vellum) "):
            part = self.socket.recv(65536)
            if not part:
                break
            text += part
        return text.decode()

    def monitor(self, line):
        self.socket.sendall(line.encode() + b"\n")
        answer = self._read_prompt().replace("\r", "")
        return answer.split("\n", 1)[1].removesuffix("(vellum) ") if "\n" in answer else answer

    def picture(self):
        path = self.directory / "screen.png"
        answer = self.monitor(f"screendump {path}")
        assert answer == "", answer
        return read_png(path.read_bytes())

    def end(self):
        try:
            if self.process.poll() is None:
                self.socket.sendall(b"quit\n")
                self.process.wait(PATIENCE)
        finally:
            self._clean_up()

    def _clean_up(self):
        self.process.kill()
        self.process.wait()
        self.socket.close()
        self.process.stderr.close()
