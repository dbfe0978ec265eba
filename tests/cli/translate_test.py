#!/usr/bin/env python3
"""vellum translate: guest instructions, callouts and host code of a file, of bytes, and of a running guest.

usage: translate_test.py VELLUM
"""
import os
import pathlib
import re
import struct
import subprocess
import sys
import tempfile
import time
import unittest

VELLUM = os.path.abspath(sys.argv[1])
LOOP = "48 01 d8 48 39 cb 75 f8"  # add %rbx, %rax; cmp %rcx, %rbx; jne to the add


def run(*arguments):
    done = subprocess.run([VELLUM, "translate", *arguments], capture_output=True, text=True, errors="replace", timeout=60, stdin=subprocess.DEVNULL)
    return done.returncode, done.stdout, done.stderr


HAVE_BASELINE = run("-show", "baseline", "-bytes", "90")[0] == 0
HAVE_OPTIMIZER = run("-show", "ir", "-bytes", "90")[0] == 0


def elf(code, address=0x401000, entry=None, name="work"):
    """A 64-bit program of one segment, with one function symbol that covers all of the code but its first byte."""
    strings = b"\0" + name.encode() + b"\0"
    symbols = bytes(24) + struct.pack("<IBBHQQ", 1, 2, 0, 1, address + 1, len(code) - 1)
    code_at = 64 + 56
    strings_at = code_at + len(code)
    symbols_at = strings_at + len(strings)
    sections_at = symbols_at + len(symbols)
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 2, 62, 1, entry or address, 64, sections_at, 0, 64, 56, 1, 64, 4, 0)
    program = struct.pack("<IIQQQQQQ", 1, 5, code_at, address, address, len(code), len(code), 4096)

    def section(kind, offset=0, size=0, link=0, entry_size=0):
        return struct.pack("<IIQQQQIIQQ", 0, kind, 0, 0, offset, size, link, 0, 1, entry_size)
    sections = section(0) + section(1, code_at, len(code)) + section(3, strings_at, len(strings)) + section(2, symbols_at, len(symbols), 2, 24)
    return header + program + code + strings + symbols + sections


class Guest(unittest.TestCase):
    def test_prefixes_that_are_part_of_the_opcode_are_so_in_16_bit_code_too(self):
        # SDM Vol. 2: the instructions' own pages.
        for code, wanted in (("f3 0f b8 c9", "popcntw %cx, %cx"), ("66 f3 0f b8 c9", "popcntl %ecx, %ecx"), ("f3 0f b8 0e 00 10", "popcntw 0x1000, %cx"),
                             ("67 f3 0f b8 08", "popcntw (%eax), %cx"), ("f3 0f bc c9", "tzcntw %cx, %cx"), ("f2 0f 38 f1 c1", "crc32w %cx, %eax"),
                             ("f2 0f 38 f0 c1", "crc32b %cl, %eax"), ("66 0f 38 f6 c1", "adcxl %ecx, %eax"), ("f3 0f 38 f6 c1", "adoxl %ecx, %eax"),
                             ("f3 0f 10 c1", "movss %xmm1, %xmm0"), ("f2 0f 10 07", "movsd (%bx), %xmm0"), ("2e f3 0f 10 0e 34 12", "movss %cs:0x1234, %xmm1"),
                             ("0f 10 c1", "movups %xmm1, %xmm0"), ("66 0f 6f 47 10", "movdqa 0x10(%bx), %xmm0"), ("66 67 0f 6f 08", "movdqa (%eax), %xmm1"),
                             ("66 0f b6 c0", "movzbl %al, %eax"), ("0f 38 f0 07", "movbew (%bx), %ax")):
            with self.subTest(code):
                status, out, err = run("-mode", "16", "-show", "guest", "-bytes", code + " 90")
                self.assertEqual((status, err), (0, ""))
                self.assertRegex(out.splitlines()[1], rf"^ +0:  {code} +{re.escape(wanted)}$")
                self.assertRegex(out.splitlines()[2], rf"^ +{len(code.split()):x}:  90 +nop$")

    def test_instructions_and_callouts(self):
        status, out, err = run("-show", "guest,callouts", "-address", "0x1000", "-bytes", LOOP + " 9c 0f a2 0f 0b")
        self.assertEqual((status, err), (0, ""))
        self.assertEqual(out, """\
block 0x1000: 64-bit, 3 instructions, 8 bytes
    1000:  48 01 d8               addq %rbx, %rax
    1003:  48 39 cb               cmpq %rcx, %rbx
    1006:  75 f8                  jne 0x1000

block 0x1008: 64-bit, 1 instruction, 1 bytes
    1008:  9c                     pushfq
            => callout push_flags

block 0x1009: 64-bit, 1 instruction, 2 bytes
    1009:  0f a2                  cpuid
            => callout identify

block 0x100b: 64-bit, 1 instruction, 2 bytes
    100b:  0f 0b                  ud2
""")

    def test_code_sizes(self):
        for mode, text in (("16", "addw %bx, %ax"), ("32", "addl %ebx, %eax"), ("64", "addl %ebx, %eax")):
            with self.subTest(mode):
                self.assertIn(text, run("-mode", mode, "-show", "guest", "-bytes", "01 d8")[1])

    def test_intel_syntax(self):
        self.assertIn("add rax, rbx", run("-syntax", "intel", "-show", "guest", "-bytes", LOOP)[1])

    def test_model_decides_what_exists(self):
        self.assertIn("popcnt", run("-show", "guest,callouts", "-bytes", "f3 0f b8 c3")[1])

    def test_bytes_that_end_within_an_instruction(self):
        status, out, err = run("-show", "guest", "-bytes", "90 48 b8 01 02")
        self.assertEqual((status, err), (0, ""))
        self.assertIn("       1:  48 b8 01 02  (an instruction that goes on behind these bytes)", out)

    def test_too_many_prefixes(self):
        status, out, err = run("-show", "guest", "-bytes", "66 " * 16 + "90")
        self.assertEqual((status, err), (0, ""))
        self.assertIn("#GP(0)", out)

    def test_any_bytes_can_be_shown(self):
        status, out, err = run("-bytes", " ".join(f"{(7 * i * i + 3 * i) & 255:02x}" for i in range(2000)))
        self.assertEqual((status, err), (0, ""))


@unittest.skipUnless(HAVE_BASELINE, "no stencils for this host")
class Baseline(unittest.TestCase):
    def test_host_code_stands_beside_its_instruction(self):
        status, out, err = run("-bytes", LOOP)
        self.assertEqual((status, err), (0, ""))
        self.assertRegex(out, r"(?m)^  \(entry\) +\+0 ")
        self.assertRegex(out, r"(?m)^       0:  48 01 d8 +addq %rbx, %rax +\+[0-9a-f]+ +\w+")
        self.assertRegex(out, r"jmp interpreter_taken_slow")

    def test_alone(self):
        out = run("-show", "baseline", "-bytes", LOOP)[1]
        self.assertNotIn("48 01 d8", out)
        self.assertRegex(out, r"(?m)^\+0 ")

    def test_helpers_have_names(self):
        self.assertRegex(run("-bytes", "48 8b 03")[1], r"\| callq engine_load\w+")


@unittest.skipUnless(HAVE_OPTIMIZER, "built without LLVM")
class Optimizer(unittest.TestCase):
    def test_ir_and_host_code_of_a_loop(self):
        status, out, err = run("-show", "all", "-bytes", LOOP + " c3")
        self.assertEqual((status, err), (0, ""))
        self.assertRegex(out, r"(?m)^region 0x0: 2 blocks, 4 instructions; optimized: \d+ bytes$")
        lifted, optimized = re.findall(r"(?ms)^define preserve_nonecc void @region\(.*?^}", out)
        self.assertLess(len(optimized.splitlines()), 500)
        self.assertIn("vellum-state", lifted)
        self.assertNotIn("vellum-state", optimized)
        self.assertTrue(re.search(r"(?m)^optimized host code\n\+0 ", out))
        self.assertTrue(re.search(r"(?m)^\+[0-9a-f]+ +\w*(jmp|call|bl)\w* region_load", out))

    def test_parts_alone(self):
        self.assertNotIn("define", run("-show", "optimized", "-bytes", LOOP)[1])
        self.assertEqual(run("-show", "ir", "-bytes", LOOP)[1].count("define"), 1)


class Files(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.path = pathlib.Path(self.directory.name) / "code"

    def tearDown(self):
        self.directory.cleanup()

    def show(self, content, *arguments):
        self.path.write_bytes(content)
        return run("-show", "guest", *arguments, str(self.path))

    def test_entry_point_address_and_symbol_of_an_elf_file(self):
        program = elf(bytes.fromhex("909c0fa2c3"), entry=0x401004)
        self.assertIn("  401004:  c3", self.show(program)[1])
        self.assertIn("  401000:  90", self.show(program, "-address", "0x401000")[1])
        out = self.show(program, "-symbol", "work")[1]
        self.assertIn("  401001:  9c", out)
        self.assertIn("  401004:  c3", out)

    def test_unknown_symbol(self):
        status, out, err = self.show(elf(b"\x90\xc3"), "-symbol", "wrok")
        self.assertEqual((status, out), (1, ""))
        self.assertRegex(err, r"^vellum: .*no symbol 'wrok'; did you mean 'work'\?\n$")

    def test_damaged_elf_files(self):
        program = elf(b"\x90\xc3")
        for size in (8, 20, 60, 100, len(program) - 70):
            with self.subTest(size):
                self.assertIn(self.show(program[:size])[0], (0, 1))
        for at in range(16, len(program), 3):
            with self.subTest(at):
                self.assertIn(self.show(program[:at] + b"\xff" + program[at + 1:], "-symbol", "work")[0], (0, 1))

    def test_plain_file(self):
        out = self.show(b"\0" * 16 + b"\xeb\xfe", "-offset", "16", "-address", "0x7c00", "-mode", "16")[1]
        self.assertIn("    7c00:  eb fe                  jmp 0x7c00", out)

    def test_length(self):
        self.assertEqual(self.show(b"\x90" * 100, "-length", "5")[1].count(" nop"), 5)
        self.assertEqual(self.show(b"\x90" * 100)[1].count(" nop"), 64)


class Mistyped(unittest.TestCase):
    def check(self, arguments, pattern, status=2):
        done, out, err = run(*arguments)
        self.assertEqual((done, out), (status, ""))
        self.assertRegex(err, rf"^vellum: .*{pattern}.*\n$")

    def test_messages(self):
        self.check([], "give either a file or -bytes")
        self.check(["-bytes", "9"], "pairs of hexadecimal digits")
        self.check(["-bytes", "9x"], "'x' is no hexadecimal digit")
        self.check(["-mod", "64", "-bytes", "90"], "-mod: unknown option; did you mean '-mode'")
        self.check(["-mode", "48", "-bytes", "90"], "-mode: unknown value '48'")
        self.check(["-show", "gest", "-bytes", "90"], "unknown part 'gest'; did you mean 'guest'")
        self.check(["-bytes", "90", "-symbol", "main"], "go with a file only")
        self.check(["/nonexistent/file"], "/nonexistent/file", status=1)
        self.check(["-monitor", "/nonexistent/socket", "0x1000"], "cannot connect", status=1)


class Running(unittest.TestCase):
    def test_code_of_a_running_guest(self):
        with tempfile.TemporaryDirectory() as directory:
            socket = os.path.join(directory, "monitor")
            boot = os.path.join(directory, "boot.img")
            sector = b"\xfa\xf4\xeb\xfd"  # cli; hlt; jmp to the hlt
            pathlib.Path(boot).write_bytes(sector.ljust(510, b"\0") + b"\x55\xaa")
            vellum = subprocess.Popen([VELLUM, "-display", "none", "-fda", boot, "-boot", "a", "-monitor", f"unix:{socket},server,nowait"],
                                      stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                end = time.monotonic() + 60
                while True:
                    status, out, err = run("-monitor", socket, "-length", "4", "-show", "guest,callouts", "0x7c00") if os.path.exists(socket) else (1, "", "")
                    if "cli" in out or time.monotonic() > end:
                        break
                    time.sleep(0.2)
                self.assertEqual((status, err), (0, ""))
                self.assertRegex(out, r"(?s)block 0x7c00: 16-bit.*    7c00:  fa +cli *\n +=> callout clear_interrupt_flag.*=> callout halt.*jmp 0x7c01\n")
            finally:
                vellum.terminate()
                vellum.wait()


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
