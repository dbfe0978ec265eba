#!/usr/bin/env python3
"""Frames a second of a guest that draws all of 1024x768x32 anew as fast as it can, and what showing them costs the host.

usage: run.py VELLUM [--seconds N] [--qemu PROGRAM] [--only WORD]

Each row: how the screen is shown; frames a second that the guest draws (the display shows at most 60 of them); of vellum, the
host's CPU time that the display's own threads take, and that the machine's thread spends on making frames where `perf` can be
used, in percent of a core. The rows "window" run under Xvfb, without a GPU: SDL draws by the CPU. In the rows "a VNC client" one
takes raw updates as fast as they come: its updates a second and how many whole screens' pixels they had; and, since QEMU has no threads
that do nothing but show, the CPU time of the whole emulator.
"""
import argparse
import os
import pathlib
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "tests/boot_sectors"))
from assemble import assemble  # noqa: E402

TICKS = os.sysconf("SC_CLK_TCK")


def thread_seconds(process, thread):
    fields = pathlib.Path(f"/proc/{process}/task/{thread}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def display_seconds(process):
    """CPU time of the threads that are neither the machine's nor the translator's."""
    total = 0
    for task in pathlib.Path(f"/proc/{process}/task").iterdir():
        if task.name == str(process) or (task / "comm").read_text().startswith("vellum-compiler"):
            continue
        total += thread_seconds(process, task.name)
    return total


def conversion_share(process, directory):
    """Percent of a core that the machine's thread takes for frames, by sampling; None without perf."""
    data = directory / "perf.data"
    start, used = time.monotonic(), thread_seconds(process, process)
    try:
        recorded = subprocess.run(["perf", "record", "-q", "-o", data, "-t", str(process), "--", "sleep", "2"], capture_output=True)
        share = (thread_seconds(process, process) - used) / (time.monotonic() - start)
        report = subprocess.run(["perf", "report", "-i", data, "--stdio", "--no-children", "-F", "overhead,symbol"], capture_output=True, text=True)
    except FileNotFoundError:
        return None
    if recorded.returncode or report.returncode:
        return None
    # The samples are of the thread's time, which on a busy host is not all of a core's.
    return share * sum(float(line.split("%")[0]) for line in report.stdout.splitlines()
               if "%" in line and any(name in line for name in ("VgaRenderer", "SdlWindow", "VncDisplay", "memcmp", "memmove", "memcpy")))


class VncClient(threading.Thread):
    """Asks for the next update as soon as it has one, in the server's own pixels, uncompressed (RFC 6143)."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.path = path
        self.updates, self.pixels, self.size = 0, 0, (1, 1)
        self.buffer = bytearray(1 << 20)

    def take(self, count):
        data = b""
        while len(data) < count:
            part = self.connection.recv(count - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    def skip(self, count):
        while count:
            got = self.connection.recv_into(self.buffer, min(count, len(self.buffer)))
            if not got:
                raise EOFError
            count -= got

    def run(self):
        try:
            self.connection = socket.socket(socket.AF_UNIX)
            self.connection.connect(str(self.path))
            self.take(12)
            self.connection.sendall(b"RFB 003.008\n")
            self.take(self.take(1)[0])
            self.connection.sendall(b"\x01")  # no authentication
            self.take(4)
            self.connection.sendall(b"\x01")  # shared
            self.size = struct.unpack(">HH", self.take(4))
            bytes_a_pixel = self.take(16)[0] // 8
            self.take(struct.unpack(">I", self.take(4))[0])
            raw, desktop_size = 0, -223
            self.connection.sendall(struct.pack(">BxHii", 2, 2, raw, desktop_size))
            incremental = 0
            while True:
                self.connection.sendall(struct.pack(">BBHHHH", 3, incremental, 0, 0, *self.size))
                incremental = 1
                if self.take(1) != b"\0":
                    raise EOFError  # nothing else was asked for
                for _ in range(struct.unpack(">xH", self.take(3))[0]):
                    _, _, width, height, encoding = struct.unpack(">HHHHi", self.take(12))
                    if encoding == desktop_size:
                        self.size, incremental = (width, height), 0
                        continue
                    self.skip(width * height * bytes_a_pixel)
                    self.pixels += width * height
                self.updates += 1
        except (EOFError, OSError):
            pass


def all_seconds(process):
    fields = pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def measure(command, frames, seconds, environment, directory, vnc=None):
    """Frames a second; the share of a core of the display's threads; that of making frames in the machine's thread. With a client at
    the socket `vnc` instead of the last: its updates a second, screens of pixels a second, share of a core of the whole emulator."""
    process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 60
        # The BIOS writes to the same port before.
        while not frames.exists() or not frames.read_bytes().endswith(b"." * 30):
            if time.monotonic() > end or process.poll() is not None:
                return None
            time.sleep(0.1)
        client = VncClient(vnc) if vnc else None
        if client:
            client.start()
        time.sleep(2)  # the translator has done its work
        if client:
            updates, pixels, all_used = client.updates, client.pixels, all_seconds(process.pid)
        start, drawn, used = time.monotonic(), frames.stat().st_size, display_seconds(process.pid)
        time.sleep(seconds)
        drawn, used, passed = frames.stat().st_size - drawn, display_seconds(process.pid) - used, time.monotonic() - start
        if client:
            if not client.is_alive():
                return None
            screens = (client.pixels - pixels) / (client.size[0] * client.size[1])
            return drawn / passed, 100 * used / passed, ((client.updates - updates) / passed, screens / passed, 100 * (all_seconds(process.pid) - all_used) / passed)
        return drawn / passed, 100 * used / passed, conversion_share(process.pid, directory)
    finally:
        process.terminate()
        process.wait()
        frames.unlink(missing_ok=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vellum")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--qemu", help="qemu-system-x86_64, to compare")
    parser.add_argument("--only", default="", help="only the rows that have this word in their names")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        image = assemble(HERE / "animate.S", directory)[0]
        frames = directory / "frames"
        environment, server = dict(os.environ), None
        if shutil.which("Xvfb"):
            readable, writable = os.pipe()
            server = subprocess.Popen(["Xvfb", "-displayfd", str(writable), "-screen", "0", "1280x1024x24", "-nolisten", "tcp"],
                                      pass_fds=[writable], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            os.close(writable)
            with os.fdopen(readable) as pipe:
                environment.update(DISPLAY=":" + pipe.readline().strip(), SDL_VIDEODRIVER="x11")
        rows = [("vellum, no display", [arguments.vellum, "-display", "none", "-debugcon", f"file:{frames}"]),
                ("vellum, VNC server without a client", [arguments.vellum, "-display", f"vnc=unix:{directory}/vnc", "-debugcon", f"file:{frames}"]),
                ("vellum, a VNC client", [arguments.vellum, "-display", f"vnc=unix:{directory}/vnc", "-debugcon", f"file:{frames}"])]
        if server:
            rows.append(("vellum, window", [arguments.vellum, "-display", "sdl", "-debugcon", f"file:{frames}"]))
        if arguments.qemu:
            common = [arguments.qemu, "-accel", "tcg", "-m", "64", "-debugcon", f"file:{frames}"]
            rows.append(("QEMU, no display", [*common, "-display", "none"]))
            rows.append(("QEMU, VNC server without a client", [*common, "-display", f"vnc=unix:{directory}/vnc"]))
            rows.append(("QEMU, a VNC client", [*common, "-display", f"vnc=unix:{directory}/vnc"]))
            if server:
                rows.append(("QEMU, window", [*common, "-display", "sdl"]))
        try:
            for what, command in rows:
                if arguments.only not in what:
                    continue
                result = measure([*command, "-fda", image, "-boot", "a"], frames, arguments.seconds, environment, directory,
                                 directory / "vnc" if what.endswith("a VNC client") else None)
                if not result:
                    print(f"{what:<38} it does not run here")
                    continue
                rate, threads, machine = result
                row = f"{what:<38}{rate:8.0f} frames/s"
                if isinstance(machine, tuple):
                    row += f"   client: {machine[0]:.0f} updates, {machine[1]:.0f} screens/s; emulator {machine[2]:.0f} %"
                    machine = None
                if what.startswith("vellum"):
                    row += f"   display's threads {threads:5.1f} %" + (f", machine's thread {machine:5.1f} %" if machine is not None else "")
                print(row, flush=True)
        finally:
            if server:
                server.terminate()
                server.wait()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
