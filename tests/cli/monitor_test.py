#!/usr/bin/env python3
"""The monitor as people use it: `vellum monitor` and Ctrl-A c typed at in a real terminal (tmux), and every command and topic there is.

usage: monitor_test.py VELLUM

Exit status 77: skipped, with the reason.
"""
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

VELLUM = os.path.abspath(sys.argv[1])
PATIENCE = 60

# At 0:7c00: cli; xor ax, ax; mov ds, ax; mov si, 7c20h; L: inc bx; call F; jmp L; F: mov [700h], bx; mov al, 'x'; mov dx, 3f8h;
# out dx, al; ret
CODE = bytes.fromhex("fa31c08ed8be207c" "43e80200ebfa" "891e0007" "b078" "baf803" "ee" "c3")
START, LOOP, CALL, JUMP, FUNCTION = 0x7C00, 0x7C08, 0x7C09, 0x7C0C, 0x7C0E
SYMBOLS = f"{START:016x} T start\n{LOOP:016x} T main_loop\n{FUNCTION:016x} T function\n"


def wait_for(what, condition):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError(f"{what} did not come")


class Case(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory(prefix="vellum-monitor-")
        self.path = pathlib.Path(self.directory.name)
        (self.path / "floppy.img").write_bytes(CODE.ljust(510, b"\0") + b"\x55\xaa" + bytes(1440 * 1024 - 512))
        (self.path / "System.map").write_text(SYMBOLS)
        self.options = ["-m", "16", "-fda", str(self.path / "floppy.img"), "-boot", "a", "-symbols", str(self.path / "System.map"), "-clock", "instructions", "-S"]
        self.machine = None

    def tearDown(self):
        if self.machine:
            self.machine.terminate()
            self.machine.wait(20)
        self.directory.cleanup()

    def start(self, *options):
        self.socket = self.path / "monitor.sock"
        self.machine = subprocess.Popen([VELLUM, *self.options, "-display", "none", "-monitor", f"unix:{self.socket},server,nowait", *options],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for("the monitor's socket", self.socket.exists)

    def ask(self, *lines):
        return subprocess.run([VELLUM, "monitor", self.socket, *lines], capture_output=True, text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL).stdout

    # Lets it run until it has stopped.
    def go(self, line="cont"):
        self.ask(line)
        wait_for("the stop", lambda: "paused" in self.ask("info status"))


class Commands(Case):
    def test_every_topic_and_the_help_of_every_command(self):
        self.start("-serial", "null")
        topics = self.ask("info").removeprefix("topics: ").strip().split(", ")
        wanted = {"registers", "tlb", "mem", "mtree", "irq", "pic", "lapic", "pci", "blocks", "jit", "clock", "devices"}
        self.assertLessEqual(wanted, set(topics))
        self.ask("break function")
        self.go()
        shows = {"registers": "EIP=", "tlb": "RAM offset", "mem": "paging is off", "mtree": "ram", "irq": "delivered", "pic": r"8259 master: IRQ0-7 at vectors 0x08-0x0f\n(.*\n){4}.*\nI/O APIC 0", "lapic": r"local APIC 0: xAPIC mode at 0xfee00000(.*\n)+  LINT0: ExtINT", "pci": "8086",
                 "blocks": "blocks of", "jit": "block", "clock": "instructions", "devices": "uart|serial"}
        for topic in topics:
            text = self.ask(f"info {topic}")
            self.assertTrue(text and "unknown topic" not in text, topic)
            self.assertRegex(text, shows.get(topic, "."), topic)
        commands = [line.split()[0] for line in self.ask("help").splitlines() if not line.startswith(" ")]
        self.assertLessEqual({"x", "xp", "disas", "step", "next", "until", "break", "tbreak", "delete", "trace", "symbols", "print", "set", "reverse-step", "reverse-cont", "goto"},
                             set(commands))
        for command in commands:
            text = self.ask(f"help {command}")
            self.assertTrue(text.startswith(command + " ") and len(text.split()) >= 2, command)
        self.assertEqual([line.split()[0] for line in self.ask("help info").splitlines()[1:]], topics)
        self.assertRegex(self.ask("info devices pic8259"), r"master.mask = 0x")
        for kind in ("ADDRESS", "phys", "watch", "mmio", "port", "msr", "cr", "vector", "mode", "serial", "triple"):
            self.assertIn(f"break {kind}", self.ask("help break"))

    def test_looking_stepping_and_stopping(self):
        self.start("-serial", "null")
        self.ask("break start")
        self.go()
        self.assertIn("<start>:  cli", self.ask("where"))
        self.ask("delete")
        self.assertIn(f"=> {START:#x}:", self.ask("x/1i"), "without an address it begins at the next instruction")
        for kind, words in (("cr 1", "CR0, CR2, CR3, CR4 and CR8"), ("cr 3-4", "CR0, CR2, CR3"), ("cr 9", "up to 0x8"), ("port 0x10000", "up to 0xffff"), ("port 5-2", "FIRST-LAST"), ("port 5 rd", "read or write"),
                            ("vector 256", "up to 0xff"), ("serial", "text"), ("watch 5 0", "length"), ("nowhere", "no number, symbol"), ("nonsense 1", "help break")):
            self.assertIn(words, self.ask(f"break {kind}"), kind)
        self.assertEqual(self.ask("break"), "no breakpoints\n")
        self.assertEqual(self.ask("x/4xb 0x7c00"), "0000000000007c00: 0xfa 0x31 0xc0 0x8e\n")
        self.assertEqual(self.ask("xp/1xh 0x7dfe"), "0000000000007dfe: 0xaa55\n")
        self.assertRegex(self.ask("xp/1i 0x7c00"), r"^   0x7c00:  fa +cli *\n$")
        self.assertRegex(self.ask("xp/1i"), r"^   0x7c01:  31 c0 +xorw", "without an address it goes on behind the last")
        self.assertEqual(self.ask("x/2dw 0x7c08"), f"0000000000007c08: {int.from_bytes(CODE[8:12], 'little', signed=True)} {int.from_bytes(CODE[12:16], 'little', signed=True)}\n")
        self.assertRegex(self.ask("disas main_loop 3"), r"main_loop.*\n?.*incw +%bx\n.*callw .*<function>.*\n.*jmp .*<main_loop>")
        self.go("step 4")
        self.assertIn("<main_loop>", self.ask("where"))
        self.go("step")
        self.go("step")
        self.assertIn("<function>", self.ask("where"))
        self.go("until main_loop")
        self.go("step")
        self.go("next")
        self.assertIn(f":{JUMP:x} ", self.ask("where"), "next goes over the call")
        for kind, place in (("watch 0x700 2", FUNCTION + 4), ("port 0x3f8 write", FUNCTION + 10), ('serial "xx"', FUNCTION + 10), ("phys 0x7c0e", FUNCTION)):
            self.ask(f"break {kind}")
            self.go()
            self.assertIn(f":{place:x} ", self.ask("where"), kind)
            self.ask("delete")
        trace = self.path / "trace"
        self.assertIn(str(trace), self.ask(f"trace memory,address=0x700-0x701,file={trace}"))
        self.assertIn("traced already", self.ask("trace port"))
        self.go("step 70")
        self.ask("trace off")
        lines = trace.read_text().splitlines()
        self.assertIn(len(lines), (8, 9), "eight instructions make a round, and one stores")
        self.assertTrue(all(re.search(r"0x7c0e real memory 0x700 write 2 bytes", line) for line in lines), lines)


@unittest.skipUnless(shutil.which("tmux"), "there is no tmux")
class Terminal(Case):
    def tmux(self, *arguments):
        environment = dict(os.environ, LC_ALL="C.UTF-8", TERM="xterm-256color", HOME=str(self.path))
        return subprocess.run(["tmux", "-u", "-S", str(self.path / "tmux.sock"), *arguments], capture_output=True, text=True, timeout=PATIENCE, env=environment).stdout

    def open(self, command):
        self.tmux("-f", "/dev/null", "new-session", "-d", "-x", "150", "-y", "50", f"{shlex.join(map(str, command))}; echo status $?; sleep 60")

    def tearDown(self):
        self.tmux("kill-server")
        super().tearDown()

    def lines(self):
        return [line.rstrip() for line in self.tmux("capture-pane", "-p").splitlines() if line.strip()]

    def type(self, text, *keys):
        if text:
            self.tmux("send-keys", "-l", text)
        if keys:
            self.tmux("send-keys", *keys)

    def sees(self, pattern):
        wait_for(f"{pattern} among {self.lines()}", lambda: re.search(pattern, "\n".join(self.lines()), re.MULTILINE))

    def edits(self):
        """What holds in both editors. The prompt is there."""
        self.type("inf", "Tab")
        self.type("sta", "Tab", "Enter")
        self.sees(r"\(vellum\) info status *\nVM status: paused")
        self.type("", "Up")
        self.sees(r"VM status: paused\n\(vellum\) info status$")
        self.type("", "C-u")
        self.type("break main_", "Tab", "Enter")
        self.sees(r"breakpoint 1: at 0x7c08 <main_loop>")
        self.type("print 12", "BSpace")
        self.type("6", "Enter")
        self.sees(r"\(vellum\) print 16 *\n.*0x10\b")
        # Told of without a key.
        self.type("cont", "Enter")
        self.sees(r"breakpoint 1: at 0x7c08 <main_loop>\n.*<main_loop>: +incw")
        self.type("nonsense", "Enter")
        self.sees(r"unknown command 'nonsense'")

    def test_the_client(self):
        self.start("-serial", "null")
        self.open([VELLUM, "monitor", self.socket])
        self.sees(r"^\(vellum\)")
        self.edits()
        # A word in the middle of the line; then what Tab offers.
        self.type("print 5")
        self.type("", "C-a")
        self.type("", "C-k")
        self.type("print 0x20", "Left", "Left", "Left", "BSpace")
        self.type("0", "Enter")
        self.type("info ", "Tab", "Tab")
        self.sees(r"registers")
        self.type("", "C-u")
        self.type("", "C-d")
        self.sees(r"status 0")
        self.assertIn("break main_loop", (self.path / ".vellum_history").read_text().replace("\\040", " "))
        # Another one knows what was typed.
        self.tmux("respawn-pane", "-k", f"{shlex.join([VELLUM, 'monitor', str(self.socket)])}; echo status $?; sleep 60")
        self.sees(r"^\(vellum\)")
        for _ in range(8):
            self.type("", "Up")
            if any("nonsense" in line for line in self.lines()):
                break
            time.sleep(0.2)
        self.sees(r"^\(vellum\) nonsense")
        self.type("", "C-u")
        self.type("quit", "Enter")
        self.sees(r"status 0")
        self.machine.wait(PATIENCE)

    def test_ctrl_a_c(self):
        self.open([VELLUM, *self.options, "-nographic"])
        time.sleep(1)
        self.type("", "C-a", "c")
        self.sees(r"^\(vellum\)")
        self.edits()
        self.type("", "C-a", "c")
        self.type("", "C-a", "c")
        self.type("quit", "Enter")
        self.sees(r"status 0")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[2:], verbosity=1)
