#!/usr/bin/env python3
"""Assembles a boot sector: usage: assemble.py SOURCE DIRECTORY      (writes NAME.img, which boots, and NAME.elf, its symbols)"""
import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
FLOPPY = 1440 * 1024  # bytes

# The host's own may be of another architecture.
_PREFIX = "" if os.uname().machine == "x86_64" else "x86_64-linux-gnu-"
PROGRAMS = tuple(_PREFIX + name for name in ("as", "ld", "objcopy"))


def assemble(source, directory, name=None, size=FLOPPY, **defined):
    """An image of `size` bytes that begins with this boot sector, and an ELF file with its symbols, both in `directory`. `defined` are
    numbers that the source takes from outside."""
    assembler, linker, copier = PROGRAMS
    source, directory = pathlib.Path(source), pathlib.Path(directory)
    obj, elf, image = (directory / f"{name or source.stem}.{ending}" for ending in ("o", "elf", "img"))
    symbols = [f"--defsym={key}={int(value)}" for key, value in defined.items()]
    subprocess.run([assembler, "--64", "-I", HERE, *symbols, "-o", obj, source], check=True)
    subprocess.run([linker, "-m", "elf_x86_64", "-Ttext=0x7c00", "-e", "start", "-o", elf, obj], check=True)
    subprocess.run([copier, "-O", "binary", "-j", ".text", elf, image], check=True)
    os.truncate(image, size)
    obj.unlink()
    return image, elf


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    assemble(*sys.argv[1:])
