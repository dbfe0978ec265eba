"""Boot tests of the network: each is a function test_NAME(machine), its docstring says what the guest must do."""
import contextlib
import functools
import hashlib
import http.server
import os
import pathlib
import socket
import subprocess
import tempfile
import threading
import time

import debian
import guests
from boot_tests import _engines, _expect, _replay, _shell


@contextlib.contextmanager
def _files():
    """A directory with a file "data" of a size that no frame divides, and a web server of it on the host's loopback: path and port."""
    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass
    with tempfile.TemporaryDirectory() as directory:
        pathlib.Path(directory, "data").write_bytes(bytes((i * 7 + (i >> 8) * 13) & 0xff for i in range(1_000_003)))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=directory))
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield directory, server.server_address[1]
        finally:
            server.shutdown()
            server.server_close()


def _digest(directory):
    return hashlib.md5(pathlib.Path(directory, "data").read_bytes()).hexdigest()


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


_KERNELS = {64: (guests.kernel64, guests.network_initrd64), 32: (guests.kernel32, guests.network_initrd32)}


def _linux(bits=64):
    kernel, initrd = _KERNELS[bits]
    return ("-m", "256", "-kernel", kernel(), "-initrd", initrd(), "-append", "console=ttyS0 quiet")


def _use_card(m, driver, address, arguments=""):
    """Loads the driver, asks DHCP, and looks at what came of it."""
    m.command(f"load-driver {driver} {arguments}")
    found = m.command("cat /sys/class/net/eth0/address")
    _expect(address in found, m, f"the card's address is {found}, not {address}")
    m.command("ip link set eth0 up")
    text = m.command("udhcpc -i eth0 -s /bin/dhcp-script -n -q -t 5 2>&1; ip addr show eth0", timeout=120)
    _expect("inet 10.0.2.15/24" in text, m, f"no lease: {text}")


def _fetch(m, directory, port):
    """The guest gets the file by HTTP from the host's loopback and by TFTP from the user-mode network, and it is the file."""
    digest = _digest(directory)
    text = m.command(f"cd /tmp; wget -q -O web http://10.0.2.2:{port}/data; md5sum web", timeout=180)
    _expect(digest in text, m, f"HTTP brought {text}")
    text = m.command("tftp -g -r data -l tftp 10.0.2.2; md5sum tftp", timeout=180)
    _expect(digest in text, m, f"TFTP brought {text}")


def _connect_in(m, port):
    """The host connects to a port that is forwarded, and the guest hears and answers."""
    m.command("(echo hello from the guest | nc -l -p 7777 > /tmp/heard) & true")
    time.sleep(0.5)
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(b"hello from the host\n")
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(60)
        answer = b""
        while b"\n" not in answer:
            answer += connection.recv(100)
    _expect(b"hello from the guest" in answer, m, f"the guest answered {answer}")
    _expect("hello from the host" in m.command("sleep 1; cat /tmp/heard"), m, "the guest did not hear the host")


def _whole_network(machine, device, driver, bits=64, arguments="", address="52:54:00:12:34:57"):
    with _files() as (directory, port):
        forward = _free_port()
        with machine(*_linux(bits), "-netdev", f"user,id=n0,tftp={directory},hostfwd=tcp::{forward}-:7777", "-device", f"{device},netdev=n0,mac={address}") as m:
            _shell(m, 240)
            _use_card(m, driver, address, arguments)
            _fetch(m, directory, port)
            _connect_in(m, forward)
            # Only what was asked for is open, and only on the loopback.
            listening = subprocess.run(["ss", "-Hltn", f"sport = :{forward}"], capture_output=True, text=True).stdout if os.path.exists("/usr/bin/ss") else f"127.0.0.1:{forward}"
            _expect(f"127.0.0.1:{forward}" in listening and "0.0.0.0" not in listening.split()[3], m, f"it listens at {listening}")
            text = m.monitor("info network")
            _expect("driver listens" in text and "user network 10.0.2.0/24" in text, m, f"info network says {text}")
            m.send("poweroff -f\n")
            m.wait(60)


def test_network_e1000(machine):
    """Linux's e1000 driver: DHCP, a file by HTTP and TFTP, a connection from the host"""
    _whole_network(machine, "e1000", "e1000")


def test_network_ne2k_pci(machine):
    """Linux's ne2k-pci driver on an RTL8029: the same"""
    _whole_network(machine, "ne2k_pci", "ne2k-pci")


def test_network_ne2k_isa(machine):
    """The 32-bit kernel's ne driver on an NE2000 on ISA: the same"""
    _whole_network(machine, "ne2k_isa,irq=5", "ne", bits=32, arguments="io=0x300 irq=5")


def test_network_virtio(machine):
    """Linux's virtio_net driver: the same"""
    _whole_network(machine, "virtio-net-pci", "virtio_net")


# A network bootstrap program, which iPXE loads at 7C00h: it writes a text to the first serial line.
_PROGRAM = """
.code16
start:
  cld
  push %cs
  pop %ds
  call 1f
1: pop %si
  add $text - 1b, %si
2: lodsb
  test %al, %al
  jz 3f
  mov $0x3f8, %dx
  out %al, %dx
  jmp 2b
3: hlt
  jmp 3b
text: .asciz "THE-PROGRAM-FROM-THE-NETWORK-RUNS\\r\\n"
"""


def _boots_from_network(machine, device):
    with tempfile.TemporaryDirectory() as directory:
        program = pathlib.Path(directory, "program")
        subprocess.run(["as", "--32", "-o", f"{program}.o", "-"], input=_PROGRAM.encode(), check=True)
        subprocess.run(["objcopy", "-O", "binary", f"{program}.o", program], check=True)
        with machine("-m", "64", "-boot", "n", "-netdev", f"user,id=n0,tftp={directory},bootfile=program", "-device", f"{device},netdev=n0") as m:
            m.expect("THE-PROGRAM-FROM-THE-NETWORK-RUNS", timeout=120)


def test_network_boot_e1000(machine):
    """iPXE in the card's option ROM gets a lease and boots a program by TFTP"""
    _boots_from_network(machine, "e1000")


def test_network_boot_ne2k_pci(machine):
    """The same with the RTL8029"""
    _boots_from_network(machine, "ne2k_pci")


def test_network_boot_virtio(machine):
    """The same with virtio"""
    _boots_from_network(machine, "virtio-net-pci")


def test_network_boot_linux(machine):
    """iPXE boots Linux by a script: the kernel and its initial RAM disk come by HTTP"""
    with _files() as (directory, port):
        for name, source in (("vmlinuz", guests.kernel64()), ("initrd", guests.initrd64())):
            os.symlink(source, pathlib.Path(directory, name))
        address = f"http://10.0.2.2:{port}"
        pathlib.Path(directory, "boot.ipxe").write_text(f"#!ipxe\nkernel {address}/vmlinuz initrd=initrd console=ttyS0 quiet\ninitrd {address}/initrd\nboot\n")
        with machine("-m", "256", "-boot", "n", "-nic", f"user,tftp={directory},bootfile=boot.ipxe") as m:
            _shell(m, 240)


def test_network_recording(machine):
    """A recorded run that gets a file from the network replays to the same state under every engine, and at the replay nobody serves it"""
    options = (*_linux(), "-device", "e1000,netdev=n0")
    with tempfile.TemporaryDirectory() as recordings:
        recording = f"{recordings}/recording"
        with _files() as (directory, port):
            with machine(*options, "-netdev", f"user,id=n0,tftp={directory}", "-record", recording) as m:
                _shell(m, 240)
                _use_card(m, "e1000", "52:54:00:12:34:56")
                _fetch(m, directory, port)
                m.send("poweroff -f\n")
                m.wait(60)
        ends = {engine: _replay(machine, (*options, "-netdev", "user,id=n0,tftp=/nonexistent"), recording, engine) for engine in _engines(machine) if engine != "llvm"}
        _expect(len(set(ends.values())) == 1, m, f"the engines end differently: {ends}")
        with machine(*_linux(), "-device", "e1000,netdev=n0,mac=52:54:00:00:00:01", "-netdev", "user,id=n0", "-replay", recording) as m:
            m.wait(60, status=1)
            _expect("the recording has network0=" in m.serial, m, "no word of the other card")


def test_network_cable(machine):
    """Two machines on a Unix socket reach each other"""
    with tempfile.TemporaryDirectory() as directory:
        cable = f"unix:{directory}/cable"
        with machine(*_linux(), "-nic", f"socket,listen={cable},mac=52:54:00:00:00:01") as one:
            _shell(one, 240)
            with machine(*_linux(), "-nic", f"socket,connect={cable},mac=52:54:00:00:00:02") as two:
                _shell(two, 240)
                for number, m in enumerate((one, two), 1):
                    m.command("load-driver e1000")
                    m.command(f"ifconfig eth0 192.168.1.{number} up")
                one.command("nc -l -p 7777 > /tmp/heard & true")
                text = two.command("ping -c 3 192.168.1.1", timeout=60)
                _expect(" 0% packet loss" in text, two, f"ping said {text}")
                two.command("head -c 300000 /dev/urandom > /tmp/said; nc 192.168.1.1 7777 < /tmp/said", timeout=60)
                said, heard = two.command("md5sum < /tmp/said"), one.command("sleep 1; md5sum < /tmp/heard")
                _expect(said == heard, one, f"one said {said}, the other heard {heard}")


@contextlib.contextmanager
def _tap(address):
    """A tap interface of the host with this address. Needs root and /dev/net/tun."""
    name = f"vellum{os.getpid() % 100000}"
    if os.geteuid() != 0 or not os.path.exists("/dev/net/tun"):
        raise debian.Unavailable("a tap interface can only be made by root, and where there is /dev/net/tun")
    try:
        made = subprocess.run(["ip", "tuntap", "add", name, "mode", "tap"], capture_output=True, text=True)
    except FileNotFoundError:
        raise debian.Unavailable("there is no command ip (package iproute2)") from None
    if made.returncode != 0:
        raise debian.Unavailable(f"this host lets nobody make a tap interface: {made.stderr.strip()}")
    try:
        subprocess.run(["ip", "address", "add", f"{address}/24", "dev", name], check=True)
        subprocess.run(["ip", "link", "set", name, "up"], check=True)
        yield name
    finally:
        subprocess.run(["ip", "tuntap", "del", name, "mode", "tap"], check=True)


def test_network_tap(machine):
    """The guest reaches the host by a tap interface"""
    with _tap("192.168.77.1") as name, machine(*_linux(), "-nic", f"tap,ifname={name},model=virtio-net-pci") as m:
        _shell(m, 240)
        m.command("load-driver virtio_net")
        m.command("ifconfig eth0 192.168.77.2 up")
        text = m.command("ping -c 3 192.168.77.1", timeout=60)
        _expect(" 0% packet loss" in text, m, f"ping said {text}")
        _expect(f"tap {name}" in m.monitor("info network"), m, "info network does not name the interface")
