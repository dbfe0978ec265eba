#!/usr/bin/env python3
"""Runs one boot test: an unmodified guest in vellum, judged by what it prints.

usage: run.py [--speed FACTOR] [--engine ENGINE] VELLUM TEST      (run.py --list names the tests)

FACTOR stretches every timeout (for sanitizer builds and slow hosts). Exit status 77: skipped, with the reason.
"""
import argparse
import os
import sys

import boot_tests
import console
import debian
import network_tests
import replay_tests
import screen_tests


def main():
    tests = {name.removeprefix("test_"): function for name, function in (vars(boot_tests) | vars(network_tests) | vars(replay_tests) | vars(screen_tests)).items() if name.startswith("test_")}
    parser = argparse.ArgumentParser()
    parser.add_argument("--speed", type=float, default=float(os.environ.get("VELLUM_TEST_SPEED", "1")))
    parser.add_argument("--engine", help="instead of vellum's default")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("vellum", nargs="?")
    parser.add_argument("test", nargs="?", choices=sorted(tests))
    arguments = parser.parse_args()
    if arguments.list or not arguments.test:
        for name, function in tests.items():
            print(f"{name:<24}{function.__doc__}")
        return 0
    try:
        chosen = ("-engine", arguments.engine) if arguments.engine else ()

        def machine(*options):
            return console.Machine(arguments.vellum, *chosen, *options, speed=arguments.speed)
        tests[arguments.test](machine)
    except debian.Unavailable as reason:
        print(f"skipped: {reason}")
        return 77
    except console.Failure as failure:
        print(f"FAILED: {failure}")
        return 1
    print("passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
