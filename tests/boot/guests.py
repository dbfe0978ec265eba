"""The guests of the boot tests, made on the spot from Debian's packages and kept in cache/guests."""
import fcntl
import os
import pathlib
import re
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


def _busybox(target, architecture, files=(("greeting", _READY, 0o755),)):
    """An initial RAM disk with a busybox shell and these files: name, content, mode."""
    with tempfile.TemporaryDirectory() as directory:
        debian.extract("busybox-static", directory, ["./bin/busybox"], architecture)
        initramfs.busybox(target, f"{directory}/bin/busybox", files)


# Symbols that the debugger's tests use. Debian's package has no System.map, so the kernel is asked.
_SYMBOLS = ("startup_64", "start_kernel", "rest_init", "kernel_init", "run_init_process", "__x64_sys_write", "do_syscall_64", "panic", "linux_banner", "jiffies",
            "ROOT_DEV", "saved_root_name", "prepare_namespace", "mount_root", "mount_block_root", "name_to_dev_t")


def kernel64_symbols(vellum):
    """An ELF file with symbols of kernel64() as it is loaded with nokaslr. `vellum` is the command that boots it."""
    @made("symbols-amd64-2.elf")
    def get(target):
        pattern = "|".join(_SYMBOLS)
        init = f"#!/bin/busybox sh\nB=/bin/busybox\n$B mkdir -p /proc\n$B mount -t proc proc /proc\necho 0 > /proc/sys/kernel/kptr_restrict\n$B grep -E ' ({pattern})$' /proc/kallsyms\necho SYMBOLS-END\n$B poweroff -f\n"
        with tempfile.TemporaryDirectory() as directory:
            _busybox(f"{directory}/initrd.gz", "amd64", [("symbols", init.encode(), 0o755)])
            run = subprocess.run([*vellum, "-display", "none", "-monitor", "none", "-m", "256", "-kernel", kernel64(), "-initrd", f"{directory}/initrd.gz", "-serial",
                                  f"file:{directory}/serial.txt", "-no-reboot", "-append", "console=ttyS0 quiet nokaslr rdinit=/symbols"],
                                 stdin=subprocess.DEVNULL, capture_output=True, timeout=300)
            text = pathlib.Path(f"{directory}/serial.txt").read_text(errors="replace")
            found = re.findall(rf"^([0-9a-f]{{16}}) . ({pattern})\r?$", text, re.MULTILINE)
            if "SYMBOLS-END" not in text or "start_kernel" not in dict((name, address) for address, name in found):
                raise debian.Unavailable(f"the kernel told no symbols: {text[-500:]} {run.stderr[-500:]}")
            # In a section without contents, since debuggers do not name what is just a number.
            base = 0xFFFFFFFF81000000
            source = '.section .kernel, "ax", @nobits\nbase: .skip 64 << 20\n' + "".join(
                f".globl {name}\n.set {name}, base + {int(address, 16) - base:#x}\n.type {name}, @function\n" for address, name in found)
            subprocess.run(["as", "--64", "-o", f"{directory}/symbols.o", "-"], input=source.encode(), check=True)
            subprocess.run(["ld", "-e", "start_kernel", f"--section-start=.kernel={base:#x}", "-o", target, f"{directory}/symbols.o"], check=True)
    return get()




@made("initrd-amd64.gz")
def initrd64(target):
    """A busybox shell, 64-bit."""
    _busybox(target, "amd64")


@made("initrd-i386.gz")
def initrd32(target):
    """A busybox shell, 32-bit."""
    _busybox(target, "i386")


# Drivers that Debian's kernels have as modules, loaded in this order with what they depend on.
_DRIVERS = ["ata_piix", "sr_mod", "isofs", "floppy", "uhci-hcd", "usbhid", "hid-generic", "evdev", "mousedev",
            "snd-intel8x0", "snd-sb16", "snd-pcm-oss", "pcspkr"]
_ARGUMENTS = {"snd_sb16": "isapnp=0"}  # cards that are not Plug and Play too
_LOAD = b"while read module; do insmod /modules/$module 2>/dev/null; done < /modules/order\n"


def _modules(meta_package, architecture, drivers=_DRIVERS):
    """The files of an initial RAM disk that has these drivers, as far as the kernel package has them."""
    image = next(name for name in debian.dependencies(meta_package, architecture) if name.startswith("linux-image-"))
    with tempfile.TemporaryDirectory(dir=debian.CACHE) as directory:
        debian.extract(image, directory, ["./lib/modules"], architecture)
        files = {path.stem.replace("-", "_"): path for path in pathlib.Path(directory).rglob("*.ko")}
        order = []

        def load(name):
            path = files.get(name.replace("-", "_"))
            if path is None or path in order:
                return
            # The section .modinfo: strings that end with a zero byte.
            needs = re.search(rb"\0depends=([^\0]*)\0", path.read_bytes())
            for needed in needs[1].decode().split(",") if needs and needs[1] else []:
                load(needed)
            order.append(path)

        for name in drivers:
            load(name)
        content = [(f"modules/{path.name}", path.read_bytes(), 0o644) for path in order]
        lines = [f"{path.name} {_ARGUMENTS.get(path.stem.replace('-', '_'), '')}\n" for path in order]
    return content + [("modules/order", "".join(lines).encode(), 0o644)]


def _program(source):
    """One of the programs here that need no C library, as a 32-bit one that runs under both kernels."""
    with tempfile.TemporaryDirectory() as directory:
        program = pathlib.Path(directory, "program")
        _run("clang-19", "-m32", "-march=i686", "-O1", "-ffreestanding", "-fno-builtin", "-fno-stack-protector", "-fno-pic", "-static", "-nostdlib",
             "-fuse-ld=lld-19", "-o", program, pathlib.Path(__file__).with_name(source))
        return program.read_bytes()


def _driver_initrd(target, meta_package, architecture):
    _busybox(target, architecture, [("greeting", _LOAD + _READY, 0o755), ("bin/tone", _program("play_tone.c"), 0o755), *_modules(meta_package, architecture)])


@made("initrd-devices-amd64.gz")
def driver_initrd64(target):
    """A busybox shell with drivers for removable media, USB and sound loaded, 64-bit."""
    _driver_initrd(target, "linux-image-amd64", "amd64")


@made("initrd-devices-i386.gz")
def driver_initrd32(target):
    """The same, 32-bit: this kernel has drivers for ISA cards too."""
    _driver_initrd(target, "linux-image-686-pae", "i386")


@made("initrd-usb-disk-amd64.gz")
def usb_disk_initrd64(target):
    """A busybox shell with drivers for USB disks loaded, 64-bit."""
    _busybox(target, "amd64", [("greeting", _LOAD + _READY, 0o755), ("bin/eject-disk", _program("eject_disk.c"), 0o755),
                               *_modules("linux-image-amd64", "amd64", ["uhci-hcd", "usb-storage", "sd_mod"])])


# The network's drivers are loaded by the test, which knows the card. udhcpc calls the script with what the DHCP server said.
_NETWORK_DRIVERS = ["af_packet", "e1000", "ne2k-pci", "ne", "virtio_pci", "virtio_net"]
_DHCP_SCRIPT = b"""#!/bin/busybox sh
[ "$1" = bound ] || exit 0
ifconfig $interface $ip netmask $subnet
route add default gw $router
echo nameserver $dns > /etc/resolv.conf
"""
_NETWORK_COMMANDS = b"""#!/bin/busybox sh
# load-driver NAME [ARGUMENTS]: the module and those before it in the list that it needs
name=$1; shift
while read module rest; do
  case $module in
    $name.ko) exec insmod /modules/$module "$@" ;;
    e1000.ko|ne2k-pci.ko|ne.ko|virtio_net.ko) ;;
    *) insmod /modules/$module 2>/dev/null ;;
  esac
done < /modules/order
"""


def _network_initrd(target, meta_package, architecture):
    _busybox(target, architecture,
             [("greeting", b"echo 3 > /proc/sys/kernel/printk\n" + _READY, 0o755), ("bin/load-driver", _NETWORK_COMMANDS, 0o755), ("etc/resolv.conf", b"", 0o644),
              ("bin/dhcp-script", _DHCP_SCRIPT, 0o755), *_modules(meta_package, architecture, _NETWORK_DRIVERS)])


@made("initrd-network-amd64.gz")
def network_initrd64(target):
    """A busybox shell with drivers for network cards, which load-driver NAME loads, 64-bit."""
    _network_initrd(target, "linux-image-amd64", "amd64")


@made("initrd-network-i386.gz")
def network_initrd32(target):
    """The same, 32-bit: this kernel knows ISA cards too."""
    _network_initrd(target, "linux-image-686-pae", "i386")


@made("discs")
def discs(target):
    """Two CD-ROMs, one.iso and two.iso, each with a file "label" that says which it is."""
    target.mkdir(exist_ok=True)
    for name in ("one", "two"):
        with tempfile.TemporaryDirectory() as tree:
            pathlib.Path(tree, "label").write_text(f"this is disc {name}\n")
            _run("xorriso", "-as", "mkisofs", "-V", name.upper(), "-o", target / f"{name}.iso", tree)


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


def _grub_disk64(target, arguments):
    with tempfile.TemporaryDirectory() as tree:
        boot = pathlib.Path(tree, "boot")
        (boot / "grub").mkdir(parents=True)
        shutil.copy(kernel64(), boot / "vmlinuz")
        shutil.copy(initrd64(), boot / "initrd.gz")
        (boot / "grub" / "grub.cfg").write_text(
            "serial --unit=0 --speed=115200\nterminal_input serial console\nterminal_output serial console\n"
            "echo GRUB-READS-ITS-CONFIGURATION\n"
            f"linux /boot/vmlinuz {arguments}\ninitrd /boot/initrd.gz\nboot\n")
        _partitioned_disk(target, tree, 48)
    _install_grub(target)


@made("grub-disk.img")
def grub_disk(target):
    """A disk on which GRUB 2 starts Debian's 64-bit kernel with the busybox shell."""
    _grub_disk64(target, "console=ttyS0 panic=-1")


@made("grub-disk-symbols.img")
def grub_disk_symbols(target):
    """The same, and the kernel is where kernel64_symbols() has it."""
    _grub_disk64(target, "console=ttyS0 panic=-1 quiet nokaslr")


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


@made("grub-menu.iso")
def grub_menu(target):
    """An ISO 9660 image with GRUB 2 and a menu on its graphical terminal, 1024x768, of three entries that halt."""
    with tempfile.TemporaryDirectory() as tree:
        directory = pathlib.Path(tree, "boot/grub")
        directory.mkdir(parents=True)
        shutil.copy("/usr/share/grub/unicode.pf2", directory / "unicode.pf2")
        entries = "".join(f"menuentry '{name}' {{ halt }}\n" for name in ("First system", "Second system", "Third system"))
        (directory / "grub.cfg").write_text("insmod all_video\ninsmod gfxterm\nloadfont /boot/grub/unicode.pf2\nset gfxmode=1024x768x32\n"
                                            "terminal_output gfxterm\nset color_normal=light-gray/blue\nset menu_color_normal=white/blue\n"
                                            "set menu_color_highlight=black/light-gray\nset timeout=-1\n" + entries)
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


@made("graphical-installer")
def graphical_installer(target):
    """The Debian installer's netboot kernel and graphical initrd: a directory with linux and initrd.gz."""
    with tempfile.TemporaryDirectory() as directory:
        base = "./usr/lib/debian-installer/images/12/amd64/gtk/debian-installer/amd64"
        debian.extract("debian-installer-12-netboot-amd64", directory, [f"{base}/linux", f"{base}/initrd.gz"], "amd64")
        target.mkdir(exist_ok=True)
        for name in ("linux", "initrd.gz"):
            shutil.copy(pathlib.Path(directory, base, name), target / name)


_SYSTEM = ("systemd-sysv", "udev", "initramfs-tools", "linux-image-amd64", "dbus", "login", "kmod", "zstd")


def _bootstrapped(target, packages, mebibytes, settle=lambda root: None, directories=()):
    """A Debian system with systemd and `packages`, whose root has the password "vellum": a directory with disk.img, on which GRUB
    starts it. `directories` are there before any package is; `settle` may change the tree before it becomes the disk. Needs root."""
    if os.geteuid() != 0:
        raise debian.Unavailable("a Debian system can only be made by root (mmdebstrap)")
    with tempfile.TemporaryDirectory(dir=DIRECTORY) as directory:
        root = pathlib.Path(directory, "root")
        script = subprocess.run(
            ["mmdebstrap", "--variant=minbase", "--include=" + ",".join([*_SYSTEM, *packages]), "--aptopt=Acquire::Languages \"none\"",
             # Nobody needs the tree after a crash of the host, nor reads its documentation.
             "--dpkgopt=force-unsafe-io", *(f'--setup-hook=mkdir -p "$1/{name}"' for name in directories), *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale")),
             "bookworm", root, debian.mirror()], capture_output=True, text=True)
        if script.returncode != 0:
            raise debian.Unavailable(f"mmdebstrap failed: {(script.stderr.strip().splitlines() or ['?'])[-1]}")
        subprocess.run(["chroot", root, "chpasswd"], input="root:vellum\n", text=True, check=True)
        (root / "etc/hostname").write_text("vellum\n")
        (root / "etc/fstab").write_text("/dev/sda1 / ext4 defaults 0 1\n")
        boot = root / "boot"
        for name in ("vmlinuz", "initrd.img"):
            shutil.copy(next(boot.glob(f"{name}-*")), boot / name)
        (boot / "grub").mkdir(exist_ok=True)
        (boot / "grub/grub.cfg").write_text(
            "linux /boot/vmlinuz root=/dev/sda1 console=ttyS0\ninitrd /boot/initrd.img\nboot\n")
        settle(root)
        target.mkdir(exist_ok=True)
        _partitioned_disk(target / "disk.img", root, mebibytes)
        _install_grub(target / "disk.img")


@made("debian")
def debian_system(target):
    """A Debian system with systemd made by mmdebstrap: a directory with disk.img."""
    _bootstrapped(target, [], 1536)


# As root, since a display manager would ask for a name first; the rest is as Debian's packages set it up.
_DESKTOP_UNIT = """[Unit]
Description=Xorg with Openbox
After=systemd-user-sessions.service

[Service]
Environment=HOME=/root
WorkingDirectory=/root
ExecStart=/usr/bin/xinit /usr/bin/openbox-session -- :0 vt7 -nolisten tcp

[Install]
WantedBy=multi-user.target
"""


@made("desktop")
def desktop_system(target):
    """Debian with Xorg, Openbox and xterm, which starts into the desktop: a directory with disk.img."""
    def settle(root):
        (root / "etc/systemd/system/desktop.service").write_text(_DESKTOP_UNIT)
        subprocess.run(["chroot", root, "systemctl", "enable", "desktop.service"], check=True, capture_output=True)
        # Openbox runs this when it takes clicks.
        autostart = root / "root/.config/openbox/autostart"
        autostart.parent.mkdir(parents=True)
        autostart.write_text("touch /root/started\n")
        # What the X server says is on the screen, for the test; its package would bring in far more.
        debian.extract("x11-apps", root, ["./usr/bin/xwd"], "amd64")
    _bootstrapped(target, ["xserver-xorg-core", "xserver-xorg-input-libinput", "xinit", "openbox", "xterm", "fonts-dejavu-core", "libxkbfile1"], 2048, settle)


@made("jits")
def jit_system(target):
    """A Debian system with systemd, Node.js and Java, and what bench/jits runs, in /opt: a directory with disk.img."""
    def settle(root):
        sources = pathlib.Path(__file__).resolve().parents[2] / "bench" / "jits"
        for source in sources.iterdir():
            shutil.copy(source, root / "opt")
        # The compiler is a module of Debian's runtime, too; it wants /proc.
        subprocess.run(["chroot", root, "sh", "-c", "mount -t proc proc /proc; java -m jdk.compiler/com.sun.tools.javac.Main -d /opt /opt/Work.java; status=$?; umount /proc; exit $status"], check=True)
    # Java's package links its manual pages, which are left out, and fails where their directory is missing.
    _bootstrapped(target, ["nodejs", "default-jre-headless"], 2048, settle, ["usr/share/man/man1"])
