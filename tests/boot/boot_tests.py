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


def _engines(machine):
    with machine("-help") as m:
        m.wait(60)
        return re.search(r"-engine (\S+)", m.serial)[1].split("|")


def _replay(machine, options, recording, engine, status=0, patience=300):
    """Plays a recording and returns the state hash at its end, which vellum has compared with the recorded one."""
    with machine(*options, "-replay", recording, "-engine", engine) as m:
        m.wait(patience, status)
        end = re.search(r"the replay ended as it was recorded: (\d+) instructions, state ([0-9a-f]{16})", m.serial)
        _expect(end, m, f"{engine}: the replay did not end as it was recorded")
        return end[0]


def test_recording(machine):
    """A boot with a user at the console, recorded while other programs load the host, ends in the same state when it is replayed by each engine"""
    import os
    import subprocess
    import sys
    import tempfile
    options = ("-m", "256", "-kernel", guests.kernel64(), "-initrd", guests.initrd64(), "-append", "console=ttyS0 quiet")
    with tempfile.TemporaryDirectory() as directory:
        recording = f"{directory}/recording"
        load = subprocess.Popen([sys.executable, "-c", "import time\nend = time.monotonic() + 30\nwhile time.monotonic() < end: pass"])
        try:
            with machine(*options, "-record", recording) as m:
                _shell(m, 240)
                # Time follows the host in a recorded run, too: a second of sleep is one.
                m.command("sleep 1; date > /tmp/note; od -An -N16 -tx1 /dev/urandom >> /tmp/note")
                m.monitor("sendkey a")
                m.send("poweroff -f\n")
                m.wait(60)
        finally:
            load.kill()
            load.wait()
        size = os.path.getsize(recording)
        _expect(size <= 10 << 20, m, f"the recording has {size} bytes")
        ends = {engine: _replay(machine, options, recording, engine) for engine in _engines(machine) if engine != "llvm"}
        _expect(len(set(ends.values())) == 1, m, f"the engines end differently: {ends}")
        # Another machine, a cut-off file and a damaged one are refused, or end where they end.
        with machine("-m", "257", *options[2:], "-replay", recording) as m:
            m.wait(60, status=1)
            _expect("this is not the machine that was recorded: the recording has memory=" in m.serial, m, "no word of the other machine")
        with open(recording, "rb") as file:
            data = file.read()
        with open(recording, "wb") as file:
            file.write(data[:len(data) // 2])
        with machine(*options, "-replay", recording) as m:
            m.wait(300)
            _expect("without a mark of its end" in m.serial, m, "no word of the early end")
        with open(recording, "wb") as file:
            file.write(data[:1000] + bytes([data[1000] ^ 1]) + data[1001:])
        with machine(*options, "-replay", recording) as m:
            m.wait(60, status=1)
            _expect("the file is damaged" in m.serial, m, "no word of the damage")


def test_recording_disk(machine):
    """A recorded run that boots from a disk and writes to it replays to the same state, and the disk's image is as it was"""
    import hashlib
    import tempfile

    def digest(path):
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    image = guests.grub_disk()
    before = digest(image)
    options = ("-m", "256", "-hda", image)
    with tempfile.TemporaryDirectory() as directory:
        recording = f"{directory}/recording"
        with machine(*options, "-record", recording) as m:
            _shell(m, 300)
            m.command("mount -t devtmpfs none /dev 2>/dev/null; dd if=/dev/urandom of=/dev/sda seek=2000 bs=512 count=64; sync; dd if=/dev/sda of=/dev/null bs=64k count=64")
            m.send("poweroff -f\n")
            m.wait(60)
        ends = {engine: _replay(machine, options, recording, engine) for engine in ("baseline", "tiered") if engine in _engines(machine)}
        _expect(len(set(ends.values())) <= 1, m, f"the engines end differently: {ends}")
    _expect(digest(image) == before, m, "the image was written to")


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


def test_removable_media(machine):
    """Linux reads a CD-ROM and a floppy, both are changed, and its drivers notice"""
    import tempfile
    discs = guests.discs()
    with tempfile.TemporaryDirectory() as directory:
        for name in ("one", "two"):
            with open(f"{directory}/{name}.img", "wb") as file:
                file.write(f"this is disk {name}\n".encode().ljust(1440 * 1024, b"\0"))
        with machine("-m", "512", "-kernel", guests.kernel64(), "-initrd", guests.driver_initrd64(), "-append", "console=ttyS0 quiet",
                     "-cdrom", discs / "one.iso", "-fda", f"{directory}/one.img") as m:
            _shell(m, 240)
            m.command("mkdir -p /mnt")
            read_cd = "mount -t iso9660 -o ro /dev/sr0 /mnt && cat /mnt/label"
            _expect("this is disc one" in m.command(read_cd), m, "the first CD-ROM is not read")
            # Linux locks the tray while a disc is mounted, and sees the wish to take it out.
            answer = m.monitor(f"change ide1-0 {discs}/two.iso")
            _expect("locked" in answer, m, f"a locked tray was opened: {answer}")
            _expect("this is disc one" in m.command("umount /mnt; " + read_cd), m, "the first CD-ROM is gone")
            m.command("umount /mnt")
            answer = m.monitor(f"change ide1-0 {discs}/two.iso")
            _expect(not answer.strip(), m, f"change said {answer}")
            _expect("two.iso" in m.monitor("info block"), m, "info block does not show the second CD-ROM")
            _expect("this is disc two" in m.command(read_cd), m, "the second CD-ROM is not read")
            m.command("umount /mnt")
            m.monitor("eject cdrom")
            _expect("this is disc" not in m.command(read_cd), m, "an empty drive was read")

            read_floppy = "head -c 16 /dev/fd0"
            _expect("this is disk one" in m.command(read_floppy), m, "the first floppy is not read")
            _expect("this is disk one" in m.command(read_floppy), m, "the first floppy is not read again")
            answer = m.monitor(f"change floppy0 {directory}/two.img")
            _expect(not answer.strip(), m, f"change said {answer}")
            _expect("this is disk two" in m.command(read_floppy), m, "the second floppy is not read")
            m.command("echo written by the guest | dd of=/dev/fd0 conv=sync,fsync 2>/dev/null")
            m.monitor("eject fda")
            with open(f"{directory}/two.img", "rb") as file:
                _expect(file.read(20) == b"written by the guest", m, "what was written to the floppy is not in its image")
            answer = m.monitor(f"change fda {directory}/three.img")
            _expect("no such file" in answer, m, f"a file that is not there: {answer}")
            m.send("poweroff -f\n")
            m.wait(60)


def test_usb_tablet(machine):
    """Linux's uhci_hcd, usbhid and evdev drive the tablet: places, buttons and wheel arrive as events"""
    import struct
    with machine("-m", "512", "-kernel", guests.kernel64(), "-initrd", guests.driver_initrd64(), "-append", "console=ttyS0 quiet",
                 "-device", "usb-tablet") as m:
        _shell(m, 240)
        # Lines longer than the screen would be broken by the shell's line editor.
        m.command("cd /proc/bus/input; while ! grep Tablet devices; do sleep 1; done")
        event = m.command("grep -A 4 Tablet devices | grep -o 'event[0-9]*'").strip()
        _expect(event.startswith("event"), m, "the tablet has no event device")
        m.command(f"cat /dev/input/{event} > /tmp/events & sleep 1")
        for command in ("mouse_move 16384 8192", "mouse_button 1", "mouse_button 0", "mouse_move 32767 0", "mouse_move 32767 0 -1"):
            answer = m.monitor(command)
            _expect(not answer.strip(), m, f"{command}: {answer}")
        # One line of 48 digits for each event of 24 bytes.
        lines = m.command("sleep 1; xxd -p -c 24 /tmp/events").split()
        events = [struct.unpack("<16xHHi", bytes.fromhex(line)) for line in lines if len(line) == 48]
        absolute, key, relative, synchronize = 3, 1, 2, 0
        wanted = [(absolute, 0, 16384), (absolute, 1, 8192), (key, 0x110, 1), (key, 0x110, 0), (absolute, 0, 32767),
                  (absolute, 1, 0), (relative, 8, -1)]
        got = [event for event in events if event[0] in (absolute, key) or event[:2] == (relative, 8)]
        _expect(got == wanted, m, f"the events are {got}, not {wanted}")
        _expect((synchronize, 0, 0) in events, m, "no report was completed")
        log = m.command("dmesg | grep -iE 'usb.*(err|fail)|uhci.*(halt|err)'")
        _expect(not log.strip(), m, f"the USB drivers complained:\n{log}")
        m.send("poweroff -f\n")
        m.wait(60)


def test_usb_disk(machine):
    """Linux's usb-storage and sd_mod drive a USB disk: its image is changed, read, written to and ejected while it runs"""
    import random
    import tempfile

    def content(seed, size):
        return random.Random(seed).randbytes(size)

    def digest(data):
        import hashlib
        return hashlib.md5(data).hexdigest()

    sizes = {"one": 1 << 20, "two": 3 << 20}
    with tempfile.TemporaryDirectory() as directory:
        for name, size in sizes.items():
            with open(f"{directory}/{name}.img", "wb") as file:
                file.write(content(name, size))
        with machine("-m", "512", "-kernel", guests.kernel64(), "-initrd", guests.usb_disk_initrd64(), "-append", "console=ttyS0 quiet",
                     "-drive", f"if=usb,file={directory}/one.img") as m:
            _shell(m, 240)
            m.command("while ! [ -b /dev/sda ]; do sleep 1; done; ln -s /sys/block/sda /disk", timeout=120)
            _expect(m.command("cat /disk/removable").strip() == "1", m, "the USB disk is not removable")
            _expect("USB DISK" in m.command("cat /disk/device/model"), m, "the USB disk is another model")
            _expect(m.command("cat /disk/size").split() == [str(sizes["one"] // 512)], m, "the first disk has another size")
            _expect(digest(content("one", sizes["one"])) in m.command("md5sum < /dev/sda"), m, "the first disk is not read")
            # Linux locks the drive while somebody has it open.
            m.command("exec 3< /dev/sda")
            answer = m.monitor(f"change usb0 {directory}/two.img")
            _expect("locked" in answer, m, f"a locked drive was opened: {answer}")
            m.command("exec 3<&-")
            answer = m.monitor(f"change usb0 {directory}/two.img")
            _expect(not answer.strip(), m, f"change said {answer}")
            _expect("two.img" in m.monitor("info block"), m, "info block does not show the second disk")
            _expect(digest(content("two", sizes["two"])) in m.command("md5sum < /dev/sda"), m, "the second disk is not read")
            _expect(m.command("cat /disk/size").split() == [str(sizes["two"] // 512)], m, "the second disk has another size")
            m.command("echo written by the guest | dd of=/dev/sda bs=512 seek=4000 conv=sync,fsync 2>/dev/null")
            with open(f"{directory}/two.img", "rb") as file:
                written = file.read()
            expected = bytearray(content("two", sizes["two"]))
            expected[4000 * 512:4001 * 512] = b"written by the guest\n".ljust(512, b"\0")
            _expect(written == expected, m, "the image does not have what was written, or has more")
            # The guest ejects by itself; the medium is out until another one comes.
            m.command("eject-disk /dev/sda")
            _expect("ejected" in m.monitor("info block"), m, "info block does not show that the guest has ejected the disk")
            _expect("No medium" in m.command("head -c 1 /dev/sda 2>&1"), m, "an ejected disk was read")
            answer = m.monitor(f"change usb0 {directory}/one.img")
            _expect(not answer.strip(), m, f"change said {answer}")
            _expect(digest(content("one", sizes["one"])) in m.command("md5sum < /dev/sda"), m, "the first disk is not read again")
            answer = m.monitor("eject usb0")
            _expect(not answer.strip(), m, f"eject said {answer}")
            _expect("usb0: empty" in m.monitor("info block"), m, "info block does not show an empty drive")
            _expect("No medium" in m.command("head -c 1 /dev/sda 2>&1"), m, "an empty drive was read")
            answer = m.monitor(f"change usb0 {directory}/two.img readonly=on")
            m.command("echo again > /dev/sda")
            _expect(m.command("cat /disk/ro").split() == ["1"], m, "the disk is not read-only")
            with open(f"{directory}/two.img", "rb") as file:
                _expect(file.read() == expected, m, "a read-only disk was written to")
            log = m.command("dmesg | grep -iE 'usb.*(err|fail|reset)|uhci.*(halt|err)|sd .*(DID_|timed out)'")
            _expect(not log.strip(), m, f"the drivers complained:\n{log}")
            m.send("poweroff -f\n")
            m.wait(60)


def test_usb_boot(machine):
    """SeaBIOS boots from a USB disk: GRUB reads its configuration, Linux and the initial RAM disk from it"""
    with machine("-m", "512", "-drive", f"if=usb,file={guests.grub_disk()},snapshot=on") as m:
        m.expect("GRUB-READS-ITS-CONFIGURATION", timeout=120)
        _shell(m, 600)
        m.send("poweroff -f\n")
        m.wait(60)


def _tone_in(path, expected):
    """The frequency of the strongest tone near the expected one in a WAV file, and its amplitude, where it is loudest."""
    import cmath
    import math
    import struct
    with open(path, "rb") as file:
        content = file.read()
    samples = [left / 32768 for left, _ in struct.iter_unpack("<hh", content[44:44 + (len(content) - 44) // 4 * 4])]
    length = 4800
    window = [0.5 - 0.5 * math.cos(2 * math.pi * i / length) for i in range(length)]

    def strength(start, frequency):
        turn, z, total = cmath.exp(-2j * math.pi * frequency / 48000), 1, 0
        for value, weight in zip(samples[start:start + length], window):
            total += value * weight * z
            z *= turn
        return abs(total) * 4 / length
    start = max(range(0, max(1, len(samples) - length), length), key=lambda at: strength(at, expected))
    found = max((expected + step / 2 for step in range(-60, 61)), key=lambda frequency: strength(start, frequency))
    return found, strength(start, found)


def _hears(machine, path, expected):
    frequency, amplitude = _tone_in(path, expected)
    _expect(abs(frequency - expected) <= 2 and amplitude > 0.05, machine,
            f"{frequency} Hz at {amplitude:.3f} instead of {expected} Hz were heard")


def _sound(machine, card, kernel, initrd, speaker=False):
    import tempfile
    with tempfile.TemporaryDirectory() as directory:
        wav = f"{directory}/sound.wav"
        with machine("-m", "512", "-kernel", kernel, "-initrd", initrd, "-append", "console=ttyS0 quiet", "-device", card,
                     "-audiodev", f"wav,path={wav}") as m:
            _shell(m, 240)
            _expect("0" == m.command("tone; echo $?").strip(), m, "the guest could not play")
            log = m.command("dmesg | grep -iE '(snd|sb16|intel8x0).*(timeout|error)'")
            _expect(not log.strip(), m, f"the driver complained:\n{log}")
            if speaker:
                event = m.command("cd /proc/bus/input; grep -A 4 Speaker devices | grep -o 'event[0-9]*'").strip()
                m.command("z='\\0\\0\\0\\0\\0\\0\\0\\0'")
                # struct input_event: 16 bytes of time, EV_SND, SND_TONE, the frequency.
                m.command(f"printf \"$z$z\\22\\0\\2\\0\\274\\2\\0\\0\" > /dev/input/{event}; sleep 1")
                m.command(f"printf \"$z$z\\22\\0\\2\\0\\0\\0\\0\\0\" > /dev/input/{event}")
            m.send("poweroff -f\n")
            m.wait(60)
            _hears(m, wav, 1000)
            if speaker:
                _hears(m, wav, 700)


def test_sound_ac97(machine):
    """Linux's snd_intel8x0 plays a tone, and pcspkr another: their frequencies are in the recorded sound"""
    _sound(machine, "AC97", guests.kernel64(), guests.driver_initrd64(), speaker=True)


def test_sound_sb16(machine):
    """Linux's snd_sb16 plays a tone by ISA DMA: its frequency is in the recorded sound"""
    _sound(machine, "sb16", guests.kernel32(), guests.driver_initrd32())


def test_vnc(machine):
    """A VNC client (gvnccapture) sees the picture that screendump writes"""
    import shutil
    import socket
    import subprocess
    import tempfile
    import debian
    from png_reader import read_png
    if not shutil.which("gvnccapture"):
        raise debian.Unavailable("there is no gvnccapture here (Debian's package gvncviewer)")

    def free_display():
        for display in range(40, 100):
            with socket.socket() as probe:
                try:
                    probe.bind(("127.0.0.1", 5900 + display))
                    return display
                except OSError:
                    continue
        raise debian.Unavailable("every port for VNC displays 40 to 99 is taken")
    display = free_display()
    with tempfile.TemporaryDirectory() as directory:
        with machine("-fda", guests.syslinux_floppy(), "-boot", "a", "-display", f"vnc=127.0.0.1:{display}") as m:
            m.expect_screen(r"boot: *$", timeout=60)
            m.type("seen by vnc")
            m.expect_screen(r"boot: seen by vnc", timeout=30)
            client = subprocess.run(["gvnccapture", "-q", f"127.0.0.1:{display}", f"{directory}/vnc.png"], capture_output=True, text=True, timeout=60)
            _expect(client.returncode == 0, m, f"gvnccapture: {client.stdout}{client.stderr}")
            with open(f"{directory}/vnc.png", "rb") as file:
                seen = read_png(file.read())
            shown = m.picture()
            _expect((seen.width, seen.height) == (shown.width, shown.height), m, f"VNC shows {seen.width}x{seen.height}")
            # Between the two pictures the cursor may have blinked: it lies within one character cell.
            different = sum(a != b for row, other in zip(seen.rows, shown.rows) for a, b in zip(row, other))
            _expect(different <= 9 * 16, m, f"{different} pixels differ")
            _expect(any(pixel != (0, 0, 0) for row in shown.rows for pixel in row), m, "the screen is black")


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
    """A Debian system made by mmdebstrap, with systemd, on an IDE disk, to a login on the serial line"""
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
