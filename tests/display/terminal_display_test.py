#!/usr/bin/env python3
"""The terminal display, in a real terminal (tmux): colours, line characters, cursor, keys, the monitor, the way out.

usage: terminal_display_test.py VELLUM
"""
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import unittest

from display_bench import PATIENCE, assemble, need, wait_for

VELLUM = os.path.abspath(sys.argv[1])


class Terminal(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.path = pathlib.Path(self.directory.name)
        image = assemble("echo", self.path)
        self.socket = self.path / "tmux.sock"
        command = shlex.join([VELLUM, "-m", "16", "-display", "terminal", "-fda", str(image), "-boot", "a"])
        self.tmux("-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "25", f"echo before; {command}; echo status $?; sleep 60")
        wait_for("the guest's text", lambda: "╔" in self.screen())

    def tearDown(self):
        self.tmux("kill-server")
        self.directory.cleanup()

    def tmux(self, *arguments):
        environment = dict(os.environ, LC_ALL="C.UTF-8", TERM="xterm-256color")
        return subprocess.run(["tmux", "-u", "-S", str(self.socket), *arguments], capture_output=True, text=True, timeout=PATIENCE, env=environment).stdout

    def screen(self, *options):
        return self.tmux("capture-pane", "-p", *options)

    def cursor(self):
        return self.tmux("display-message", "-p", "#{cursor_x},#{cursor_y},#{cursor_flag}").strip()

    def test_box_colours_cursor(self):
        lines = self.screen().split("\n")
        self.assertEqual([line.rstrip() for line in lines[:5]], ["ABCDEFGHIJKLMNOP", "abcdefghijklmnop", "╔══╦═══╗", "║ß☺║░▒█║", "╚══╩═══╝"])
        wait_for("the cursor", lambda: self.cursor() == "3,6,1")
        # ECMA-48 colours in the VGA's order: black, blue, green, cyan, red, magenta, brown, grey.
        order = [0, 4, 2, 6, 1, 5, 3, 7]
        shown = self.screen("-e").split("\n")
        expected = {chr(ord("A") + i): (f"9{order[i & 7]}" if i & 8 else f"3{order[i]}", "40") for i in range(16)}
        expected |= {chr(ord("a") + i): ("30", f"10{order[i & 7]}" if i & 8 else f"4{order[i]}") for i in range(16)}
        found = {}
        foreground = background = None
        for part in re.findall(r"\033\[([0-9;]*)m|(.)", shown[0] + shown[1]):
            for code in part[0].split(";"):
                if re.fullmatch(r"3[0-79]|9[0-7]", code):
                    foreground = code
                elif re.fullmatch(r"4[0-79]|10[0-7]", code):
                    background = code
                elif code in ("", "0") and not part[1]:
                    foreground = background = None
            if part[1] in expected and part[1] not in found:
                found[part[1]] = (foreground, background)
        self.assertEqual(found, expected)

    def test_keys(self):
        self.tmux("send-keys", "-l", "Hello, World! {x|y} ~")
        wait_for("what was typed", lambda: self.screen().split("\n")[6].rstrip() == "   Hello, World! {x|y} ~")
        self.tmux("send-keys", "BSpace", "BSpace", "z")
        wait_for("the correction", lambda: "{x|y}z" in self.screen().split("\n")[6])
        self.tmux("send-keys", "Enter", "q")  # BIOS teletype: carriage return without a line feed
        wait_for("the start of the line", lambda: self.screen().split("\n")[6].startswith("q  Hello"))

    def test_monitor_and_end(self):
        self.tmux("send-keys", "C-a", "c")
        self.tmux("send-keys", "-l", "info status")
        self.tmux("send-keys", "Enter")
        wait_for("the answer", lambda: "VM status: running" in self.screen())
        self.tmux("send-keys", "C-a", "c")
        wait_for("the guest's text again", lambda: "╔══╦═══╗" in self.screen())
        self.tmux("send-keys", "C-a", "p")
        wait_for("the pause", lambda: "paused" in self.screen())
        self.tmux("send-keys", "C-a", "p")
        wait_for("the machine to go on", lambda: "paused" not in self.screen())
        self.tmux("send-keys", "C-a", "x")
        # The terminal is as it was: its first screen, cursor on.
        wait_for("the end", lambda: "status 0" in self.screen())
        self.assertIn("before", self.screen())
        self.assertTrue(self.cursor().endswith(",1"))

    def test_small_terminal(self):
        self.tmux("resize-window", "-x", "40", "-y", "10")
        wait_for("the part that fits", lambda: self.screen().split("\n")[2].rstrip() == "╔══╦═══╗")


if __name__ == "__main__":
    need("tmux")
    del sys.argv[1]
    unittest.main()
