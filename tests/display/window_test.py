#!/usr/bin/env python3
"""The window under a virtual X server: what it shows, keys, mouse, resizing, full screen, hot keys, focus.

usage: window_test.py VELLUM [DRAG_SOURCE]      DRAG_SOURCE: the program made of drag_source.cc
"""
import mmap
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import unittest

from display_bench import Machine, PATIENCE, assemble, need, skip, wait_for

VELLUM = os.path.abspath(sys.argv[1])
DRAG_SOURCE = os.path.abspath(sys.argv[2]) if len(sys.argv) > 2 else None
SCREEN = (1280, 1024)


class Server:
    """Xvfb, whose screen is a file in the format of xwd (X11/XWDFile.h)."""

    def __init__(self, directory):
        readable, writable = os.pipe()
        # It resets itself when the last program has gone, and may then cut off one that is just coming: no resets.
        self.process = subprocess.Popen(["Xvfb", "-displayfd", str(writable), "-screen", "0", f"{SCREEN[0]}x{SCREEN[1]}x24", "-fbdir", directory, "-noreset", "-nolisten", "tcp"],
                                        pass_fds=[writable], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(writable)
        with os.fdopen(readable) as pipe:
            number = pipe.readline().strip()
        if not number:
            skip("Xvfb does not start here")
        self.manager = None
        self.environment = dict(os.environ, DISPLAY=f":{number}", SDL_VIDEODRIVER="x11")
        self.environment.pop("WAYLAND_DISPLAY", None)
        # Full screen and closing are a window manager's doings.
        if shutil.which("openbox"):
            self.manager = subprocess.Popen(["openbox", "--sm-disable"], env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            # A window that is mapped while the window manager takes over may never be told that it is.
            try:
                wait_for("the window manager", lambda: "window id" in self.command("xprop", "-root", "_NET_SUPPORTING_WM_CHECK"))
            except BaseException:
                self.end()
                raise
        with open(pathlib.Path(directory) / "Xvfb_screen0", "rb") as file:
            self.map = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        header = struct.unpack(">25I", self.map[:100])
        self.stride, self.start = header[12], header[0] + header[19] * 12

    def command(self, *arguments):
        return subprocess.run(list(map(str, arguments)), env=self.environment, capture_output=True, text=True, timeout=PATIENCE).stdout.strip()

    def tool(self, *arguments):
        return self.command("xdotool", *arguments)

    def row(self, x, y, width):
        """Pixels (red, green, blue) of the screen."""
        at = self.start + y * self.stride + x * 4
        line = self.map[at:at + width * 4]
        return [(line[i + 2], line[i + 1], line[i]) for i in range(0, width * 4, 4)]

    def end(self):
        if self.manager:
            self.manager.terminate()
            self.manager.wait(PATIENCE)
        self.process.terminate()
        self.process.wait(PATIENCE)


def machine_on_screen(test, guest, options):
    """A folder, an X server and a machine that shows `guest` on it, for as long as the test runs."""
    directory = tempfile.TemporaryDirectory()
    test.addCleanup(directory.cleanup)
    path = pathlib.Path(directory.name)
    server = Server(directory.name)
    test.addCleanup(server.end)
    machine = Machine(VELLUM, path, "-display", f"sdl,{options}", "-debugcon", f"file:{path / 'begun'}", "-fda", assemble(guest, path), "-boot", "a",
                      environment=server.environment)
    test.addCleanup(machine.end)
    return path, server, machine


def byte_of(pixel):
    """What picture.S shows as a byte: six bits of a component are spread over eight."""
    return pixel[0] >> 2 << 2 | pixel[1] >> 6


class Window(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.TemporaryDirectory()
        path = pathlib.Path(cls.directory.name)
        cls.addClassCleanup(cls.directory.cleanup)
        cls.server = Server(cls.directory.name)
        cls.addClassCleanup(cls.server.end)
        cls.path = path
        cls.machine = Machine(VELLUM, path, "-display", "sdl,scale=nearest", "-fda", assemble("picture", path), "-boot", "a", "-drive", "if=usb",
                              environment=cls.server.environment)
        cls.addClassCleanup(cls.machine.end)
        cls.window = wait_for("the window", lambda: cls.server.tool("search", "--name", "^Vellum")).split()[0]
        # The mouse's answer to "report" is the first byte it sends.
        wait_for("the guest's picture", lambda: cls.machine.picture().height == 400 and cls.mouse_packets() is not None)

    def setUp(self):
        self.server.tool("windowfocus", self.window)
        self.server.tool("mousemove", SCREEN[0] - 1, 0)  # the pointer is drawn into what is compared
        self.before = self.keyboard_bytes()

    @classmethod
    def log(cls, row):
        picture = cls.machine.picture()
        values = [byte_of(picture[2 * x, 2 * row]) for x in range(320)]
        while values and values[-1] == 0:
            values.pop()
        return values

    @classmethod
    def keyboard_bytes(cls):
        return cls.log(170)

    @classmethod
    def mouse_packets(cls):
        """Behind the answer FAh: packets of three bytes, of which the first has bit 3 set."""
        picture = cls.machine.picture()
        values = [byte_of(picture[2 * x, 2 * 180]) for x in range(320)]
        packets = [values[i:i + 3] for i in range(1, 318, 3)]
        return packets[:next(i for i, packet in enumerate(packets) if not packet[0] & 8)] if values[0] == 0xfa else None

    def new_bytes(self):
        """What the keyboard has sent since setUp. A host that is busy may hold a key for so long that the keyboard repeats it."""
        codes, prefix = [], []
        for value in self.keyboard_bytes()[len(self.before):]:
            if value == 0xe0:
                prefix = [value]
                continue
            code, prefix = prefix + [value], []
            if value >= 0x80 or code not in codes[-1:]:
                codes.append(code)
        return [value for code in codes for value in code]

    def expect_bytes(self, expected, what="bytes from the keyboard"):
        wait_for(f"{what}: {expected}", lambda: len(self.new_bytes()) >= len(expected))
        self.assertEqual(self.new_bytes(), expected, what)
        self.before = self.keyboard_bytes()

    def geometry(self):
        # xdotool counts the frame that a window manager draws twice.
        text = self.server.command("xwininfo", "-id", self.window)
        return [int(re.search(rf"{name}: +(-?\d+)", text)[1]) for name in ("Absolute upper-left X", "Absolute upper-left Y", "Width", "Height")]

    def title(self):
        return self.server.tool("getwindowname", self.window)

    def check_shown(self, place):
        """The frame, scaled to `place` of the screen by the nearest pixel."""
        frame = self.machine.picture()
        left, top, width, height = place
        for y in range(0, height, 7):
            shown = self.server.row(left, top + y, width)
            near = {min(frame.height - 1, max(0, y * frame.height // height + d)) for d in (-1, 0, 1)}
            rows = [frame.rows[row] for row in near]
            for x in range(0, width, 3):
                at = x * frame.width // width
                columns = range(max(0, at - 1), min(frame.width, at + 2))
                if not any(shown[x] == row[column] for row in rows for column in columns):
                    return f"{shown[x]} at {x},{y} of {place}"
        return ""

    def test_1_shows_the_frame_in_its_form(self):
        self.assertEqual(self.geometry()[2:], [640, 480], "640x400 of a 4:3 monitor")
        wait_for("the picture in the window", lambda: not self.check_shown(self.geometry()))
        frame = self.machine.picture()
        self.assertEqual([byte_of(frame[2 * column, 2 * 30]) for column in range(320)], [(column + 30) & 0xff for column in range(320)])

    def test_2_keys_by_scan_code(self):
        # Set 1, as the keyboard controller translates it: make, break.
        self.server.tool("key", "a")
        self.expect_bytes([0x1e, 0x9e])
        self.server.tool("key", "Up")
        self.expect_bytes([0xe0, 0x48, 0xe0, 0xc8])
        self.server.tool("keydown", "Shift_L", "key", "F1", "keyup", "Shift_L")
        self.expect_bytes([0x2a, 0x3b, 0xbb, 0xaa])

    @unittest.skipUnless(shutil.which("setxkbmap"), "this machine has no setxkbmap (x11-xkb-utils)")
    def test_2b_keys_by_place_whatever_the_layout(self):
        # On a German keyboard Z lies where the US keyboard has Y (scan code 15h), and Q of a French one where A is (1Eh).
        for layout, key, code in (("de", "z", 0x15), ("fr", "q", 0x1e)):
            subprocess.run(["setxkbmap", layout], env=self.server.environment, check=True, timeout=PATIENCE)
            self.server.tool("key", key)
            self.expect_bytes([code, code | 0x80], layout)
        subprocess.run(["setxkbmap", "us"], env=self.server.environment, check=True, timeout=PATIENCE)

    def test_2c_a_key_that_is_held_repeats_at_the_guests_rate_only(self):
        start = time.monotonic()
        self.server.tool("keydown", "a", "sleep", 1.5, "keyup", "a")
        wait_for("the release", lambda: self.keyboard_bytes()[-1] == 0x9e)
        held = time.monotonic() - start  # at most: whatever a busy host makes of the 1.5 seconds
        new = self.keyboard_bytes()[len(self.before):]
        # IBM PS/2 Hardware Interface Technical Reference: 10.9 a second behind the first 500 ms; X repeats 25 a second besides.
        self.assertEqual(new, [0x1e] * (len(new) - 1) + [0x9e])
        self.assertLess(len(new), 2 + 10.9 * held)

    def test_3_focus_lost_releases_keys(self):
        self.server.tool("keydown", "q")
        wait_for("the press", lambda: self.new_bytes() == [0x10])
        self.server.tool("windowunmap", self.window)
        wait_for("the release", lambda: self.keyboard_bytes()[-1] == 0x90)
        self.server.tool("keyup", "q")
        self.server.tool("windowmap", "--sync", self.window)

    def test_4_grab_and_mouse(self):
        x, y, width, height = self.geometry()
        self.server.tool("mousemove", x + width // 2, y + height // 2)
        self.server.tool("click", 1)  # grabs, and is not the guest's
        wait_for("the grab", lambda: "frees" in self.title())
        before = len(self.mouse_packets())
        self.server.tool("mousemove_relative", "--sync", 10, 5)

        def moved():
            packets = self.mouse_packets()[before:]
            return sum(packet[1] - (packet[0] & 0x10) * 16 for packet in packets), sum(packet[2] - (packet[0] & 0x20) * 8 for packet in packets)
        wait_for("the movement, up being positive", lambda: moved() == (10, -5))
        before = len(self.mouse_packets())
        self.server.tool("mousedown", 3, "sleep", 0.2, "mouseup", 3)
        wait_for("press and release", lambda: len(self.mouse_packets()) >= before + 2)
        self.assertEqual([packet[0] & 7 for packet in self.mouse_packets()[before:]], [2, 0])
        self.server.tool("key", "ctrl+alt+g")
        wait_for("the end of the grab", lambda: "frees" not in self.title())

    def test_5_hot_keys(self):
        self.server.tool("key", "ctrl+alt+p")
        wait_for("the pause", lambda: "paused" in self.machine.monitor("info status"))
        wait_for("the title", lambda: "paused" in self.title())
        self.server.tool("key", "ctrl+alt+p")
        wait_for("the machine to go on", lambda: "running" in self.machine.monitor("info status"))
        self.server.tool("key", "ctrl+alt+s")
        wait_for("the screenshot", lambda: list(self.path.glob("vellum-*.png")))
        # The keys of a command are released at once in the guest, so that it keeps none of them.
        self.expect_bytes([0x1d, 0x38, 0x9d, 0xb8] * 3, "Control and Alt")
        self.server.tool("key", "ctrl+alt+Delete")
        self.expect_bytes([0x1d, 0x38, 0x9d, 0xb8, 0x1d, 0x38, 0xe0, 0x53, 0xe0, 0xd3, 0x9d, 0xb8], "Ctrl-Alt-Delete")

    def test_6_the_monitor_in_the_window(self):
        self.server.tool("key", "ctrl+alt+m")
        self.expect_bytes([0x1d, 0x38, 0x9d, 0xb8])
        self.server.tool("type", "stop")
        self.server.tool("key", "Return")
        wait_for("the command's effect", lambda: "paused" in self.machine.monitor("info status"))
        self.server.tool("type", "cont")
        self.server.tool("key", "Return")
        wait_for("the command's effect", lambda: "running" in self.machine.monitor("info status"))
        self.server.tool("key", "Escape")
        self.assertEqual(self.keyboard_bytes(), self.before, "the guest gets none of it")

    def drop(self, path):
        x, y, width, height = self.geometry()
        done = subprocess.run([DRAG_SOURCE, self.window, str(x + width // 2), str(y + height // 2), path], env=self.server.environment,
                              capture_output=True, text=True, timeout=PATIENCE)
        self.assertEqual(done.returncode, 0, done.stderr)

    @unittest.skipUnless(DRAG_SOURCE, "this build has no source of drags (libx11-dev)")
    def test_6b_dropping_an_image_inserts_it(self):
        floppy, disc = self.path / "dropped.img", self.path / "dropped.iso"
        floppy.write_bytes(bytes(1440 * 1024))
        disk = self.path / "disk.img"
        disk.write_bytes(bytes(4 << 20))
        disc.write_bytes((bytes(16 * 2048) + b"\1CD001\1").ljust(4 << 20, b"\0"))  # a primary volume descriptor, ECMA-119 8.4
        self.drop(floppy)
        wait_for("the floppy", lambda: re.search(r"floppy0.*dropped\.img", self.machine.monitor("info block")))
        wait_for("the title to tell", lambda: "dropped.img is in floppy0" in self.title())
        self.drop(disc)
        wait_for("the CD-ROM", lambda: re.search(r"ide1-0.*dropped\.iso", self.machine.monitor("info block")))
        self.drop(disk)
        wait_for("the USB disk", lambda: re.search(r"usb0: \S*/disk\.img", self.machine.monitor("info block")))
        before = self.machine.monitor("info block")
        self.drop(self.path / "absent.img")
        wait_for("the reason", lambda: "absent.img: the image cannot be inserted: No such file" in self.title())
        self.assertEqual(self.machine.monitor("info block"), before)

    def test_7_resizing_keeps_the_form(self):
        self.server.tool("windowsize", "--sync", self.window, 900, 480)
        x, y, width, height = self.geometry()
        self.assertEqual((width, height), (900, 480))
        wait_for("black at the sides", lambda: set(self.server.row(x, y + 100, 130)) == {(0, 0, 0)})
        wait_for("the picture between", lambda: not self.check_shown((x + 130, y, 640, 480)))

    def test_7b_a_small_window_for_a_large_picture(self):
        # The picture is made smaller, not cut off.
        self.server.tool("windowsize", "--sync", self.window, 320, 240)
        x, y, width, height = self.geometry()
        self.assertEqual((width, height), (320, 240))
        wait_for("the picture", lambda: not self.check_shown((x, y, 320, 240)))
        self.server.tool("windowsize", "--sync", self.window, 900, 480)

    @unittest.skipUnless(shutil.which("openbox"), "this machine has no window manager (openbox)")
    def test_8_full_screen(self):
        before = self.geometry()[2:]
        self.server.tool("key", "ctrl+alt+f")
        wait_for("the whole screen", lambda: self.geometry() == [0, 0, *SCREEN])
        # 1280 x 960 of 4:3, with 32 lines of black above and below.
        wait_for("the picture", lambda: not self.check_shown((0, 32, 1280, 960)))
        self.assertEqual(set(self.server.row(0, 10, SCREEN[0] - 100)), {(0, 0, 0)})
        self.server.tool("key", "ctrl+alt+f")
        wait_for("the window's size", lambda: self.geometry()[2:] == before)

    @unittest.skipUnless(shutil.which("openbox"), "this machine has no window manager (openbox)")
    def test_9_closing_ends_the_program(self):
        self.server.tool("key", "alt+F4")
        self.machine.process.wait(PATIENCE)
        self.assertEqual(self.machine.process.returncode, 0, self.machine.process.stderr.read())


class OtherScaling(unittest.TestCase):
    """Each scaling in a window of its own: what stands in the middle of it, for a window of 1300 x 900 minus its frame."""

    def wait_for_picture(self, scaling, expected):
        _, server, machine = machine_on_screen(self, "picture", f"scale={scaling}")
        window = wait_for("the window", lambda: server.tool("search", "--name", "^Vellum")).split()[0]
        wait_for("the guest's picture", lambda: machine.picture().height == 400 and byte_of(machine.picture()[0, 60]) == 30)
        server.tool("windowmove", window, 0, 0)
        server.tool("windowsize", "--sync", window, 1270, 900)
        server.tool("mousemove", SCREEN[0] - 1, SCREEN[1] - 1)
        machine.monitor("stop")
        frame = machine.picture()
        # Below the window's frame, that may be of any size.
        wait_for("the picture in the window's new form", lambda: expected(frame, [server.row(0, y, SCREEN[0]) for y in range(300, 320)]))

    def test_integer_shows_every_pixel_as_large_as_any_other(self):
        def widths(frame, rows):
            for row in rows:
                # 640 pixels fit once into the window; mode 13h has 320 of them. Black beside the picture, and the window's frame, are left out.
                changes = [at for at in range(1, len(row)) if row[at] != row[at - 1]][3:-3]
                if {after - before for before, after in zip(changes, changes[1:])} != {2}:
                    return False
            return True
        self.wait_for_picture("integer", widths)

    def test_linear_shows_colours_between(self):
        def between(frame, rows):
            guests = {pixel for row in frame.rows for pixel in row}
            return sum(pixel not in guests for row in rows for pixel in row) > 1000
        self.wait_for_picture("linear", between)


class ModeChanges(unittest.TestCase):
    """A guest that goes from mode to mode, each with one bright colour all over, seen without a pause from outside."""

    COLOURS = {(255, 255, 255), (255, 128, 0)}
    CHANGES = 30

    def watch(self, options, find_place):
        path, server, _ = machine_on_screen(self, "modes", options)
        begun = path / "begun"
        window = wait_for("the window", lambda: server.tool("search", "--name", "^Vellum")).split()[0]
        wait_for("the guest's first colour", lambda: begun.exists() and begun.read_bytes().endswith(b"."))
        server.tool("mousemove", SCREEN[0] - 1, SCREEN[1] - 1)
        left, top, width, height = find_place(server, window)
        rows = range(top, top + height, 60)
        wait_for("only the guest's colours", lambda: self.COLOURS.issuperset(pixel for y in rows for pixel in server.row(left, y, width)))
        seen, changes, last = set(), 0, None
        end = time.monotonic() + PATIENCE
        # The screen is memory that the X server draws into: every look is at that moment's.
        while changes < self.CHANGES and time.monotonic() < end:
            for y in rows:
                pixels = set(server.row(left, y, width)[::31])
                seen |= pixels
            if pixels != last and len(pixels) == 1:
                changes, last = changes + 1, pixels
        self.assertEqual(seen, self.COLOURS, "a colour that no frame has")
        self.assertEqual(changes, self.CHANGES)

    def test_no_look_at_the_window_finds_it_blank(self):
        def place(server, window):
            server.tool("windowmove", "--sync", window, 100, 60)
            # All windows of these modes have the smallest's area in common; the frame around is at most 40 pixels wide.
            return 100 + 40, 60 + 40, 640 - 40, 480 - 40
        self.watch("scale=nearest", place)

    @unittest.skipUnless(shutil.which("openbox"), "this machine has no window manager (openbox)")
    def test_nor_the_full_screen(self):
        self.watch("scale=nearest,full-screen=on", lambda server, window: (0, 40, SCREEN[0], SCREEN[1] - 80))


@unittest.skipIf(os.path.exists("/dev/dri"), "SDL can show windows on this machine's console")
class WithoutDisplay(unittest.TestCase):
    def test_says_how_to_go_on(self):
        environment = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")}
        for arguments in (), ("-display", "sdl"):
            run = subprocess.run([VELLUM, *arguments], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE)
            self.assertEqual(run.returncode, 1, run.stderr)
            for way in "-display vnc=:0", "-display terminal", "-nographic", "-display none":
                self.assertIn(way, run.stderr)


if __name__ == "__main__":
    need("Xvfb", "xdotool", "xwininfo", "xprop")
    if b"without SDL" in subprocess.run([VELLUM, "-display", "sdl"], env={"PATH": os.environ["PATH"], "SDL_VIDEODRIVER": "none"}, capture_output=True, timeout=PATIENCE).stderr:
        skip("this build has no window")
    del sys.argv[1:3]
    unittest.main()
