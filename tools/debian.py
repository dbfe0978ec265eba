#!/usr/bin/env python3
"""Fetches Debian packages and takes files out of them, without installing anything and without changing the package
settings of the system: the guests of demo and tests are made of these files.

usage: debian.py extract PACKAGE[:ARCHITECTURE] DIRECTORY [PATH...]
"""
import fcntl
import os
import pathlib
import re
import subprocess
import sys
import tempfile

TOP = pathlib.Path(__file__).resolve().parent.parent
CACHE = pathlib.Path(os.environ.get("VELLUM_CACHE", TOP / "cache"))


class Unavailable(Exception):
    """A package cannot be had: no network, or no such package."""


def native_architecture():
    return subprocess.run(["dpkg", "--print-architecture"], check=True, capture_output=True, text=True).stdout.strip()


def _settings(architecture):
    """apt options that use the user's sources and keys, but a state of their own."""
    state = CACHE / "apt" / architecture
    for sub in ("lists/partial", "archives/partial"):
        (state / sub).mkdir(parents=True, exist_ok=True)
    status = state / "status"
    status.touch()
    return [
        "-o", f"APT::Architecture={architecture}", "-o", f"APT::Architectures={architecture}",
        "-o", f"Dir::State={state}", "-o", f"Dir::State::Lists={state}/lists", "-o", f"Dir::State::status={status}",
        "-o", f"Dir::Cache={state}", "-o", f"Dir::Cache::archives={state}/archives",
        "-o", "APT::Sandbox::User=", "-o", "Debug::NoLocking=1",
    ]


def _run(command, **keywords):
    return subprocess.run(command, capture_output=True, text=True, **keywords)


def _options(package, architecture):
    """The system's own package lists where they know the package, else lists of our own, fetched when necessary."""
    if architecture == native_architecture() and _run(["apt-cache", "show", package]).returncode == 0:
        return ["-o", "APT::Sandbox::User="]
    options = _settings(architecture)
    if _run(["apt-cache", *options, "show", package]).returncode != 0:
        print(f"Fetching Debian's package lists ({architecture})", file=sys.stderr, flush=True)
        update = _run(["apt-get", *options, "update"])
        if _run(["apt-cache", *options, "show", package]).returncode != 0:
            reason = (update.stderr.strip().splitlines() or ["it is in none of the configured sources"])[-1]
            raise Unavailable(f"Debian's package {package} ({architecture}) cannot be found: {reason}")
    return options


def mirror():
    """The address from which this system gets Debian 12 itself."""
    listed = _run(["apt-get", "indextargets", "--format", "$(CODENAME) $(REPO_URI)", "Created-By: Packages"]).stdout
    for line in listed.splitlines():
        codename, _, address = line.partition(" ")
        if codename == "bookworm":
            return address
    raise Unavailable("this system's package sources name no mirror of Debian 12")


def dependencies(package, architecture=None):
    """Names of the packages that a package depends on."""
    architecture = architecture or native_architecture()
    shown = _run(["apt-cache", *_options(package, architecture), "show", "--no-all-versions", package], check=True).stdout
    match = re.search(r"^Depends: (.*)$", shown, re.MULTILINE)
    return [re.split(r"[ (|:]", entry.strip())[0] for entry in match.group(1).split(",")] if match else []


def fetch(package, architecture=None):
    """Returns the path of the package's .deb file, downloading it into the cache if it is not there."""
    architecture = architecture or native_architecture()
    packages = CACHE / "packages"
    packages.mkdir(parents=True, exist_ok=True)
    with open(packages / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = sorted(packages.glob(f"{package}_*_{architecture}.deb")) + sorted(packages.glob(f"{package}_*_all.deb"))
        if found:
            return found[-1]
        options = _options(package, architecture)
        print(f"Fetching Debian's package {package} ({architecture})", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(dir=packages) as directory:
            done = _run(["apt-get", *options, "-q", "download", package], cwd=directory)
            files = list(pathlib.Path(directory).glob("*.deb"))
            if done.returncode != 0 or not files:
                reason = (done.stderr.strip().splitlines() or ["unknown error"])[-1]
                raise Unavailable(f"Debian's package {package} ({architecture}) cannot be downloaded: {reason}")
            target = packages / files[0].name
            files[0].rename(target)
            return target


def extract(package, directory, paths=(), architecture=None):
    """Unpacks a package (only `paths` of it, when given: files or directories such as ./boot) below `directory`."""
    archive = fetch(package, architecture)
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    unpack = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", archive], stdout=subprocess.PIPE)
    tar = subprocess.run(["tar", "-x", "-C", directory, "--no-same-owner", *paths], stdin=unpack.stdout)
    unpack.stdout.close()
    unpack.wait()
    if tar.returncode != 0:
        raise Unavailable(f"{archive} could not be unpacked")


def kernel(destination, meta_package="linux-image-amd64", architecture=None):
    """Puts the kernel that a meta package depends on at `destination`."""
    image = next(name for name in dependencies(meta_package, architecture) if name.startswith("linux-image-"))
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as directory:
        extract(image, directory, ["./boot"], architecture)
        found = next(pathlib.Path(directory, "boot").glob("vmlinuz-*"))
        found.rename(destination)


if __name__ == "__main__":
    if len(sys.argv) < 4 or sys.argv[1] != "extract":
        sys.exit(__doc__)
    name, _, arch = sys.argv[2].partition(":")
    try:
        extract(name, sys.argv[3], sys.argv[4:], arch or None)
    except Unavailable as error:
        sys.exit(str(error))
