"""Boot tests of recordings: each is a function test_NAME(machine), its docstring says what must hold."""
import contextlib
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "boot_sectors"))

import assemble as boot_sectors  # noqa: E402
import console
import debian
import guests
from boot_tests import _engines, _expect, _replay

ENDED = 33  # what isa-debug-exit makes of the 16 that echo.S writes


@contextlib.contextmanager
def _load(processes):
    """Programs that want the host's processors meanwhile, now and then."""
    script = "import random, time\nwhile True:\n end = time.monotonic() + random.uniform(0, .2)\n while time.monotonic() < end: pass\n time.sleep(random.uniform(0, .1))"
    running = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def _echo(directory, name, network):
    """A disk that begins with echo.S."""
    for program in boot_sectors.PROGRAMS:
        if not shutil.which(program):
            raise debian.Unavailable(f"there is no {program}")
    image, _ = boot_sectors.assemble(HERE / "echo.S", directory, name, size=512, NETWORK=network)
    image.write_bytes(image.read_bytes() + random.Random(1).randbytes(128 * 512))
    return image


def _use(m, chance, network=False):
    """A user who types at random moments."""
    m.expect("ready" + ("[^!]*!" if network else ""), timeout=120)
    for _ in range(chance.randrange(3, 8)):
        time.sleep(chance.uniform(0, 0.1))
        letter = chance.choice("abcdefghijklmnop")
        if chance.random() < 0.5:
            m.monitor(f"sendkey {letter}")
        else:
            m.send(letter)
        if chance.random() < 0.3:
            m.expect(letter, timeout=60)
    m.monitor("sendkey q")
    m.expect("q", timeout=60)
    m.wait(60, status=ENDED)


def _use_network(m, chance):
    """The same, once somebody on the network has answered."""
    _use(m, chance, network=True)


def _linux(m, chance):
    """The kernel unpacks itself and begins, until somebody ends it."""
    m.expect("Linux version", timeout=240)
    time.sleep(chance.uniform(0, 0.3))
    with contextlib.suppress(console.Failure):  # the monitor goes with the machine
        m.monitor("quit")
    m.wait(60)


def test_replays(machine):
    """Twenty recorded runs (boots, disks, network) end in the same state under every engine, with load and a compiler that is slowed and stopped"""
    seed = int.from_bytes(os.urandom(4), "little")
    print(f"seed {seed}")
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as name, _load(1):
        directory = pathlib.Path(name)
        disk, asking = _echo(directory, "disk", 0), _echo(directory, "network", 1)
        common = ("-m", "32", "-device", "isa-debug-exit")
        network = (*common, "-hda", asking, "-netdev", "user,id=n0", "-device", "ne2k_isa,netdev=n0,mac=52:54:00:12:34:56")
        kernel = ("-m", "128", "-kernel", guests.kernel64(), "-append", "console=ttyS0 earlyprintk=serial")
        instructions = ("-clock", "instructions")
        runs = ([("boot", (*common, "-fda", disk), _use, ENDED)] * 3 + [("disk load", (*common, "-hda", disk), _use, ENDED)] * 4 +
                [("disk load, time of instructions", (*common, "-hda", disk, *instructions), _use, ENDED)] * 4 +
                [("network", network, _use_network, ENDED)] * 4 + [("network, time of instructions", (*network, *instructions), _use_network, ENDED)] * 3 +
                [("Linux", kernel, _linux, 0), ("Linux, time of instructions", (*kernel, *instructions), _linux, 0)])
        engines = _engines(machine)
        for number, (what, options, use, status) in enumerate(runs):
            started = time.monotonic()
            recording = directory / f"recording-{number}"
            with machine(*options, "-inject-delay", "2000", "-record", recording) as m:
                use(m, chance)
            ends = {}
            for engine in engines:
                delays = ("-inject-delay", str(chance.choice((0, 200, 5000, 50000)))) if engine == "tiered" else ()
                try:
                    ends[engine] = _replay(machine, (*options, *delays), recording, engine, status, patience=900)
                except console.Failure as failure:
                    # Which engines do is what one wants to know.
                    ends[engine] = (re.findall("the replay departs.*", str(failure)) or [str(failure)])[0]
            _expect(len(set(ends.values())) == 1 and "as it was recorded" in ends[engines[0]], m, f"run {number}, {what}: the engines end differently: {ends}")
            count = re.search(r"(\d+) instructions", next(iter(ends.values())))[1]
            print(f"{number + 1:>2} {what:<34}{int(count):>12} instructions, {recording.stat().st_size:>6} bytes, {', '.join(ends)}: {time.monotonic() - started:.1f} s", flush=True)
