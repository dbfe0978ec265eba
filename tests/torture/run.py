#!/usr/bin/env python3
"""Builds the torture program with AddressSanitizer and UBSan, nothing else with it, and runs it.

  run.py SOURCE BUILD-DIR [torture's arguments]

Only line tables as debug information, and -O1: the interpreter's handlers compile twice as fast, and each case is short.
"""
import os
import pathlib
import subprocess
import sys

OPTIONS = ["-Db_sanitize=address,undefined", "-Db_lundef=false", "-Doptimization=1", "-Ddebug=false",
           "-Dcpp_args=-gline-tables-only"]
TARGET = "tests/torture/torture"


def run(command, **keywords):
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **keywords)
    if result.returncode != 0:
        print(result.stdout[-8000:])
        sys.exit(1)


def main():
    source, build, arguments = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3:]
    if not (build / "build.ninja").exists():
        environment = dict(os.environ)
        environment.setdefault("CXX", "clang++-19")
        environment.setdefault("CXX_LD", "lld-19")
        run(["meson", "setup", *OPTIONS, build, source], env=environment)
    run(["ninja", "-C", build, TARGET])
    sys.exit(subprocess.run([build / TARGET, *arguments]).returncode)


if __name__ == "__main__":
    main()
