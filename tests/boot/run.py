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
import named_tests
import network_tests
import replay_tests
import screen_tests


def run(test, arguments):
    chosen = ("-engine", arguments.engine) if arguments.engine else ()
    test(lambda *options: console.Machine(arguments.vellum, *chosen, *options, speed=arguments.speed))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--speed", type=float, default=float(os.environ.get("VELLUM_TEST_SPEED", "1")))
    tests = vars(boot_tests) | vars(network_tests) | vars(replay_tests) | vars(screen_tests)
    sys.exit(named_tests.main(tests, parser, run, console.Failure))
