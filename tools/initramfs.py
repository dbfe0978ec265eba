#!/usr/bin/env python3
"""Writes an initial RAM disk (cpio "newc", gzip) without needing root for its device nodes or owners.

usage: initramfs.py OUTPUT [PATH=HOST_FILE ...]
The busybox shell's init and a console are always in it; every PATH is added with the host file's mode.
"""
import gzip
import os
import stat
import sys


class Archive:
    def __init__(self):
        self.data = bytearray()
        self.count = 0
        self.directories = set()

    def add(self, path, mode, content=b"", device=(0, 0)):
        parent = os.path.dirname(path)
        if parent and parent not in self.directories:
            self.directory(parent)
        self.count += 1
        name = path.encode() + b"\0"
        fields = [self.count, mode, 0, 0, 1, 0, len(content), 0, 0, device[0], device[1], len(name), 0]
        self.data += b"070701" + b"".join(b"%08X" % field for field in fields) + name
        self.pad()
        self.data += content
        self.pad()

    def pad(self):
        self.data += b"\0" * (-len(self.data) % 4)

    def directory(self, path):
        if path in self.directories:
            return
        self.directories.add(path)
        self.add(path, stat.S_IFDIR | 0o755)

    def file(self, path, content, mode=0o755):
        self.add(path, stat.S_IFREG | mode, content)

    def link(self, path, target):
        self.add(path, stat.S_IFLNK | 0o777, target.encode())

    def device(self, path, major, minor):
        self.add(path, stat.S_IFCHR | 0o600, device=(major, minor))

    def write(self, output):
        self.add("TRAILER!!!", 0)
        with open(output + ".new", "wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as file:
            file.write(self.data)
        os.rename(output + ".new", output)


INIT = b"""#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /tmp /root
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev 2>/dev/null
/bin/busybox --install -s
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root TERM=linux PS1='vellum:\\w# '
[ -x /greeting ] && . /greeting
cd /root
while true; do
  setsid cttyhack sh
done
"""


def busybox(output, busybox_file, extra=()):
    """An initramfs that ends in an interactive busybox shell. `extra`: (path, content, mode)."""
    archive = Archive()
    for directory in ("bin", "sbin", "usr", "usr/bin", "usr/sbin", "dev", "proc", "sys", "tmp", "root"):
        archive.directory(directory)
    archive.device("dev/console", 5, 1)
    archive.device("dev/null", 1, 3)
    with open(busybox_file, "rb") as file:
        archive.file("bin/busybox", file.read())
    archive.link("bin/sh", "busybox")
    archive.file("init", INIT)
    for path, content, mode in extra:
        archive.file(path, content, mode)
    archive.write(str(output))


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    extra, shell = [], None
    for argument in sys.argv[2:]:
        path, _, host = argument.partition("=")
        if path == "busybox":
            shell = host
            continue
        with open(host, "rb") as file:
            extra.append((path, file.read(), stat.S_IMODE(os.stat(host).st_mode)))
    if not shell:
        sys.exit("initramfs.py: busybox=FILE is missing")
    busybox(sys.argv[1], shell, extra)


if __name__ == "__main__":
    main()
