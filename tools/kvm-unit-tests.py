#!/usr/bin/env python3
"""Runs kvm-unit-tests on Vellum and compares with the table in docs/guest-support.md.
  tools/kvm-unit-tests.py [--engine E] [--seconds LIMIT] SOURCES VELLUM [ENTRY...]
SOURCES is the suite's tree, configured and built for x86_64. Entries that the table does not name are not run."""

import argparse
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import time

TOP = pathlib.Path(__file__).resolve().parent.parent


def entries(sources):
    """The sections of x86/unittests.cfg."""
    found = []
    for line in (sources / "x86" / "unittests.cfg").read_text().splitlines():
        if section := re.match(r"\s*\[(.*)\]", line):
            found.append({"name": section[1]})
        elif "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found[-1][key.strip()] = value.strip()
    return found


def expected():
    """Result by entry, as the table has it."""
    text = (TOP / "docs" / "guest-support.md").read_text().partition("## kvm-unit-tests")[2]
    table = {}
    for names, result in re.findall(r"^\| ([^|]+) \| (pass|fail|skip) \|", text, re.MULTILINE):
        for name in names.split(","):
            table[name.strip()] = result
    return table


def command(entry, sources, vellum, engine):
    """The table's remarks say why each of these differs from what the suite asks of QEMU."""
    words = shlex.split(entry.get("qemu_params", "").replace("`date +%s`", ""))
    arguments = entry.get("test_args", "").strip("\"'").replace("`date +%s`", str(int(time.time())))
    cpu, options = "max", []
    while words:
        word = words.pop(0)
        if word == "-cpu":
            cpu = words.pop(0)
        elif word in ("-machine", "-M", "-overcommit"):
            words.pop(0)
        elif word != "-enable-kvm":
            options.append(word)
    model, *features = cpu.split(",")
    features = [f for f in features if "host-phys-bits" not in f and not f.startswith(("migratable", "hv_"))]
    model = {"Opteron_G1": "core2", "IvyBridge": "nehalem"}.get(model, model)
    if entry["name"] == "la57":
        features.append("+la57")
    if entry["name"] in ("x2apic", "xapic", "vmexit_vmcall", "hypercall"):
        features.append("+kvm-pv-ipi")
    if entry["name"] in ("x2apic", "xapic"):
        options += ["-clock", "instructions"]
    if "-m" not in options:
        options += ["-m", "128"]
    return [vellum, "-engine", engine, "-device", "pc-testdev", "-device", "isa-debug-exit,iobase=0xf4,iosize=0x4", "-serial", "stdio",
            "-display", "none", "-cpu", ",".join([model, *features]), *options,
            "-kernel", str(sources / "x86" / entry["file"]), "-append", arguments]


def run(words, seconds):
    """pass, fail, skip, timeout or the status of the process; the output."""
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            status = None
        output.seek(0)
        text = output.read().decode(errors="replace")
    # isa-debug-exit ends with 2 n + 1: report_summary() gives 0, 1, or 38 for what was skipped.
    result = {1: "pass", 3: "fail", 77: "skip", None: "timeout"}.get(status, f"status {status}")
    if result == "pass" and re.search(r"^FAIL", text, re.MULTILINE):
        result = "fail"
    return result, text


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="tiered")
    parser.add_argument("--seconds", type=int, default=900)
    parser.add_argument("--logs", type=pathlib.Path, help="a folder for the output of what differs")
    parser.add_argument("sources", type=pathlib.Path)
    parser.add_argument("vellum")
    parser.add_argument("entries", nargs="*")
    arguments = parser.parse_args()
    table = expected()
    differ = ran = 0
    for entry in entries(arguments.sources):
        name = entry["name"]
        if name not in table or (arguments.entries and name not in arguments.entries):
            continue
        words = command(entry, arguments.sources, arguments.vellum, arguments.engine)
        started = time.monotonic()
        # s3 fails by going to sleep for good.
        result, text = run(words, min(arguments.seconds, 60) if table[name] == "fail" else arguments.seconds)
        ran += 1
        as_expected = result == table[name] or (result, table[name]) == ("timeout", "fail")
        differ += not as_expected
        print(f"{name:32} {result:8} {time.monotonic() - started:6.1f} s{'' if as_expected else '   expected: ' + table[name]}", flush=True)
        if not as_expected and arguments.logs:
            (arguments.logs / f"{name}.{arguments.engine}").write_text(shlex.join(words) + "\n" + text)
    print(f"{arguments.engine}: {ran} entries, {differ} not as in the table")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
