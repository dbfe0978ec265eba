"""Boot tests of what a guest shows: each looks at screenshots. With VELLUM_GALLERY=DIR they are kept there."""
import base64
import gzip
import os
import struct

import guests
from console import Failure
from png_reader import Picture


def _kept(name):
    directory = os.environ.get("VELLUM_GALLERY")
    return os.path.join(directory, name) if directory else None


def _colors(picture):
    return {pixel for row in picture.rows for pixel in row}


def _changed_rows(before, after):
    return [y for y, (one, other) in enumerate(zip(before.rows, after.rows)) if one != other]


def test_screen_memtest(machine):
    """memtest86+ draws its text screen: white on blue, a red title, a bar at the bottom"""
    with machine("-m", "16", "-kernel", guests.memtest64()) as m:
        m.expect_screen(r"Memtest86\+", timeout=60)
        m.expect_screen(r"#[1-9]\b", timeout=300)
        picture = m.picture(_kept("memtest.png"))
        if (picture.width, picture.height) != (720, 400):
            raise Failure(f"the picture has {picture.width}x{picture.height} pixels")
        blue = (0, 0, 170)
        if sum(row.count(blue) for row in picture.rows) < 720 * 400 // 2:
            raise Failure("less than half of the picture is blue")


def test_screen_grub(machine):
    """GRUB's menu on its graphical terminal at 1024x768: the arrow keys move the bar"""
    with machine("-cdrom", guests.grub_menu(), "-boot", "d") as m:
        def menu(picture):
            return (picture.width, picture.height) == (1024, 768) and (168, 168, 168) in _colors(picture)
        first = m.expect_picture("the menu", menu, timeout=120, keep=_kept("grub.png"))
        # The bar of the chosen entry: a run of light grey as wide as the menu.
        def bar(picture):
            return [y for y, row in enumerate(picture.rows) if row.count((168, 168, 168)) > 700]
        if not bar(first):
            raise Failure("there is no bar")
        m.keys("down")
        second = m.expect_picture("the bar one entry lower", lambda picture: bar(picture) and bar(picture)[0] > bar(first)[0], timeout=60)
        rows = _changed_rows(first, second)
        if rows[-1] - rows[0] > 60:
            raise Failure(f"more than two entries changed: rows {rows[0]} to {rows[-1]}")


def test_screen_installer(machine):
    """The Debian installer's first dialogue on the VGA text screen, and the next one by the keyboard"""
    directory = guests.installer()
    with machine("-m", "1024", "-kernel", directory / "linux", "-initrd", directory / "initrd.gz",
                 "-append", "vga=normal nomodeset fb=false quiet") as m:
        m.expect_screen(r"Select a language", timeout=600)
        picture = m.picture(_kept("installer.png"))
        if len(_colors(picture)) < 4:
            raise Failure("the dialogue has less than four colours")
        m.keys("ret")
        m.expect_screen(r"Select your location", timeout=120)


def test_screen_graphical_installer(machine):
    """The Debian installer's graphical first dialogue (GTK on a frame buffer); arrow keys choose another language"""
    directory = guests.graphical_installer()
    with machine("-m", "1024", "-kernel", directory / "linux", "-initrd", directory / "initrd.gz", "-append", "vga=788 quiet") as m:
        def dialogue(picture):
            # Lines of text below the banner: the pointer alone is dark in few rows.
            written = [row for row in picture.rows[120:] if any(max(pixel) < 80 for pixel in row)]
            return picture.width >= 800 and len(_colors(picture)) > 200 and len(written) > 100
        first = m.expect_picture("the dialogue", dialogue, timeout=900, keep=_kept("graphical-installer.png"))
        m.keys("down")
        # Two rows of the list, and no more than the list.
        m.expect_picture("another choice", lambda picture: dialogue(picture) and 10 < len(_changed_rows(first, picture)) < 600, timeout=120)


def _difference(before, after):
    """The box of the pixels that differ: left, top, width, height; none when nothing does."""
    rows = _changed_rows(before, after)
    columns = [x for y in rows for x, (one, other) in enumerate(zip(before.rows[y], after.rows[y])) if one != other]
    return (min(columns), rows[0], max(columns) - min(columns) + 1, rows[-1] - rows[0] + 1) if rows else None


def _root_window(dump):
    """Rows of (red, green, blue) of a dump by xwd of 32 bits a pixel (X11/XWDFile.h)."""
    header = struct.unpack(">25I", dump[:100])
    start, width, height, stride = header[0] + header[19] * 12, header[4], header[5], header[12]
    if (header[11], header[7]) != (32, 0):
        raise Failure(f"xwd dumps {header[11]} bits a pixel")
    lines = (dump[start + y * stride:start + y * stride + 4 * width] for y in range(height))
    return [[(line[i + 2], line[i + 1], line[i]) for i in range(0, 4 * width, 4)] for line in lines]


def test_desktop(machine):
    """Debian's Xorg and Openbox: the USB tablet moves the pointer to the pixel, a click opens a terminal, what is typed there is done and shown"""
    directory = guests.desktop_system()
    with machine("-m", "1G", "-hda", directory / "disk.img", "-snapshot", "-device", "usb-tablet") as m:
        m.expect(r"vellum login: ", timeout=600)
        m.send("root\n")
        m.expect(r"Password: ", timeout=60)
        m.send("vellum\n")
        m.expect(r"root@vellum:~# ", timeout=60)
        m.command("export DISPLAY=:0; bind 'set enable-bracketed-paste off'")
        m.command("until [ -e /root/started ]; do sleep 1; done", timeout=300)
        width, height = 1024, 768

        def place(x, y):
            # The middle of the pixel, in the tablet's units.
            m.monitor(f"mouse_move {(2 * x + 1) * 32767 // (2 * width)} {(2 * y + 1) * 32767 // (2 * height)}")

        def click(button):
            m.monitor(f"mouse_button {button}")
            m.monitor("mouse_button 0")

        # Two places of the pointer: where it is and where it was differ from the empty desktop, by the size of an arrow.
        def arrow_at(x, y):
            def there(picture):
                box = _difference(m.empty, without_corner(picture))
                return box and abs(box[0] - x) <= 1 and abs(box[1] - y) <= 1 and box[2] <= 24 and box[3] <= 32
            return there

        # The tip of the pointer that is out of the way.
        def without_corner(picture):
            return Picture(width - 2, height - 2, [row[:-2] for row in picture.rows[:-2]])
        place(width - 1, height - 1)
        m.empty = without_corner(m.expect_picture("the desktop", lambda picture: (picture.width, picture.height) == (width, height), timeout=120))
        for x, y in ((100, 60), (700, 500)):
            place(x, y)
            m.expect_picture(f"the pointer at {x},{y}", arrow_at(x, y), timeout=60)

        def larger_than(wide, high):
            def there(picture):
                box = _difference(m.empty, without_corner(picture))
                return box and box[2] > wide and box[3] > high
            return there

        # Openbox's menu opens below the pointer, with the terminal as its first entry.
        place(300, 120)
        click(4)
        m.expect_picture("the menu", larger_than(80, 100), timeout=60)
        place(340, 130)
        click(1)

        m.expect_picture("the terminal", larger_than(400, 250), timeout=60)
        m.type("echo typed by hand > note; seq -s ' ' 200\n")
        m.command("until [ -s /root/note ]; do sleep 1; done", timeout=60)
        if "typed by hand" not in m.command("cat /root/note"):
            raise Failure(f"the terminal's command did something else\n{m.describe()}")
        place(width - 1, height - 1)
        # The X server tells what is on its screen, without the pointer. The terminal may still be drawing at first.
        before = m.expect_picture("what the command printed", larger_than(400, 250), timeout=60)
        for _ in range(10):
            text = m.command("xwd -root -silent | gzip | base64 -w 100", timeout=120)
            seen = m.picture(_kept("desktop.png"))
            if seen.rows == before.rows:
                break
            before = seen
        shown = _root_window(gzip.decompress(base64.b64decode(text.encode())))
        wrong = [(x, y) for y in range(height) for x in range(width) if seen[x, y] != shown[y][x] and (x < width - 24 or y < height - 32)]
        if wrong:
            raise Failure(f"{len(wrong)} pixels are not what the X server shows, first {wrong[0]}: {seen[wrong[0]]}, not {shown[wrong[0][1]][wrong[0][0]]}")
        m.send("poweroff\n")
        m.wait(120)
