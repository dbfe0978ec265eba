#!/usr/bin/env python3
"""What vellum says about a wrong command line or an unusable file: one clear line, and the right exit status.

usage: cli_test.py VELLUM SOURCE_ROOT
"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

VELLUM = os.path.abspath(sys.argv[1])
SOURCE = pathlib.Path(sys.argv[2])


def run(*arguments, cwd=None):
    done = subprocess.run([VELLUM, *arguments], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, cwd=cwd)
    return done.returncode, done.stdout, done.stderr


class Mistyped(unittest.TestCase):
    """Status 2, one line, nothing on standard output."""

    def check(self, arguments, line):
        status, out, err = run(*arguments)
        self.assertEqual((status, out, err), (2, "", f"vellum: {line}\n"))

    def test_unknown_option(self):
        self.check(["-nographics"], "-nographics: unknown option; did you mean '-nographic'?")

    def test_unknown_value(self):
        self.check(["-nographic", "-clock", "instuctions"], "-clock: unknown value 'instuctions'; did you mean 'instructions'?")

    def test_missing_value(self):
        self.check(["-hda"], "-hda: a value is missing (-hda FILE)")

    def test_cpu_model(self):
        status, out, err = run("-nographic", "-cpu", "haswel")
        self.assertEqual(status, 2)
        self.assertRegex(err, r"^vellum: -cpu.*haswel.*haswell.*\n$")

    def test_cpu_feature(self):
        status, out, err = run("-nographic", "-cpu", "max,-popcn")
        self.assertEqual(status, 2)
        self.assertRegex(err, r"^vellum: -cpu.*popcn.*popcnt.*\n$")

    def test_places_where_no_debugger_can_connect(self):
        for port in ("99999", "1234x", "-1"):
            self.check(["-gdb", f"tcp::{port}"], f"-gdb tcp::{port}: '{port}' is no port; write a number up to 65535, as in tcp::1234")
        for where in ("1234", "tcp:1234", "tcp::", "udp::1234"):
            self.check(["-gdb", where], f"-gdb {where}: use tcp:[HOST]:PORT, as in tcp::1234, or unix:PATH")

    def test_memory(self):
        self.check(["-nographic", "-m", "65G"], "-m: '65G' is out of range; memory is 1M to 64G")



class Unusable(unittest.TestCase):
    """Status 1, one line, and no file was made or changed."""

    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.path = pathlib.Path(self.directory.name)

    def tearDown(self):
        self.directory.cleanup()

    def check(self, arguments, pattern):
        before = sorted(os.listdir(self.path))
        status, out, err = run("-display", "none", "-serial", f"file:{self.path}/serial.log", *arguments)
        self.assertEqual(err.count("\n"), 1, err)
        self.assertRegex(err, pattern)
        self.assertEqual((status, out), (1, ""))
        self.assertEqual(sorted(os.listdir(self.path)), before)

    def file(self, name, size):
        path = self.path / name
        path.write_bytes(b"\0" * size)
        return str(path)

    def test_missing_files(self):
        for option in ("-hda", "-cdrom", "-fda", "-kernel", "-bios"):
            with self.subTest(option):
                self.check([option, f"{self.path}/absent"], rf"^vellum: {option}.*absent.*\n")

    def test_directories(self):
        for option in ("-hda", "-cdrom", "-fda", "-kernel", "-bios"):
            with self.subTest(option):
                self.check([option, str(self.path)], rf"^vellum: {option}.*directory")

    def test_unreadable_file(self):
        if os.geteuid() == 0:
            self.skipTest("root can read every file")
        path = self.file("secret", 512)
        os.chmod(path, 0)
        self.check(["-hda", path], r"^vellum: -hda.*[Pp]ermission denied")

    def test_truncated_bios(self):
        self.check(["-bios", self.file("bios.bin", 100_000)], r"^vellum: -bios .*100000 bytes.*64 KiB")

    def test_empty_kernel(self):
        self.check(["-kernel", self.file("vmlinuz", 0)], r"^vellum: -kernel .*vmlinuz: the file is empty")

    def test_file_that_is_no_kernel(self):
        self.check(["-kernel", self.file("vmlinuz", 100_000)], r"^vellum: .*vmlinuz")

    def test_missing_initrd(self):
        self.check(["-kernel", self.file("vmlinuz", 100_000), "-initrd", f"{self.path}/absent"], r"^vellum: -initrd .*absent")

    def test_initrd_larger_than_memory(self):
        self.check(["-m", "16M", "-kernel", self.file("vmlinuz", 1000), "-initrd", self.file("initrd", 17 << 20)],
                   r"^vellum: -initrd .*more than the machine's memory of 16 MiB")

    def test_socket_nobody_listens_on(self):
        self.check(["-monitor", f"unix:{self.path}/absent"], r"^vellum: -monitor .*cannot connect")

    def test_profile_that_cannot_be_written_is_told_of_before_the_machine_runs(self):
        status, out, err = run("-display", "none", "-serial", "null", "-profile", "/nonexistent/page.html")
        self.assertEqual((status, out, err), (1, "", "vellum: -profile: cannot create /nonexistent/page.html: No such file or directory\n"))

    def test_log_file_that_cannot_be_made(self):
        self.check(["-d", "int", "-D", "/nonexistent/log"], r"^vellum: -D /nonexistent/log: ")

    def test_image_in_another_format(self):
        path = self.path / "disk.qcow2"
        path.write_bytes(b"QFI\xfb\0\0\0\3" + b"\0" * 1016)
        self.check(["-hda", str(path)], r"^vellum: -hda.*qcow2")


class Information(unittest.TestCase):
    def test_lists_and_help(self):
        for arguments in (["-help"], ["-version"], ["-cpu", "help"], ["-machine", "help"], ["-device", "help"], ["-d", "help"]):
            with self.subTest(arguments):
                status, out, err = run(*arguments)
                self.assertEqual((status, err), (0, ""))
                self.assertTrue(out.endswith("\n"))

    def test_commands_have_help_and_are_in_help_and_manual(self):
        manual = (SOURCE / "docs/vellum.1").read_text()
        for command in ("monitor", "compare", "trace", "profile", "translate"):
            with self.subTest(command):
                status, out, err = run(command, "-help")
                self.assertEqual((status, err), (0, ""))
                self.assertRegex(out, rf"^usage: vellum {command} ")
                self.assertIn(f"  vellum {command} ", run("-help")[1])
                self.assertIn(f"vellum {command}", manual)

    def test_manual_page_and_completion_name_every_option(self):
        options = re.findall(r"^  (-[A-Za-z-]+)", run("-help")[1], re.MULTILINE)
        self.assertGreater(len(options), 30)
        manual = re.sub(r"\\f[A-Z]", "", (SOURCE / "docs/vellum.1").read_text()).replace("\\-", "-")
        completion = (SOURCE / "tools/completion/vellum").read_text()
        for option in options:
            with self.subTest(option):
                pattern = rf"(?<![\w-]){option}(?![\w-])"
                self.assertTrue(re.search(pattern, manual), "not in docs/vellum.1")
                self.assertTrue(re.search(pattern, completion), "not in tools/completion/vellum")


class Scripts(unittest.TestCase):
    """The documents call them by their names alone."""

    def test_each_can_be_run(self):
        scripts = [path for folder in ("bench", "tests", "tools") for path in (SOURCE / folder).rglob("*")
                   if path.is_file() and path.read_bytes()[:2] == b"#!"]
        self.assertTrue(scripts)
        self.assertEqual([str(path.relative_to(SOURCE)) for path in scripts if not os.access(path, os.X_OK)], [])


class UsbDisks(unittest.TestCase):
    def test_one_image_in_two_drives_is_recorded_and_replayed(self):
        with tempfile.TemporaryDirectory() as directory:
            image, recording = pathlib.Path(directory, "disk.img"), pathlib.Path(directory, "recording")
            image.write_bytes(bytes(4 << 20))
            options = ["-display", "none", "-drive", f"if=usb,file={image}", "-device", "usb-storage"]
            recorded = subprocess.run([VELLUM, *options, "-record", recording, "-monitor", "stdio"], capture_output=True, text=True, timeout=120,
                                      input=f"change usb1 {image}\ninfo block\neject usb0\nquit\n")
            self.assertEqual(recorded.returncode, 0, recorded.stderr)
            self.assertIn(f"usb1: {image}", recorded.stdout)
            status, _, err = run(*options, "-monitor", "none", "-replay", recording)
            self.assertEqual(status, 0, err)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
