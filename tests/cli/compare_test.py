#!/usr/bin/env python3
"""vellum compare, -record, -replay, -trace and vellum trace, on a boot sector of our own that counts, calls, and takes timer interrupts.

usage: compare_test.py VELLUM
"""
import json
import os
import pathlib
import re
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import unittest

VELLUM = os.path.abspath(sys.argv[1])
HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "boot_sectors"))
import assemble as boot_sectors  # noqa: E402

DISK = 1 << 20  # bytes

# Set up by SeaBIOS in real mode at 0:7c00. sti; loop: add $3, %ax; add $0x11, %bx; mov %ax, 0x600(%si); xor $0x55aa, %cx;
# inc word [0x700]; call f; jmp loop; f: add $7, %dx; adc $5, %di; ret
SECTOR = bytes.fromhex("fb" "83c003" "83c311" "89840006" "81f1aa55" "ff060007" "e80200" "ebe9" "83c207" "83d705" "c3")
SECTOR += bytes(510 - len(SECTOR)) + b"\x55\xaa"


def run(*arguments, timeout=200):
    done = subprocess.run([VELLUM, *map(str, arguments)], capture_output=True, text=True, errors="replace", timeout=timeout, stdin=subprocess.DEVNULL)
    return done.returncode, done.stdout, done.stderr


def need(*programs):
    for program in programs:
        if not shutil.which(program):
            raise unittest.SkipTest(f"there is no {program}")


class Case(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory(prefix="vellum-compare-")
        self.image = self.path("disk.img")
        with open(self.image, "wb") as file:
            file.write(SECTOR + bytes(1 << 20))
        self.machine = ["-m", "16", "-display", "none", "-hda", self.image]

    def tearDown(self):
        self.directory.cleanup()

    def path(self, name):
        return os.path.join(self.directory.name, name)

    def side_by_side(self, name, **symbols):
        """An image that begins with side_by_side.S."""
        need(*boot_sectors.PROGRAMS)
        return str(boot_sectors.assemble(HERE / "side_by_side.S", self.path(""), name, DISK, **{"ADDEND": 1, "COUNT": 16, **symbols})[0])


class Compare(Case):
    def test_two_engines_are_the_same_through_firmware_and_boot_sector(self):
        status, out, err = run("compare", "-engines", "interpreter,tiered", "-until", "60000000", "-every", "5000000", "--", *self.machine)
        self.assertEqual((status, err), (0, ""), out)
        self.assertIn("60000000 instructions", out)

    def test_an_injected_fault_is_found_explained_and_reproduced(self):
        found = 0
        for number in (3, 40, 400):
            report, reproducer = self.path("report"), self.path("reproducer")
            status, out, err = run("compare", "-engines", "interpreter,baseline", "-inject-fault", number, "-until", "30000000", "-every", "200000",
                                   "-report", report, "-reproducer", reproducer, "--", *self.machine)
            self.assertIn(status, (0, 4), err)
            if status == 0:  # that block's wrong field did not matter, or it never ran to its end
                continue
            found += 1
            with open(report) as file:
                text = file.read()
            self.assertRegex(text, r"^interpreter and baseline part behind instruction \d+")
            self.assertIn("\n=> ", text)
            self.assertIn("The CPU before them:", text)
            self.assertIn("The block's host code as baseline had it:", text)
            start, count = map(int, re.search(r"equal after (\d+) and differ after (\d+)", text).groups())
            self.assertLessEqual(count - start, 48, "the way to the difference is longer than a block")
            if os.path.exists(reproducer):
                # Alone, it is as it should be; with the fault it is not.
                status, out, err = run("compare", "-reproduce", reproducer, "-engines", "interpreter,baseline")
                self.assertEqual((status, err), (0, ""), out)
                status, out, err = run("compare", "-reproduce", reproducer, "-engines", "interpreter,baseline", "-inject-fault", 1)
                self.assertEqual((status, err), (4, ""), out)
                self.assertIn("interpreter: as expected", out)
                self.assertIn("baseline: not as expected", out)
                os.remove(reproducer)
                os.remove(report)
        self.assertGreater(found, 0)

    def test_a_fault_in_a_region_is_found_explained_and_reproduced(self):
        engines = re.search(r"-engine (\S+)", run("-help")[1])[1].split("|")
        if "llvm" not in engines:
            self.skipTest("this build has no LLVM")
        reproduced = 0
        # The boot sector's loop is one of the first regions behind the firmware's; "tiered" compiles it by the quick generator.
        for engine, options in (("llvm", ()), ("tiered", ("-hot", "2"))):
            found = 0
            for number in (1, 2, 3, 5, 8, 13):
                report, reproducer = self.path("report"), self.path("reproducer")
                status, out, err = run("compare", "-engines", f"interpreter,{engine}", *options, "-inject-fault", f"region:{number}", "-until", "20000000", "-every", "200000",
                                       "-report", report, "-reproducer", reproducer, "--", *self.machine)
                self.assertIn(status, (0, 4), err)
                if status == 0:
                    continue
                found += 1
                with open(report) as file:
                    text = file.read()
                self.assertRegex(text, rf"^interpreter and {engine} part behind instruction \d+")
                if os.path.exists(reproducer):
                    # Alone and without the fault it is as it should be.
                    status, out, err = run("compare", "-reproduce", reproducer, "-engines", f"interpreter,{engine}")
                    self.assertEqual((status, err), (0, ""), out)
                    status, out, err = run("compare", "-reproduce", reproducer, "-engines", f"interpreter,{engine}", "-hot", "1", "-inject-fault", "region:1")
                    reproduced += status == 4
                    os.remove(reproducer)
                os.remove(report)
                break
            self.assertGreater(found, 0, engine)
        self.assertGreater(reproduced, 0)
        # The baseline has none.
        status, out, err = run("compare", "-engines", "interpreter,baseline", "-inject-fault", "region:1", "--", *self.machine)
        self.assertEqual(status, 2)
        self.assertIn("baseline engine has no regions", err)

    def test_the_report_shows_the_ir_of_an_engine_that_has_one(self):
        engines = re.search(r"-engine (\S+)", run("-help")[1])[1].split("|")
        if "llvm" not in engines:
            self.skipTest("this build has no LLVM")
        report = self.path("report")
        # Which blocks the engine translates first depends on its tiers; one of these is met, and wrong.
        for number in range(5, 60, 5):
            status, out, err = run("compare", "-engines", "interpreter,llvm", "-inject-fault", number, "-until", "1000000", "-every", "200000", "-report", report, "--", *self.machine)
            if status == 4:
                break
        self.assertEqual((status, err), (4, ""), out)
        with open(report) as file:
            text = file.read()
        alone = text[text.index("translated alone"):]
        for part in ("baseline: ", "LLVM IR, as lifted", "LLVM IR, optimized", "host code"):
            self.assertIn(part, alone)

    def test_mistyped_options_are_explained(self):
        for arguments, word in (((), "--"), (("-engines", "interpreter"), "two engines"), (("-engines", "interpreter,teired", "--", "-m", "16"), "tiered"),
                                (("-evry", "3"), "-every"), (("-until",), "value is missing")):
            status, out, err = run("compare", *arguments)
            self.assertEqual(status, 2, err)
            self.assertIn(word, err)

    def test_a_damaged_reproducer_is_refused(self):
        for text in ("vellum reproducer 1\n", "vellum reproducer 1\nstate xx\nend\n", "vellum reproducer 1\npage 123 00\nend\n", "vellum reproducer 1\nend\n"):
            with open(self.path("file"), "w") as file:
                file.write(text)
            status, out, err = run("compare", "-reproduce", self.path("file"))
            self.assertEqual(status, 1, text)
            self.assertIn("reproducer", err)


class TwoMachines(Case):
    def image_with(self, name, sector):
        path = self.path(name)
        with open(path, "wb") as file:
            file.write(sector + bytes(1 << 20))
        return path

    def test_images_that_differ_in_one_instruction_part_behind_it(self):
        # adc $5, %di becomes adc $6, %di.
        other = self.image_with("other.img", SECTOR.replace(bytes.fromhex("83d705"), bytes.fromhex("83d706")))
        status, out, err = run("compare", "-until", "30000000", "-every", "5000000", "--", *self.machine, "--", *self.machine[:-1], other)
        self.assertEqual((status, err), (4, ""), out)
        self.assertRegex(out, r"^The CPUs of the first machine and the second machine part behind instruction \d+")
        self.assertIn("Their complete states differ behind instruction", out)  # where the sector was read
        self.assertRegex(out, r"=> +\d+ +0x0*7c1b: 83 d7 05 +adcw \$5, %di\n +the second machine +0x0*7c1b: 83 d7 06 +adcw \$6, %di")
        self.assertRegex(out, r"cpu0\.gpr\[7\] += 0x0*5 +0x0*6\n")

    def test_images_that_differ_where_nothing_runs_are_the_same(self):
        other = self.image_with("other.img", SECTOR[:-3] + b"\1\x55\xaa")
        status, out, err = run("compare", "-until", "14200000", "-every", "5000000", "--", *self.machine, "--", *self.machine[:-1], other)
        self.assertEqual((status, err), (0, ""), out)

    def test_cpu_models_part_at_cpuid(self):
        # mov $1, %eax; cpuid; mov %ecx, 0x600; jmp .
        image = self.image_with("cpuid.img", bytes.fromhex("66b801000000" "0fa2" "66890e0006" "ebfe").ljust(510, b"\0") + b"\x55\xaa")
        status, out, err = run("compare", "-until", "14000000", "-cpu", "nehalem,-sse4.2", "-differences", "2", "--", *self.machine[:-1], image, "-cpu", "nehalem")
        self.assertEqual((status, err), (4, ""), out)
        self.assertRegex(out, r"=> +\d+ +0x0*7c06: 0f a2 +cpuid")
        # CPUID.1:ECX.SSE4_2 is bit 20 (SDM Vol. 2A, CPUID).
        before, behind = re.search(r"cpu0\.gpr\[1\] += (0x[0-9a-f]+) +(0x[0-9a-f]+)\n", out).groups()
        self.assertEqual(int(before, 16) ^ int(behind, 16), 1 << 20)
        self.assertIn("There are no more up to instruction 14000000.", out)

    def test_cpu_models_part_at_an_instruction_and_the_reproducer_shows_it(self):
        reproducer = self.path("reproducer")
        # mov $0x7c00, %sp; popcnt %ax, %cx; jmp .
        image = self.image_with("popcnt.img", bytes.fromhex("bc007c" "f30fb8c8" "ebfe").ljust(510, b"\0") + b"\x55\xaa")
        status, out, err = run("compare", "-until", "14000000", "-cpu", "nehalem,-popcnt", "-reproducer", reproducer, "--", *self.machine[:-1], image, "-cpu", "nehalem")
        self.assertEqual((status, err), (4, ""), out)
        self.assertRegex(out, r"=> +\d+ +0x0*7c03: f3 0f b8 c8 +popcntw %ax, %cx\n")
        for engines, first, second in (([], "tiered", "tiered"), (["-engines", "interpreter,tiered"], "interpreter", "tiered")):
            status, out, err = run("compare", "-reproduce", reproducer, *engines, "-cpu", "nehalem,-popcnt")
            self.assertEqual((status, err), (4, ""), out)
            self.assertRegex(out, rf"^{first}, -cpu nehalem: as expected[^\n]*\n{second}, -cpu nehalem,-popcnt: not as expected:\n")
            # Its handler is not in the reproducer, so it raises exceptions for ever, with a stack that goes all through memory.
            self.assertLessEqual(out.count("\nmemory "), 16)
            self.assertRegex(out, r"\nand \d+ more bytes of memory\n")

    def test_a_report_that_cannot_be_written_is_told_of_before_anything_is_compared(self):
        for option in ("-report", "-reproducer"):
            status, out, err = run("compare", option, self.path("nothing/there"), "-until", "1000", "--", *self.machine)
            self.assertEqual((status, out), (1, ""))
            self.assertRegex(err, r"^vellum: .*nothing/there: cannot create the file: No such file or directory\n$")
            status, out, err = run("compare", option, self.path("not-needed"), "-until", "1000", "--", *self.machine)
            self.assertEqual((status, err), (0, ""))
            self.assertFalse(os.path.exists(self.path("not-needed")))

    def test_a_wrong_count_keeps_the_host_busy_for_seconds_only(self):
        # The second machine's REP STOSB writes to two gigabytes in which there is nothing.
        first, second = self.side_by_side("first"), self.side_by_side("second", COUNT=0x7ff00000)
        status, out, err = run("compare", "-until", "30000000", "-every", "2000000", "--", *self.machine[:-1], first, "--", *self.machine[:-1], second, timeout=60)
        self.assertEqual((status, err), (4, ""), out)
        self.assertRegex(out, r"=> .*movl \$0x10, %ecx")

    def test_machines_that_cannot_be_compared_are_refused(self):
        status, out, err = run("compare", "--", *self.machine, "--", "-m", "32", *self.machine[2:])
        self.assertEqual(status, 1)
        self.assertIn("different amounts of memory", err)
        for arguments, word in ((("-cpu", "486", "--", "-m", "16", "--", "-m", "16"), "second machine"), (("-from", "5", "--", "-m", "16"), "-qemu"),
                                (("-qemu", "unix:x", "-cpu", "486", "--", "-m", "16"), "one machine"), (("-memory", "5", "-qemu", "x", "--", "-m", "16"), "size")):
            status, out, err = run("compare", *arguments)
            self.assertEqual(status, 2, err)
            self.assertIn(word, err)


class ForgetfulStub(threading.Thread):
    """Hands on what a gdb server and its client say, but for some registers' values in the answer to "g": those are sent as unknown."""

    def __init__(self, path, server, untold):
        super().__init__(daemon=True)
        self.server, self.untold = server, untold
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(1)
        self.start()

    def run(self):
        with self.listener:
            client = self.listener.accept()[0]
        server = socket.socket(socket.AF_UNIX)
        server.connect(self.server)
        asked, answer = b"", b""
        while True:
            for source in select.select([client, server], [], [])[0]:
                data = source.recv(65536)
                if not data:
                    client.close()
                    server.close()
                    return
                if source is client:
                    asked = data
                    server.sendall(data)
                    continue
                answer += data
                while (frame := re.match(rb"[^$]*\$([^#]*)#..", answer)) or (answer and b"$" not in answer):
                    whole = frame[0] if frame else answer
                    answer = answer[len(whole):]
                    if frame and b"$g#" in asked:
                        values = bytearray(frame[1])
                        for first, last in self.untold:
                            values[2 * first:2 * last] = b"x" * (2 * (last - first))
                        whole = whole[:whole.index(b"$")] + b"$" + values + b"#%02x" % (sum(values) & 0xff)
                    client.sendall(whole)


class BesideQemu(Case):
    def compare(self, ours, theirs, *arguments, untold=()):
        """`untold` are registers that the stub has no value for: first and last byte of each in the answer to "g"."""
        need("qemu-system-x86_64")
        server = self.path("stub")
        qemu = subprocess.Popen(["qemu-system-x86_64", "-S", "-gdb", f"unix:{server},server,nowait", "-display", "none", "-m", "16", "-monitor", "none", "-serial", "none",
                                 "-drive", f"file={theirs},format=raw,snapshot=on", "-device", "isa-debug-exit"], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            for _ in range(200):
                if os.path.exists(server) or qemu.poll() is not None:
                    break
                try:
                    qemu.wait(0.05)
                except subprocess.TimeoutExpired:
                    pass
            stub = server
            if untold:
                stub = self.path("forgetful")
                ForgetfulStub(stub, server, untold)
            return run("compare", "-qemu", f"unix:{stub}", *arguments, "--", "-m", "16", "-display", "none", "-hda", ours, "-device", "isa-debug-exit")
        finally:
            qemu.kill()
            qemu.wait()

    def test_a_program_runs_alike_through_every_mode(self):
        image = self.side_by_side("disk")
        status, out, err = self.compare(image, image, "-from", "0x7c00", "-memory", "0x1000,512", "-memory", "0x2000,16")
        self.assertEqual((status, err), (0, ""), out)
        self.assertIn("until: both machines ended", out)
        self.assertRegex(out, r"\n1\d\d instructions were compared; behind [12] of them")  # CPUID, and IN where the port's refresh bit differs

    def test_another_instruction_is_found_and_reproduced(self):
        reproducer = self.path("reproducer")
        status, out, err = self.compare(self.side_by_side("ours"), self.side_by_side("theirs", ADDEND=2), "-from", "0x7c00", "-reproducer", reproducer)
        self.assertEqual((status, err), (4, ""), out)
        self.assertRegex(out, r"=> .*leaq 1\(%r8, %rcx\), %r8\n")
        ours, theirs = re.search(r"\n  r8 +(0x[0-9a-f]+) (0x[0-9a-f]+)\n", out).groups()
        self.assertEqual(int(theirs, 16) - int(ours, 16), 1)
        status, out, err = run("compare", "-reproduce", reproducer)
        self.assertEqual((status, err), (4, ""), out)
        self.assertIn(f"gpr[8] = {ours}, expected {theirs}", out)

    # QEMU's "g": sixteen general registers of 8 bytes, rip, eflags.
    R8, R9, RIP = (64, 72), (72, 80), (128, 136)

    def test_registers_without_a_value_are_named_and_left_out(self):
        image = self.side_by_side("disk.img")
        arguments = ("-from", "0x7c00", "-memory", "0x1000,512", "-memory", "0x2000,16")
        status, out, err = self.compare(image, image, *arguments, untold=(self.R9,))
        self.assertEqual((status, err), (0, ""), out)
        self.assertIn("until: both machines ended", out)
        self.assertRegex(out, r"not compared: r9\n")

    def test_a_difference_in_a_register_without_a_value_is_not_claimed(self):
        status, out, err = self.compare(self.side_by_side("ours.img"), self.side_by_side("theirs.img", ADDEND=2), "-from", "0x7c00", untold=(self.R8,))
        self.assertIn(status, (0, 4), err)
        self.assertNotRegex(out, r"\n  r8 +0x")
        self.assertRegex(out, r"(not compared|did not tell their values): r8\n")

    def test_without_the_program_counter_nothing_can_be_compared(self):
        image = self.side_by_side("disk.img")
        status, out, err = self.compare(image, image, "-from", "0x7c00", untold=(self.RIP,))
        self.assertEqual((status, out), (1, ""))
        self.assertIn("rip", err)

    def test_memory_that_differs_is_found(self):
        status, out, err = self.compare(self.side_by_side("ours"), self.side_by_side("theirs", ADDEND=2), "-from", "0x7c00", "-memory", "0x7d00,4", "-until", "1")
        self.assertEqual((status, err), (0, ""), out)  # made the same at the beginning

    def test_the_firmware_runs_alike_between_its_accesses_to_devices(self):
        image = self.side_by_side("disk")
        status, out, err = self.compare(image, image, "-until", "3000")
        self.assertEqual((status, err), (0, ""), out)
        self.assertIn("3000 instructions were compared", out)

    def test_a_stub_that_is_none_is_refused(self):
        for where, word in (("unix:/nowhere", "start the other emulator"), ("tcp:1", "unix:PATH"), ("x", "unix:PATH")):
            status, out, err = run("compare", "-qemu", where, "--", *self.machine)
            self.assertEqual(status, 1)
            self.assertIn(word, err)


class Recording(Case):
    def test_a_recording_replays_and_others_are_refused(self):
        recording = self.path("recording")
        arguments = [*self.machine, "-clock", "instructions", "-device", "isa-debug-exit"]
        first = run(*arguments, "-record", recording, "-state-hash", "1000000,40000000")
        self.assertEqual(first[0], 0, first[2])
        for engine in ("interpreter", "tiered"):
            status, out, err = run(*arguments, "-replay", recording, "-engine", engine, "-state-hash", "1000000,40000000")
            self.assertEqual(status, 0, err)
            self.assertEqual(re.findall("state after.*", err), re.findall("state after.*", first[2]))
        status, out, err = run(*arguments, "-replay", recording)
        self.assertEqual(status, 0, err)
        self.assertIn("the replay ended as it was recorded: 40000000 instructions", err)
        with open(self.image, "r+b") as file:
            file.write(b"\x90")
        status, out, err = run(*arguments, "-replay", recording)
        self.assertEqual(status, 1)
        self.assertRegex(err, "not the machine that was recorded: the recording has ide0-0=.*, this machine has ide0-0=")

    def test_options_that_do_not_fit_are_refused(self):
        for arguments, word in ((("-record", "a", "-replay", "b"), "do not go together"), (("-history", "64"), "-clock instructions"), (("-history", "1"), "out of range"),
                                (("-replay", "file,end=now"), "end"), (("-trace", "interupt"), "interrupt"), (("-trace", "port,address=9-1"), "range"),
                                (("-trace", "file=x"), "no event")):
            status, out, err = run("-display", "none", *arguments)
            self.assertEqual(status, 2, arguments)
            self.assertIn(word, err)
        status, out, err = run(*self.machine, "-replay", "/nowhere")
        self.assertEqual(status, 1)
        self.assertIn("/nowhere: cannot open", err)


def profile_data(page):
    return json.loads(re.search(r"^const data=(.*?);$", page, re.MULTILINE | re.DOTALL)[1])


class Profile(Case):
    def test_the_page_is_whole_and_shows_where_the_guest_is(self):
        page = self.path("page.html")
        status, out, err = run(*self.machine, "-clock", "instructions", "-state-hash", "60000000", "-profile", f"{page},every=10007")
        self.assertEqual(status, 0, err)
        with open(page) as file:
            text = file.read()
        self.assertNotRegex(text, r"(src|href)\s*=|https?://(?!www.w3.org/2000/svg)")
        data = profile_data(text)
        self.assertEqual(data["samples"], 60000000 // 10007)
        self.assertEqual(data["flame"]["v"], data["samples"])
        self.assertEqual(sum(samples for mode, samples in data["modes"]), data["samples"])
        # The boot sector's loop is where it ends, and what it is made of is shown.
        lines = [line for function in data["functions"] for line in function["code"]]
        self.assertTrue(any(line[0] == "0x7c01" and "add" in line[3] for line in lines), lines[:5])

    def test_code_that_was_overwritten_keeps_its_cost(self):
        # 7c00 cli; xor ax, ax; mov ds, ax; mov es, ax; mov ss, ax; mov sp, 7000h; mov ecx, 10,000,000
        # 7c12 dec ecx; jnz 7c12; mov di, 7c12h; mov al, 90h; mov cx, 4; cld; rep stosb; jmp $
        with open(self.image, "r+b") as file:
            file.write(bytes.fromhex("fa31c08ed88ec08ed0bc0070" "66b980969800" "6649" "75fc" "bf127c" "b090" "b90400" "fc" "f3aa" "ebfe"))
        page = self.path("page.html")
        status, out, err = run(*self.machine, "-engine", "baseline", "-clock", "instructions", "-state-hash", "40000000", "-profile", f"{page},every=10007")
        self.assertEqual(status, 0, err)
        with open(page) as file:
            lines = {line[0]: line for function in profile_data(file.read())["functions"] for line in function["code"]}
        loop = lines["0x7c12"]
        self.assertEqual(loop[2], "66 49")
        self.assertGreater(loop[1], 500)
        self.assertGreater(loop[5], 0, "host bytes")

    def test_the_command_is_the_option(self):
        page = self.path("page.html")
        status, out, err = run("profile", f"{page},every=10007", "--", *self.machine, "-clock", "instructions", "-state-hash", "20000000")
        self.assertEqual(status, 0, err)
        with open(page) as file:
            self.assertEqual(profile_data(file.read())["samples"], 20000000 // 10007)
        for arguments in ((), (page,), ("a", "b", "--"), ("-every", "--")):
            status, out, err = run("profile", *arguments)
            self.assertEqual((status, out), (2, ""))
            self.assertIn("usage: vellum profile", err)

    def test_a_guest_whose_time_is_known(self):
        need(*boot_sectors.PROGRAMS)
        image, elf = boot_sectors.assemble(HERE / "profile_guest.S", self.path(""), size=DISK)
        for engine in ("interpreter", "baseline", "llvm"):
            page = self.path("page.html")
            status, out, err = run("-m", "64", "-display", "none", "-hda", image, "-engine", engine, "-symbols", elf, "-clock", "instructions",
                                   "-state-hash", "60000000", "-profile", f"{page},every=10007")
            self.assertEqual(status, 0, err)
            with open(page) as file:
                data = profile_data(file.read())
            functions = {function["n"]: function for function in data["functions"]}
            top = data["functions"][0]
            self.assertEqual(top["n"], "hot", engine)
            of_guest = sum(functions[name]["self"] for name in ("main", "outer", "hot", "cold", "patcher", "patched", "toucher") if name in functions)
            self.assertGreater(top["self"], 0.9 * of_guest)
            # By call stack: all of it below main, outer, hot.
            node = data["flame"]
            for name in ("main", "outer", "hot"):
                node = next(callee for callee in node["c"] if callee["n"] == name)
            self.assertGreater(node["v"], 0.9 * of_guest)
            # Its two instructions, with what they cost.
            loop = {line[3].split()[0]: line for line in top["code"]}
            self.assertLessEqual({"decl", "jne"}, set(loop))
            self.assertGreater(loop["decl"][1] + loop["jne"][1], 0.95 * top["self"])
            optimized, baseline, interpreter = top["tiers"]
            if engine == "interpreter":
                self.assertEqual((optimized, baseline), (0, 0))
                self.assertEqual(loop["decl"][5:8], [0, 0, 0])
            else:
                # An instruction of one operation in a register is one to a handful of the host's.
                self.assertTrue(1 <= loop["decl"][5] <= 200, loop)
                self.assertGreater(optimized if engine == "llvm" else baseline, 0.9 * top["self"], engine)
                if engine == "llvm":
                    self.assertGreater(loop["decl"][8], 0)
                # The rounds are known: about 2,060 instructions make one, and each overwrites `patched` once.
                self.assertEqual(data["overwriters"][0][0], "patcher")
            # (Others are the firmware's.)
            walks = dict(data["walks"])
            self.assertIn("toucher", walks)
            self.assertLessEqual({"0x1000000", "0x2000000"}, {name.split()[0] for name, count in data["walkedPages"]})
            rounds = of_guest * 10007 / 2060
            self.assertTrue(0.8 * rounds < walks["toucher"] / 2 < 1.25 * rounds, (walks, rounds))
            self.assertIn("cpuid", " ".join(name for name, count in data["callouts"]))

    def test_a_profile_changes_nothing(self):
        arguments = [*self.machine, "-clock", "instructions", "-state-hash", "20000000"]
        self.assertEqual(run(*arguments), run(*arguments, "-profile", self.path("page.html")))


class Traces(Case):
    def test_events_are_written_filtered_summarized_and_exported(self):
        arguments = [*self.machine, "-clock", "instructions", "-state-hash", "40000000"]
        text = self.path("text")
        status, out, err = run(*arguments, "-trace", f"port,address=0x70-0x71,file={text}")
        self.assertEqual(status, 0, err)
        with open(text) as file:
            lines = file.read().splitlines()
        self.assertGreater(len(lines), 10)
        for line in lines:
            self.assertRegex(line, r"^\d+ \d+ 0x[0-9a-f]+ (real|protected16|protected32) port 0x7[01] (read|write) 1 byte 0x[0-9a-f]+$")
        counts = [int(line.split()[0]) for line in lines]
        self.assertEqual(counts, sorted(counts))

        binary = self.path("binary")
        status, out, err = run(*arguments, "-trace", f"interrupt,mode,disk,port,file={binary},format=binary")
        self.assertEqual(status, 0, err)
        status, out, err = run("trace", "summarize", binary)
        self.assertEqual(status, 0, err)
        self.assertRegex(out, r"port 0x70 read")
        self.assertRegex(out, r"\ninterrupt: \d+\n")
        self.assertRegex(out, r"\nmode: \d+\n")
        self.assertRegex(out, r"\ndisk: \d+\n")
        status, out, err = run("trace", "export", binary, self.path("json"))
        self.assertEqual(status, 0, err)
        with open(self.path("json")) as file:
            events = json.load(file)["traceEvents"]
        self.assertTrue(all(event["ph"] in "MiX" for event in events))
        self.assertTrue(any(event.get("name") == "protected32" and event["ph"] == "X" and event["dur"] > 0 for event in events))

        instructions = self.path("instructions")
        status, out, err = run(*self.machine, "-clock", "instructions", "-state-hash", "1000", "-trace", f"instruction,range=0-9,file={instructions}")
        self.assertEqual(status, 0, err)
        with open(instructions) as file:
            lines = file.read().splitlines()
        self.assertEqual([int(line.split()[0]) for line in lines], list(range(10)))
        self.assertIn(" 0xfffffff0 real instruction", lines[0])
        # Only what is within the range is run one by one, and all of that.
        status, out, err = run(*self.machine, "-clock", "instructions", "-state-hash", "2000000", "-stats", "-trace", f"instruction,range=1000000-1000099,file={instructions}")
        self.assertEqual(status, 0, err)
        with open(instructions) as file:
            self.assertEqual([int(line.split()[0]) for line in file.read().splitlines()], list(range(1000000, 1000100)))
        self.assertLess(int(re.search(r"one by one in the interpreter +(\d+)", err)[1]), 100000)

    def test_every_kind_of_event_at_the_instruction_that_makes_it(self):
        need(*boot_sectors.PROGRAMS, "nm")
        image, elf = boot_sectors.assemble(HERE / "trace_guest.S", self.path(""), size=DISK)
        names = {int(line.split()[0], 16): line.split()[2] for line in subprocess.run(["nm", elf], check=True, capture_output=True, text=True).stdout.splitlines()}

        def events(what):
            text = self.path("text")
            status, out, err = run(*self.machine[:-1], image, "-clock", "instructions", "-state-hash", "15000000", "-trace", f"{what},rip=0x7c00-0x7dff,file={text}")
            self.assertEqual(status, 0, err)
            with open(text) as file:
                fields = [line.split(maxsplit=4) for line in file.read().splitlines()]
            return [(names.get(int(rip, 16), rip), mode, event) for count, time, rip, mode, event in fields]
        apic_base = 0xfee00900  # IA32_APIC_BASE of the bootstrap processor, SDM Vol. 3A 11.4.4
        whole = [
            ("undefined", "real", "exception vector 0x6 error 0x0"),
            ("call_bios", "real", "interrupt vector 0x10"),
            ("write_port", "real", "port 0x80 write 1 byte 0x5a"),
            ("read_port", "real", "port 0x92 read 1 byte"),
            ("write_cr0", "protected16", "mode protected16 from real"),
            ("write_cr0", "protected16", "control CR0 0x11"),
            ("to_protected", "protected32", "mode protected32 from protected16"),
            ("write_cr4", "protected32", "control CR4 0x10"),
            ("write_cr3", "protected32", "control CR3 0x9000"),
            ("enable_paging", "protected32", "control CR0 0x80000011"),
            ("touch", "protected32", "page-fault address 0x800010 error 0x2"),
            ("touch", "protected32", "exception vector 0xe error 0x2"),
            ("read_apic", "protected32", "mmio 0xfee00020 read 4 bytes 0x0"),
            ("read_msr", "protected32", f"msr 0x1b read {apic_base:#x}"),
            ("write_msr", "protected32", f"msr 0x1b write {apic_base:#x}"),
        ]
        found = [(name, mode, re.sub(r"(port 0x92 read 1 byte) .*", r"\1", event)) for name, mode, event in events("all")]
        # What one instruction does may come in either order.
        self.assertEqual(sorted(found), sorted(whole))
        self.assertEqual([name for name, mode, event in found], [name for name, mode, event in whole])
        # Each kind alone, and by address and mode.
        for kind in ("interrupt", "exception", "page-fault", "port", "mmio", "msr", "control", "mode"):
            self.assertEqual([name for name, mode, event in events(kind)], [name for name, mode, event in whole if event.split()[0] == kind], kind)
        for what, wanted in (("all,mode=real", ["undefined", "call_bios", "write_port", "read_port"]), ("all,mode=real+protected16,address=0x80-0x9f", ["write_port", "read_port"]),
                             ("msr,address=0x1b", ["read_msr", "write_msr"]), ("mmio,address=0xfee00020-0xfee00023", ["read_apic"]), ("page-fault,address=0x800000-0x8fffff", ["touch"]),
                             ("page-fault,address=0x900000-0x9fffff", []), ("exception,mode=long64", [])):
            self.assertEqual([name for name, mode, event in events(what)], wanted, what)

    def test_memory_accesses_are_those_of_the_program(self):
        # 7c00 cli; xor ax, ax; mov ds, ax; mov es, ax; mov ss, ax; mov sp, 7000h; cld
        # 7c0d inc word [700h]; push ax; pop bx; mov si, 710h; mov di, 720h; mov cx, 3; rep movsb; mov eax, [730h]; jmp 7c0d
        with open(self.image, "r+b") as file:
            file.write(bytes.fromhex("fa31c08ed88ec08ed0bc0070fc" "ff060007" "50" "5b" "be1007" "bf2007" "b90300" "f3a4" "66a13007" "ebe7"))
        one_round = [(0x7c0d, 0x700, "read", 2), (0x7c0d, 0x700, "write", 2), (0x7c11, 0x6ffe, "write", 2), (0x7c12, 0x6ffe, "read", 2),
                     *[(0x7c1c, address, kind, 1) for i in range(3) for address, kind in ((0x710 + i, "read"), (0x720 + i, "write"))], (0x7c1e, 0x730, "read", 4)]
        whole = None
        for engine in ("interpreter", "baseline", "tiered"):
            text = self.path(f"text-{engine}")
            status, out, err = run(*self.machine, "-engine", engine, "-clock", "instructions", "-state-hash", "14100000",
                                   "-trace", f"memory,rip=0x7c00-0x7dff,mode=real,cpu=0,range=13000000-14050000,file={text}")
            self.assertEqual(status, 0, err)
            with open(text) as file:
                lines = [re.fullmatch(r"(\d+) \d+ (0x[0-9a-f]+) real memory (0x[0-9a-f]+) (read|write) (\d) bytes? (0x[0-9a-f]+)", line) for line in file.read().splitlines()]
            events = [(int(m[2], 16), int(m[3], 16), m[4], int(m[5])) for m in lines]
            self.assertGreater(len(events), 10000)
            self.assertEqual(events[:len(one_round) * 1000], one_round * 1000)
            values = [int(m[6], 16) for m in lines]
            counted = values[1:len(one_round) * 1000:len(one_round)]
            self.assertEqual(counted, [(counted[0] + i) & 0xffff for i in range(1000)], "INC goes up by one each round")
            # Each round has as many instructions.
            counts = [int(m[1]) for m in lines[::len(one_round)]]
            self.assertEqual(len({b - a for a, b in zip(counts[:1000], counts[1:1000])}), 1)
            whole = whole or (counts[0], values[:5000])
            self.assertEqual((counts[0], values[:5000]), whole, engine)
        binary = self.path("binary")
        run(*self.machine, "-clock", "instructions", "-state-hash", "14100000", "-trace", f"memory,address=0x700-0x71f,range=14000000-14050000,file={binary},format=binary")
        status, out, err = run("trace", "summarize", binary)
        self.assertEqual(status, 0, err)
        self.assertRegex(out, r"\nmemory: \d+\n.*\n +\d+ +\d+\.\d% +page 0x0 read +0x7c")
        self.assertEqual(run("trace", "export", binary, self.path("json"))[0], 0)
        with open(self.path("json")) as file:
            names = {event.get("name") for event in json.load(file)["traceEvents"]}
        self.assertLessEqual({"page 0x0 read", "page 0x0 write"}, names)
        status, out, err = run(*self.machine, "-trace", "memory,cpu=1")
        self.assertEqual(status, 1)
        self.assertIn("cpu=1: the machine has 1 CPU", err)
        if os.path.exists("/dev/full"):
            status, out, err = run(*self.machine, "-clock", "instructions", "-state-hash", "1000000", "-trace", "instruction,file=/dev/full")
            self.assertEqual(status, 1)
            self.assertIn("/dev/full", err)

    def test_a_trace_changes_nothing(self):
        arguments = [*self.machine, "-clock", "instructions", "-state-hash", "20000000"]
        plain = run(*arguments)
        traced = run(*arguments, "-trace", f"all,memory,file={self.path('trace')},format=binary")
        self.assertEqual(plain[0], 0)
        self.assertEqual(plain, traced)

    def test_damaged_traces_are_refused(self):
        for contents in (b"", b"VELTRC1\n" + b"\xff" * 48, b"\x1f\x8b\x08\x00garbage"):
            with open(self.path("file"), "wb") as file:
                file.write(contents)
            status, out, err = run("trace", "summarize", self.path("file"))
            self.assertEqual(status, 1, contents)
            self.assertIn("trace", err)
        self.assertEqual(run("trace", "sumarize", "x")[0], 2)
        self.assertEqual(run("trace", "summarize", "/nowhere")[0], 1)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[2:])
