#!/usr/bin/env python3
"""Assembles the guest tests and runs each on the CPU harness, and with --qemu on QEMU as well.

usage: run.py [--harness PATH] [--qemu] [--build DIR] [NAME ...]
"""
import argparse
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
# "events" needs ports of the harness; "longmode" expects Intel's SYSCALL, which does not exist in compatibility mode;
# QEMU 7.2 makes no alignment checks.
NOT_ON_QEMU = {"alignment", "events", "longmode"}
# Checks in which QEMU's TCG is known to differ from the manual: it checks neither limits nor types of data segments,
# does not set EXT in the error code of a fault during the delivery of an exception, knows no general detect, INT1 or VME,
# pushes RF for no fault, leaves P out of the error code for reserved bits, and does not keep PDPTEs.
QEMU_DIFFERS = {
    "dword across the limit: #GP(0)", "byte behind the limit: #GP(0)", "expand-down: the limit itself is outside",
    "expand-down with B = 0: above FFFF", "access through a null segment", "write to read-only data", "write to code",
    "stack limit: #SS(0)", "#NP for the gate of #UD has EXT set",
    "its trap comes behind the instruction after MOV SS", "access to a debug register with GD", "a fault", "DR6.BD",
    "VM and RF in the pushed flags", "segments have a limit of FFFFh", "the redirected interrupt pushed IP",
    "it pushed IF = VIF and IOPL = 3", "IRET set VIF again; PUSHF shows it as IF",
    "reserved bit: RSVD and P", "PAE: reserved bit", "PDPTEs are loaded by MOV to CR3 only, 4.4.1",
    "a PDPTE with reserved bits: #GP(0) of MOV to CR3",
    "the handler runs with GD clear", "a fault pushes RF", "INT1", "INT1 is a trap",
}


def assemble(source, build):
    image = build / (source.stem + ".bin")
    obj = build / (source.stem + ".o")
    clang = shutil.which("clang-19") or "clang"
    lld = shutil.which("ld.lld-19") or "ld.lld"
    # GNU as: clang's assembler does not know numeric labels in Intel syntax.
    text = subprocess.run([clang, "-E", "-P", "-x", "assembler-with-cpp", "-I", HERE, source], check=True, capture_output=True)
    subprocess.run(["as", "--32", "-o", obj, "-"], input=text.stdout, check=True)
    subprocess.run([lld, "-T", HERE / "link.ld", "--oformat=binary", "-m", "elf_i386", obj, "-o", image], check=True)
    assert image.stat().st_size == 65536, image.stat().st_size
    return image


def run(command, timeout):
    try:
        result = subprocess.run(command, capture_output=True, timeout=timeout)
        return result.returncode, result.stdout.decode(errors="replace")
    except subprocess.TimeoutExpired as error:
        return -1, (error.stdout or b"").decode(errors="replace") + "timeout\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engines", default="interpreter,baseline")
    parser.add_argument("--harness", default="build/tests/guests/guest-harness")
    parser.add_argument("--qemu", action="store_true")
    parser.add_argument("--build")
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    sources = sorted(path for path in HERE.glob("*.S") if not options.names or path.stem in options.names)
    failures = 0
    harness = shlex.split(os.environ.get("MESON_EXE_WRAPPER", "")) + [options.harness]  # built for another architecture
    with tempfile.TemporaryDirectory() as scratch:
        build = pathlib.Path(options.build or scratch)
        build.mkdir(parents=True, exist_ok=True)
        for source in sources:
            image = assemble(source, build)
            runs = [("harness, reloaded", [*harness, "--reload", image], 0)]
            for engine in options.engines.split(","):
                runs.append((engine, [*harness, "--engine", engine, image], 0))
            if options.qemu and source.stem not in NOT_ON_QEMU:
                qemu = ["qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", "16", "-bios", image, "-display", "none",
                        "-debugcon", "stdio", "-global", "isa-debugcon.iobase=0xe9", "-no-reboot",
                        "-device", "isa-debug-exit,iobase=0xf4,iosize=1"]
                runs.append(("qemu", qemu, 1))
            for name, command, good in runs:
                status, output = run(command, 20)
                failed = status != good
                if name == "qemu":
                    wrong = [line for line in output.splitlines() if line.startswith("FAILED: ")
                             and line.removeprefix("FAILED: ").rsplit(": expected", 1)[0] not in QEMU_DIFFERS]
                    failed = bool(wrong) or "failures" not in output
                print(f"{'FAILED' if failed else 'ok'}  {source.stem} on {name}")
                for line in output.splitlines():
                    print("    " + line)
                failures += failed
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
