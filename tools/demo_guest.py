#!/usr/bin/env python3
"""Makes the demo's guest: Debian's 64-bit kernel and an initial RAM disk of Debian's busybox-static.

usage: demo_guest.py DIRECTORY
"""
import pathlib
import sys
import tempfile

import debian
import initramfs

GREETING = rb"""
echo
echo "  This is Debian's kernel $(uname -r), running in Vellum."
echo "  Every program here is busybox; try: ls /proc, cat /proc/cpuinfo, top, vi."
echo "  'poweroff -f' ends the demo; so does Ctrl-A x. Ctrl-A c shows Vellum's monitor."
echo
"""


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    directory = pathlib.Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    try:
        if not (directory / "vmlinuz").exists():
            debian.kernel(directory / "vmlinuz", "linux-image-amd64", "amd64")
        if not (directory / "initrd.gz").exists():
            with tempfile.TemporaryDirectory() as unpacked:
                debian.extract("busybox-static", unpacked, ["./bin/busybox"], "amd64")
                initramfs.busybox(directory / "initrd.gz", f"{unpacked}/bin/busybox", [("greeting", GREETING, 0o755)])
    except debian.Unavailable as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
