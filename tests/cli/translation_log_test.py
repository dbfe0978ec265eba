#!/usr/bin/env python3
"""What -d and -stats tell of translation: a small program in a firmware image, under each engine.

usage: translation_log_test.py VELLUM
"""
import os
import pathlib
import re
import struct
import subprocess
import sys
import tempfile
import unittest

VELLUM = os.path.abspath(sys.argv[1])
ENGINES = ["interpreter"] + (["baseline"] if "baseline" in subprocess.run(
    [VELLUM, "translate", "-show", "baseline", "-bytes", "90"], capture_output=True, text=True).stdout else [])

if subprocess.run([VELLUM, "translate", "-show", "ir", "-bytes", "90"], capture_output=True).returncode == 0 and "baseline" in ENGINES:
    ENGINES += ["llvm", "tiered"]

# At 7c00h, in RAM: a loop of ten rounds, a store into the instruction behind it, the end by isa-debug-exit.
PROGRAM = bytes.fromhex("b90a00 01c8 e2fc c6060d7c43 90 40 ba0105 b000 ee".replace(" ", ""))
# At f000:e000: copies the program there and goes to it.
LOADER = bytes.fromhex("fa 31c0 8ed8 8ec0 be00e1 bf007c b90000".replace(" ", "")) + \
    bytes.fromhex("2ef3a4 ea007c0000".replace(" ", ""))

# Calls a function that it changes each time, and then, a hundred times, the function as it is left.
REWRITING = bytes.fromhex("b90400 fe061b7c e81000 e2f7 b96400 e80800 e2fb ba0105 b000 ee b000 c3".replace(" ", ""))


def firmware(program):
    image = bytearray(b"\xf4" * 65536)
    loader = LOADER[:LOADER.index(b"\xb9") + 1] + len(program).to_bytes(2, "little") + LOADER[LOADER.index(b"\xb9") + 3:]
    image[0xe000:0xe000 + len(loader)] = loader
    image[0xe100:0xe100 + len(program)] = program
    image[0xfff0:0xfff5] = bytes.fromhex("ea00e000f0")
    return image


class Log(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.TemporaryDirectory()
        cls.path = pathlib.Path(cls.directory.name)
        (cls.path / "bios").write_bytes(firmware(PROGRAM))
        (cls.path / "rewriting").write_bytes(firmware(REWRITING))

    @classmethod
    def tearDownClass(cls):
        cls.directory.cleanup()

    def run_program(self, engine, *arguments, cwd=None, bios="bios"):
        done = subprocess.run([VELLUM, "-display", "none", "-clock", "instructions", "-engine", engine, "-bios", str(self.path / bios),
                               "-device", "isa-debug-exit", *arguments], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, cwd=cwd)
        self.assertEqual(done.returncode, 1, done.stderr)  # 2 * 0 + 1
        return done.stderr

    def lines(self, engine, item):
        path = self.path / "log"
        self.run_program(engine, "-d", item, "-D", str(path))
        lines = path.read_text().splitlines()
        self.assertTrue(all(line.startswith(item + ": ") for line in lines))
        return [line[len(item) + 2:] for line in lines]

    def test_in_asm(self):
        for engine in ENGINES:
            with self.subTest(engine):
                lines = self.lines(engine, "in_asm")
                self.assertRegex(lines[0], r"^0xfff0:  ea 00 e0 00 f0 +ljmpw")
                self.assertIn("0x7c03:  01 c8                          addw %cx, %ax", lines)

    def test_exec_shows_every_round_of_a_loop(self):
        for engine in ENGINES:
            with self.subTest(engine):
                lines = self.lines(engine, "exec")
                self.assertEqual(sum(line.startswith("0000:0x7c03, 2 instructions") for line in lines), 9)
                self.assertRegex(lines[0], r"^f000:0xfff0, 1 instruction")

    def test_callouts(self):
        for engine in ENGINES:
            with self.subTest(engine):
                names = [re.match(r"[0-9a-f]{4}:0x[0-9a-f]+: (\w+)", line).group(1) for line in self.lines(engine, "callouts")]
                self.assertEqual(names, ["jump_far", "clear_interrupt_flag", "move_to_segment", "move_to_segment", "jump_far", "output_dx"])

    def test_smc(self):
        for engine in ENGINES:
            with self.subTest(engine):
                lines = self.lines(engine, "smc")
                self.assertTrue(any(re.match(r"block of \d+ bytes at RAM offset 0x7c07 is overwritten", line) for line in lines), lines)

    @unittest.skipUnless("baseline" in ENGINES, "no stencils for this host")
    def test_op_out_asm_and_tiers(self):
        self.assertIn("0x7c03: add Ev,Gv (01 /r): interpreter's handler, operand size 2", self.lines("baseline", "op"))
        self.assertTrue(any(re.match(r"0x7c13: out DX,AL \(EE\): callout output_dx", line) for line in self.lines("baseline", "op")))
        code = self.lines("baseline", "out_asm")
        self.assertTrue(any(re.search(r"jmp interpreter_callout$", line) for line in code))
        self.assertIn(" guest 0x7c03", code)
        self.assertTrue(any(re.match(r"block 0x7c03: 2 instructions, baseline, \d+ bytes", line) for line in self.lines("baseline", "tiers")))

    @unittest.skipUnless("baseline" in ENGINES, "no stencils for this host")
    def test_code_that_was_rewritten_and_is_translated_later_has_its_address(self):
        path = self.path / "log"
        self.run_program("baseline", "-d", "tiers", "-D", str(path), bios="rewriting")
        translated = [line for line in path.read_text().splitlines() if "baseline" in line]
        # The first two versions at once, the last one when it has been called often enough.
        self.assertEqual(sum("block 0x7c1a: 2 instructions, baseline" in line for line in translated), 3, translated)

    @unittest.skipUnless("baseline" in ENGINES, "no stencils for this host")
    def test_perf_map(self):
        before = set(pathlib.Path("/tmp").glob("perf-*.map"))
        self.run_program("baseline", "-perfmap")
        new = [path for path in set(pathlib.Path("/tmp").glob("perf-*.map")) - before if "guest_0x7c03_baseline" in path.read_text()]
        self.assertEqual(len(new), 1)
        lines = new[0].read_text().splitlines()
        new[0].unlink()
        for line in lines:
            self.assertRegex(line, r"^[0-9a-f]+ [0-9a-f]+ guest_0x[0-9a-f]+_baseline$")

    @unittest.skipUnless("baseline" in ENGINES, "no stencils for this host")
    def test_jit_dump(self):
        for path in self.path.glob("jit-*.dump"):
            path.unlink()
        self.run_program("baseline", "-jitdump", cwd=self.path)
        content, = [path.read_bytes() for path in self.path.glob("jit-*.dump")]
        magic, version, size, machine, _, pid, _, flags = struct.unpack_from("<IIIIIIQQ", content)
        self.assertEqual((magic, version, size, flags), (0x4a695444, 1, 40, 0))
        self.assertIn(machine, (62, 183))
        at, names, last_time, ids = size, [], 0, []
        while at < len(content):
            kind, size, time = struct.unpack_from("<IIQ", content, at)
            self.assertGreaterEqual(time, last_time)
            last_time = time
            ids.append(kind)
            if kind == 0:
                owner, _, virtual, address, length, index = struct.unpack_from("<IIQQQQ", content, at + 16)
                self.assertEqual((owner, virtual, index), (pid, address, len(names)))
                name = content[at + 56:content.index(b"\0", at + 56)]
                self.assertEqual(size, 56 + len(name) + 1 + length)
                names.append(name.decode())
            at += size
        self.assertEqual(at, len(content))
        self.assertEqual(set(ids), {0, 3})
        self.assertEqual(ids[-1], 3)
        self.assertIn("guest_0x7c03_baseline", names)

    def test_statistics(self):
        retired = set()
        for engine in ENGINES:
            for log in ([], ["-d", "exec", "-D", os.devnull]):
                with self.subTest(engine, log=log):
                    text = self.run_program(engine, "-stats", *log)
                    numbers = dict(re.findall(r"(?m)^  (\S.*?) +(\d+)(?:  .*)?$", text))
                    retired.add(numbers["retired"])
                    self.assertEqual(numbers["jump_far"], "2")
                    self.assertEqual(numbers["all"], "6")
                    self.assertGreaterEqual(int(numbers["blocks invalidated"]), 1)
                    translated = int(numbers["in blocks of the interpreter"]) if engine == "interpreter" else \
                        int(numbers["in code of the baseline"]) + int(numbers["in code of the optimizing tier"])
                    self.assertEqual(translated + int(numbers["one by one in the interpreter"]), int(numbers["retired"]))
        # The jump, the loader with its repetition as one, the program.
        self.assertEqual(retired, {str(1 + 9 + 1 + 2 * 10 + 6)})

    def test_the_monitor_tells_no_shares_of_tiers_that_were_not_counted(self):
        for engine in ENGINES:
            for options, counted in (((), engine not in ("llvm", "tiered")), (("-stats",), True)):
                with self.subTest(engine, options=options):
                    done = subprocess.run([VELLUM, "-display", "none", "-engine", engine, "-monitor", "stdio", "-S", *options], capture_output=True, text=True, timeout=60,
                                          input="info jit\nquit\n")
                    self.assertEqual(done.returncode, 0, done.stderr)
                    self.assertEqual("in translated code" in done.stdout, not counted, done.stdout)
                    self.assertEqual("in code of the baseline" in done.stdout, counted and engine != "interpreter", done.stdout)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
