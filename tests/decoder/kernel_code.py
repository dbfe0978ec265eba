#!/usr/bin/env python3
"""Compares the decoder with Capstone on the code of Debian's kernel: kernel_code.py COMPARE_PROGRAM 32|64"""
import lzma
import pathlib
import struct
import subprocess
import sys
import tempfile
import zlib

TOP = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(TOP / "tools"), str(TOP / "tests" / "boot")]
import debian  # noqa: E402
import guests  # noqa: E402


def payload(image):
    """The uncompressed ELF inside a bzImage (Linux boot protocol, setup header fields 248h and 24Ch)."""
    setup_sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    data = image[(setup_sectors + 1) * 512 + offset:][:length]
    if data[:6] == b"\xfd7zXZ\0":
        return lzma.LZMADecompressor().decompress(data)
    if data[:2] == b"\x1f\x8b":
        return zlib.decompressobj(31).decompress(data)
    raise SystemExit("the kernel is compressed in a way that this test does not know")


def text_segment(elf):
    """The bytes of the first executable PT_LOAD up to the end of .text, for either ELF class."""
    if elf[4] == 2:
        section_offset, = struct.unpack_from("<Q", elf, 0x28)
        size, count, names = struct.unpack_from("<HHH", elf, 0x3A)
        read = lambda i: struct.unpack_from("<IIQQQQ", elf, section_offset + i * size)
    else:
        section_offset, = struct.unpack_from("<I", elf, 0x20)
        size, count, names = struct.unpack_from("<HHH", elf, 0x2E)
        read = lambda i: struct.unpack_from("<IIIIII", elf, section_offset + i * size)
    strings = read(names)[4]
    for i in range(count):
        name, _, _, _, offset, length = read(i)
        if elf[strings + name:strings + name + 6] == b".text\0":
            return elf[offset:offset + length]
    raise SystemExit("the kernel has no .text section")


program, bits = sys.argv[1:]
try:
    image = guests.kernel64() if bits == "64" else guests.kernel32()
except debian.Unavailable as reason:
    print(f"skipped: {reason}")
    sys.exit(77)
with open(image, "rb") as file, tempfile.NamedTemporaryFile() as code:
    code.write(text_segment(payload(file.read())))
    code.flush()
    sys.exit(subprocess.run([program, "--file", code.name, "--bits", bits]).returncode)
