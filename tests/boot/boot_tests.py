"""The boot tests: each takes a function that makes a machine from vellum's options."""
import re

import guests


def _shell(machine, timeout):
    """From power-on to the prompt of the busybox shell on the serial line."""
    machine.expect(r"SHELL-READY", timeout=timeout)
    machine.expect(r"vellum:[^\n]*# ", timeout=60)


def _expect(condition, machine, what):
    if not condition:
        from console import Failure
        raise Failure(f"{what}\n{machine.describe()}")


def test_linux64_kernel(machine):
    """Debian's 64-bit kernel to a busybox shell, by -kernel"""
    with machine("-m", "512", "-kernel", guests.kernel64(), "-initrd", guests.initrd64(),
                 "-append", "console=ttyS0 panic=-1") as m:
        _shell(m, 240)
        _expect("x86_64" in m.command("uname -m"), m, "uname -m does not say x86_64")
        _expect("8" == m.command("sh -c 'echo $((3 + 5))'").strip(), m, "the shell cannot add")
        # Every interrupt and timer source that the kernel picked must be alive.
        m.command("sleep 1")
        log = m.command("dmesg | grep -E 'BUG:|WARNING: CPU|Oops|Call Trace|soft lockup|detected stall|unstable'")
        _expect(not log.strip(), m, f"the kernel complained:\n{log}")
        m.send("poweroff -f\n")
        m.wait(60)


def test_linux32_kernel(machine):
    """Debian's 32-bit PAE kernel to a busybox shell, by -kernel"""
    with machine("-m", "512", "-kernel", guests.kernel32(), "-initrd", guests.initrd32(),
                 "-append", "console=ttyS0 panic=-1") as m:
        _shell(m, 240)
        _expect("i686" in m.command("uname -m"), m, "uname -m does not say i686")
        m.send("poweroff -f\n")
        m.wait(60)


def test_state_hash(machine):
    """With -clock instructions a Linux boot has the same state hash at the same instruction counts under every engine"""
    with machine("-help") as m:
        m.wait(60)
        engines = re.search(r"-engine (\S+)", m.serial)[1].split("|")
    hashes = {}
    for engine in engines:
        # The last is well behind the start of user space; the odd ones are no multiple of anything.
        with machine("-engine", engine, "-clock", "instructions", "-m", "256", "-kernel", guests.kernel64(), "-initrd", guests.initrd64(),
                     "-append", "console=ttyS0", "-state-hash", "1,1234567,50000000,200000001,1000000000,3000000000,7000000000") as m:
            m.wait(600)
            hashes[engine] = re.findall(r"state after \d+ instructions: [0-9a-f]{16}", m.serial)
            _expect(len(hashes[engine]) == 7, m, f"{engine}: not seven hashes: {hashes[engine]}")
            _expect("SHELL-READY" in m.serial, m, f"{engine}: the shell was not reached")
            _expect(hashes[engine] == hashes[engines[0]], m, f"{engine}: {hashes[engine]}, {engines[0]}: {hashes[engines[0]]}")


def test_snapshot(machine):
    """savevm in one process, loadvm in another, and the guest goes on where it was"""
    import tempfile
    options = ("-m", "256", "-kernel", guests.kernel64(), "-initrd", guests.initrd64(), "-append", "console=ttyS0 quiet")
    with tempfile.TemporaryDirectory() as directory:
        with machine(*options) as m:
            _shell(m, 240)
            m.command("echo remembered > /tmp/note")
            m.monitor("stop")
            answer = m.monitor(f"savevm {directory}/state")
            _expect(not answer.strip(), m, f"savevm said {answer}")
        with machine(*options, "-S") as m:
            answer = m.monitor(f"loadvm {directory}/state")
            _expect(not answer.strip(), m, f"loadvm said {answer}")
            m.monitor("cont")
            _expect("remembered" in m.command("cat /tmp/note"), m, "the note is gone")
            m.send("poweroff -f\n")
            m.wait(60)


def test_grub_iso(machine):
    """A CD-ROM by grub-mkrescue (El Torito) to GRUB's prompt, where a file is read"""
    with machine("-cdrom", guests.grub_iso(), "-boot", "d") as m:
        m.expect_screen(r"grub> *$", timeout=60)
        m.type("cat /hello.txt\n")
        m.expect_screen(r"a file on the CD-ROM", timeout=30)


def test_syslinux_floppy(machine):
    """Syslinux from a floppy to its prompt, which answers the keyboard"""
    with machine("-fda", guests.syslinux_floppy(), "-boot", "a") as m:
        m.expect_screen(r"SYSLINUX-READS-ITS-CONFIGURATION", timeout=60)
        m.expect_screen(r"boot: *$", timeout=30)
        m.type("nonesuch\n")
        m.expect_screen(r"[Cc]ould not find|not found|No such", timeout=30)


def _linux_from_disk(machine, disk, architecture):
    with machine("-m", "512", "-hda", disk, "-snapshot") as m:
        _shell(m, 400)
        _expect(architecture in m.command("uname -m"), m, f"uname -m does not say {architecture}")
        m.send("poweroff -f\n")
        m.wait(60)


def test_linux64_disk(machine):
    """Debian's 64-bit kernel from an IDE disk through GRUB 2"""
    _linux_from_disk(machine, guests.grub_disk(), "x86_64")


def test_linux32_disk(machine):
    """Debian's 32-bit PAE kernel from an IDE disk through GRUB 2"""
    _linux_from_disk(machine, guests.grub_disk32(), "i686")


def _memtest(machine, image):
    with machine("-m", "16", "-kernel", image) as m:
        m.expect_screen(r"Memtest86\+", timeout=60)
        # Test #3 begins when #0 to #2 have passed.
        m.expect_screen(r"#[3-9]\b|#10\b|[Pp]ass: +[1-9]", timeout=600)
        screen = "\n".join(m.screen())
        _expect(re.search(r"Errors: +0\b", screen), m, f"memtest86+ shows errors:\n{screen}")


def test_memtest64(machine):
    """memtest86+ (64-bit) through three of its tests without an error"""
    _memtest(machine, guests.memtest64())


def test_memtest32(machine):
    """memtest86+ (32-bit) through three of its tests without an error"""
    _memtest(machine, guests.memtest32())


def test_ovmf(machine):
    """Debian's OVMF firmware to its shell"""
    with machine("-m", "256", "-bios", "OVMF.fd") as m:
        m.expect(r"Shell> ", timeout=300)
        m.send("ver\r")
        m.expect(r"UEFI Interactive Shell v2", timeout=60)


def test_installer(machine):
    """The Debian installer's netboot kernel and initrd to its first dialogue on the serial line"""
    directory = guests.installer()
    # With less memory the first dialogue only warns of it.
    with machine("-m", "1024", "-kernel", directory / "linux", "-initrd", directory / "initrd.gz",
                 "-append", "console=ttyS0 priority=low TERM=vt102") as m:
        m.expect(r"Debian installer main menu|Choose language|Select a language", timeout=600)


def test_systemd(machine):
    """A Debian system made by debootstrap, with systemd, on an IDE disk, to a login on the serial line"""
    directory = guests.debian_system()
    with machine("-m", "1G", "-hda", directory / "disk.img", "-snapshot") as m:
        m.expect(r"vellum login: ", timeout=900)
        m.send("root\n")
        m.expect(r"Password: ", timeout=60)
        m.send("vellum\n")
        m.expect(r"root@vellum:~# ", timeout=60)
        state = m.command("systemctl is-system-running --wait", timeout=300)
        _expect("running" in state, m, f"systemctl is-system-running says {state}")
        m.send("poweroff\n")
        m.wait(120)
