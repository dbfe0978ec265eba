"""What the scripts that run inside gdb share: every one begins with `from inside_gdb import *` and ends by itself."""
import os
import sys
import traceback

import gdb

for setting in ("pagination off", "confirm off", "osabi none", "python print-stack full", "width 0"):
    gdb.execute(f"set {setting}")


def run(command):
    """Executes a command of gdb's and returns what it prints."""
    return gdb.execute(command, to_string=True)


def connect():
    run(f"target remote {os.environ['VELLUM_GDB']}")


def reg(name):
    return int(gdb.parse_and_eval(f"${name}")) & 0xFFFF_FFFF_FFFF_FFFF


def symbol(name):
    return int(gdb.parse_and_eval(f"(unsigned long)&{name}"))


def memory(address, size):
    return int.from_bytes(bytes(gdb.selected_inferior().read_memory(address, size)), "little")


def equal(got, wanted, what):
    if got != wanted:
        shown = [f"{value:#x}" if isinstance(value, int) else repr(value) for value in (got, wanted)]
        raise AssertionError(f"{what}: got {shown[0]}, wanted {shown[1]}")


def contains(text, part, what):
    if part not in text:
        raise AssertionError(f"{what}: no {part!r} in {text!r}")


def script(main):
    """Runs main() and ends gdb with an exit status that tells how it went."""
    try:
        main()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        sys.stdout.flush()
        os._exit(1)
    print("script done")
    sys.stdout.flush()
    os._exit(0)
