"""The guests of the boot tests, made on the spot from Debian's packages and kept in cache/guests."""
import fcntl
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))

import debian  # noqa: E402
import initramfs  # noqa: E402

DIRECTORY = debian.CACHE / "guests"


def made(name):
    """Decorates a function that makes the file or directory `name`: it runs once, whoever asks first."""
    def decorate(make):
        def get():
            DIRECTORY.mkdir(parents=True, exist_ok=True)
            target = DIRECTORY / name
            with open(DIRECTORY / f".{name}.lock", "w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not target.exists():
                    partial = DIRECTORY / f".{name}.new"
                    make(partial)
                    partial.rename(target)
            return target
        return get
    return decorate


@made("vmlinuz-amd64")
def kernel64(target):
    """Debian's 64-bit kernel."""
    debian.kernel(target, "linux-image-amd64", "amd64")


@made("vmlinuz-686-pae")
def kernel32(target):
    """Debian's 32-bit PAE kernel."""
    debian.kernel(target, "linux-image-686-pae", "i386")


# The shell says when it is there, whatever the kernel prints meanwhile.
_READY = b"echo SHELL-READY\n"


def _busybox(target, architecture):
    with tempfile.TemporaryDirectory() as directory:
        debian.extract("busybox-static", directory, ["./bin/busybox"], architecture)
        initramfs.busybox(target, f"{directory}/bin/busybox", [("greeting", _READY, 0o755)])


@made("initrd-amd64.gz")
def initrd64(target):
    """A busybox shell, 64-bit."""
    _busybox(target, "amd64")


@made("initrd-i386.gz")
def initrd32(target):
    """A busybox shell, 32-bit."""
    _busybox(target, "i386")


def _run(*command, **keywords):
    subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                   env={**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}, **keywords)


def _put(image, offset, content):
    with open(image, "r+b") as file:
        file.seek(offset)
        file.write(content)


_SECTOR = 512
_PARTITION_START = 2048  # sectors: what every partitioning program leaves for boot loaders


def _partitioned_disk(target, tree, partition_mebibytes, filesystem="ext4"):
    """A disk image with one partition that holds the files below `tree`; nothing is mounted."""
    size = partition_mebibytes << 20
    with open(target, "wb") as file:
        file.truncate(_PARTITION_START * _SECTOR + size)
    _run("sfdisk", target, input=f"label: dos\nlabel-id: 0x76656c6c\nstart={_PARTITION_START}, type=83, bootable\n".encode())
    _run("mke2fs", "-q", "-t", filesystem, "-d", tree, "-E", f"offset={_PARTITION_START * _SECTOR}", "-L", "root",
         "-U", "76656c6c-756d-4000-8000-000000000001", target, f"{partition_mebibytes}M")


def _install_grub(image, modules=()):
    """GRUB 2 for BIOS in the gap before the first partition, with its configuration in /boot/grub/grub.cfg there."""
    source = pathlib.Path("/usr/lib/grub/i386-pc")
    with tempfile.TemporaryDirectory() as directory:
        core = pathlib.Path(directory, "core.img")
        _run("grub-mkimage", "-O", "i386-pc", "-d", source, "-o", core, "-p", "(hd0,msdos1)/boot/grub",
             "biosdisk", "part_msdos", "ext2", "normal", "configfile", "linux", "serial", "terminal", "echo", "ls", *modules)
        content = core.read_bytes()
    assert len(content) <= (_PARTITION_START - 1) * _SECTOR
    # boot.img's code goes around the partition table; grub-mkimage has told core.img its own length, and it starts at
    # sector 1, where boot.img looks by default.
    _put(image, 0, (source / "boot.img").read_bytes()[:440])
    _put(image, _SECTOR, content)


@made("grub-disk.img")
def grub_disk(target):
    """A disk on which GRUB 2 starts Debian's 64-bit kernel with the busybox shell."""
    with tempfile.TemporaryDirectory() as tree:
        boot = pathlib.Path(tree, "boot")
        (boot / "grub").mkdir(parents=True)
        shutil.copy(kernel64(), boot / "vmlinuz")
        shutil.copy(initrd64(), boot / "initrd.gz")
        (boot / "grub" / "grub.cfg").write_text(
            "serial --unit=0 --speed=115200\nterminal_input serial console\nterminal_output serial console\n"
            "echo GRUB-READS-ITS-CONFIGURATION\n"
            "linux /boot/vmlinuz console=ttyS0 panic=-1\ninitrd /boot/initrd.gz\nboot\n")
        _partitioned_disk(target, tree, 48)
    _install_grub(target)


@made("grub-disk32.img")
def grub_disk32(target):
    """The same with Debian's 32-bit PAE kernel."""
    with tempfile.TemporaryDirectory() as tree:
        boot = pathlib.Path(tree, "boot")
        (boot / "grub").mkdir(parents=True)
        shutil.copy(kernel32(), boot / "vmlinuz")
        shutil.copy(initrd32(), boot / "initrd.gz")
        (boot / "grub" / "grub.cfg").write_text(
            "linux /boot/vmlinuz console=ttyS0 panic=-1\ninitrd /boot/initrd.gz\nboot\n")
        _partitioned_disk(target, tree, 48)
    _install_grub(target)


@made("grub.iso")
def grub_iso(target):
    """An ISO 9660 image with GRUB 2 (El Torito) and no configuration: it ends at GRUB's prompt."""
    with tempfile.TemporaryDirectory() as tree:
        pathlib.Path(tree, "hello.txt").write_text("a file on the CD-ROM\n")
        _run("grub-mkrescue", "-d", "/usr/lib/grub/i386-pc", "-o", target, tree)


@made("syslinux.img")
def syslinux_floppy(target):
    """A 1.44 MB floppy with syslinux, which stops at its prompt."""
    with open(target, "wb") as file:
        file.truncate(1440 * 1024)
    _run("mkfs.vfat", "-F", "12", "-n", "VELLUM", target)
    _run("syslinux", "--install", target)
    with tempfile.TemporaryDirectory() as tree:
        configuration = pathlib.Path(tree, "syslinux.cfg")
        configuration.write_text("DEFAULT nothing\nPROMPT 1\nTIMEOUT 0\nSAY SYSLINUX-READS-ITS-CONFIGURATION\n"
                                 "LABEL nothing\n  KERNEL absent\n")
        _run("mcopy", "-i", target, configuration, "::syslinux.cfg")


def _memtest(target, name):
    with tempfile.TemporaryDirectory() as directory:
        debian.extract("memtest86+", directory, ["./boot"], "amd64")
        shutil.copy(pathlib.Path(directory, "boot", name), target)


@made("memtest64.bin")
def memtest64(target):
    """memtest86+, 64-bit."""
    _memtest(target, "memtest86+x64.bin")


@made("memtest32.bin")
def memtest32(target):
    """memtest86+, 32-bit."""
    _memtest(target, "memtest86+ia32.bin")


@made("installer")
def installer(target):
    """The Debian installer's netboot kernel and initrd: a directory with linux and initrd.gz."""
    with tempfile.TemporaryDirectory() as directory:
        base = "./usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64"
        debian.extract("debian-installer-12-netboot-amd64", directory, [f"{base}/linux", f"{base}/initrd.gz"], "amd64")
        target.mkdir(exist_ok=True)
        for name in ("linux", "initrd.gz"):
            shutil.copy(pathlib.Path(directory, base, name), target / name)


@made("debian")
def debian_system(target):
    """A Debian system with systemd made by debootstrap: a directory with disk.img, vmlinuz and initrd.img. Needs root."""
    if os.geteuid() != 0:
        raise debian.Unavailable("a Debian system can only be made by root (debootstrap)")
    with tempfile.TemporaryDirectory(dir=DIRECTORY) as directory:
        root = pathlib.Path(directory, "root")
        script = subprocess.run(
            ["debootstrap", "--variant=minbase", "--include=systemd-sysv,udev,initramfs-tools,linux-image-amd64,dbus,login,kmod,zstd",
             "bookworm", root, debian.mirror()], capture_output=True, text=True)
        if script.returncode != 0:
            raise debian.Unavailable(f"debootstrap failed: {(script.stdout.strip().splitlines() or ['?'])[-1]}")
        subprocess.run(["chroot", root, "chpasswd"], input="root:vellum\n", text=True, check=True)
        (root / "etc/hostname").write_text("vellum\n")
        (root / "etc/fstab").write_text("/dev/sda1 / ext4 defaults 0 1\n")
        shutil.rmtree(root / "var/cache/apt/archives", ignore_errors=True)
        target.mkdir(exist_ok=True)
        boot = root / "boot"
        shutil.copy(next(boot.glob("vmlinuz-*")), target / "vmlinuz")
        shutil.copy(next(boot.glob("initrd.img-*")), target / "initrd.img")
        (boot / "grub").mkdir(exist_ok=True)
        for name in ("vmlinuz", "initrd.img"):
            shutil.copy(target / name, boot / name)
        (boot / "grub/grub.cfg").write_text(
            "linux /boot/vmlinuz root=/dev/sda1 console=ttyS0\ninitrd /boot/initrd.img\nboot\n")
        _partitioned_disk(target / "disk.img", root, 1536)
        _install_grub(target / "disk.img")
