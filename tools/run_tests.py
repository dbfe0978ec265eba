#!/usr/bin/env python3
"""Runs the tests of a build directory and sums them up: failures with their output, skips with their reasons, then one line.

usage: run_tests.py [--build DIR] [--all-engines] [ARGUMENT OF meson test ...]

--all-engines: every boot test under every engine, which takes about two hours more.
"""
import argparse
import json
import pathlib
import subprocess
import sys

TOP = pathlib.Path(__file__).resolve().parent.parent
# The tests' limits are for a machine that does nothing else. A limit is there to end what hangs, so a busy machine gets more.
PATIENCE = 3
PASSED = {"OK", "EXPECTEDFAIL"}
SKIPPED = {"SKIP", "IGNORED"}


def last_line(test):
    lines = [line for line in test.get("stdout", "").splitlines() + test.get("stderr", "").splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no reason given"


def main():
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--build", type=pathlib.Path, default=TOP / "build")
    parser.add_argument("--all-engines", action="store_true")
    options, arguments = parser.parse_known_args()
    log = options.build / "meson-logs" / "testlog.json"
    log.unlink(missing_ok=True)
    patience = [] if any(argument.startswith("--timeout-multiplier") for argument in arguments) else ["--timeout-multiplier", str(PATIENCE)]
    subprocess.run(["meson", "test", "-C", options.build, "--no-rebuild", *patience,
                    *([] if options.all_engines else ["--no-suite", "all-engines"]), *arguments])
    tests = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    skipped = [test for test in tests if test["result"] in SKIPPED]
    failed = [test for test in tests if test["result"] not in SKIPPED | PASSED]
    for test in failed:
        print(f"\nFAILED {test['name']} ({test['result']}, {test['duration']:.1f} s)")
        output = (test.get("stdout", "") + test.get("stderr", "")).splitlines()
        print("\n".join(f"  {line}" for line in output[-60:]))
    if skipped:
        print("\nSkipped:")
        for test in skipped:
            print(f"  {test['name']}: {last_line(test)}")
    if not tests:
        print("No test was run.")
    print(f"{len(tests) - len(skipped) - len(failed)} passed, {len(failed)} failed, {len(skipped)} skipped")
    return 1 if failed or not tests else 0


if __name__ == "__main__":
    sys.exit(main())
