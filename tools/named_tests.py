"""A command that runs one of a module's functions test_NAME: what tests/boot/run.py and tests/debug/run.py share."""
import debian

SKIPPED = 77  # what meson takes as "skipped"


def main(functions, parser, run, failure):
    """Parses `parser`'s options, --list, VELLUM and the name of a test, and calls run(function, arguments). `functions` are names and
    what they stand for; `failure` is the exception of a test that did not pass. Returns the exit status."""
    tests = {name.removeprefix("test_"): function for name, function in functions.items() if name.startswith("test_")}
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
        run(tests[arguments.test], arguments)
    except debian.Unavailable as reason:
        print(f"skipped: {reason}")
        return SKIPPED
    except failure as reason:
        print(f"FAILED: {reason}")
        return 1
    print("passed")
    return 0
