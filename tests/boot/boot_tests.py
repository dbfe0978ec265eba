"""The boot tests: each takes a function that makes a machine from vellum's options."""
import guests


def _shell(machine, timeout):
    """From power-on to the prompt of the busybox shell on the serial line."""
    machine.expect(r"SHELL-READY", timeout=timeout)
    machine.expect(r"vellum:[^\n]*# ", timeout=60)


def _expect(condition, machine, what):
    if not condition:
        from console import Failure
        raise Failure(f"{what}\n{machine.describe()}")


def test_linux64_kernel(machine):
    """Debian's 64-bit kernel to a busybox shell, by -kernel"""
    with machine("-m", "512", "-kernel", guests.kernel64(), "-initrd", guests.initrd64(),
                 "-append", "console=ttyS0 panic=-1") as m:
        _shell(m, 240)
        _expect("x86_64" in m.command("uname -m"), m, "uname -m does not say x86_64")
        _expect("8" == m.command("sh -c 'echo $((3 + 5))'").strip(), m, "the shell cannot add")
        # Every interrupt and timer source that the kernel picked must be alive.
        m.command("sleep 1")
        log = m.command("dmesg | grep -iE 'BUG:|WARNING:|Oops|call trace|soft lockup' | grep -v LOCKDEP")
        _expect(not log.strip(), m, f"the kernel complained:\n{log}")
        m.send("poweroff -f\n")
        m.wait(60)


def test_linux32_kernel(machine):
    """Debian's 32-bit PAE kernel to a busybox shell, by -kernel"""
    with machine("-m", "512", "-kernel", guests.kernel32(), "-initrd", guests.initrd32(),
                 "-append", "console=ttyS0 panic=-1") as m:
        _shell(m, 240)
        _expect("i686" in m.command("uname -m"), m, "uname -m does not say i686")
        m.send("poweroff -f\n")
        m.wait(60)


def test_snapshot(machine):
    """savevm in one process, loadvm in another, and the guest goes on where it was"""
    import tempfile
    options = ("-m", "256", "-kernel", guests.kernel64(), "-initrd", guests.initrd64(), "-append", "console=ttyS0 quiet")
    with tempfile.TemporaryDirectory() as directory:
        with machine(*options) as m:
            _shell(m, 240)
            m.command("echo remembered > /tmp/note")
            m.monitor("stop")
            answer = m.monitor(f"savevm {directory}/state")
            _expect(not answer.strip(), m, f"savevm said {answer}")
        with machine(*options, "-S") as m:
            answer = m.monitor(f"loadvm {directory}/state")
            _expect(not answer.strip(), m, f"loadvm said {answer}")
            m.monitor("cont")
            _expect("remembered" in m.command("cat /tmp/note"), m, "the note is gone")
            m.send("poweroff -f\n")
            m.wait(60)
