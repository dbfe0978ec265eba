"""The guests of the boot tests, made on the spot from Debian's packages and kept in cache/guests."""
import fcntl
import pathlib
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
