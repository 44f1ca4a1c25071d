#!/usr/bin/env python3
"""Provides libtorch 2.11 for tch 0.24.0 in `.libtorch`, with nothing but the Python standard library and pip.

A fitting LIBTORCH is linked; otherwise the wheels pinned in libtorch.txt are fetched, checked against their hashes, and
the few files that the build needs are taken out. `setup.json` is written last and lists every library with its size: a
`.libtorch` without it, or that disagrees with it, is made anew; see docs/adr/0002.

`--cuda` adds libtorch's CUDA libraries in `.libtorch/cuda`, laid out as the wheels have them, so that they find each other. What
is linked stays the same: a worker loads them at run time, when it is to compute on a GPU. No GPU is needed to fetch them.
"""

import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TARGET = os.path.join(ROOT, ".libtorch")
PINS = os.path.join(ROOT, "setup", "libtorch.txt")
VERSION = "2.11.0"
SERIES = "2.11."
# The tags under which the wheels are published.
PLATFORMS = (
    "manylinux_2_28_x86_64",
    "manylinux_2_27_x86_64",
    "manylinux_2_25_x86_64",
    "manylinux_2_18_x86_64",
    "manylinux2014_x86_64",
    "manylinux2010_x86_64",
)
LIBRARIES = {
    "torch/lib/libtorch_cpu.so",
    "torch/lib/libc10.so",
    "torch/lib/libgomp.so.1",
    "nvidia/cu13/lib/libcudart.so.13",
    "nvidia/cu13/lib/libcupti.so.13",
}
CUDA = os.path.join(TARGET, "cuda")
CUDA_PINS = os.path.join(ROOT, "setup", "libtorch-cuda.txt")
CUDA_LIBRARIES = {
    "torch/lib/libtorch_cuda.so",
    "torch/lib/libtorch_cuda_linalg.so",
    "torch/lib/libtorch_nvshmem.so",
    "torch/lib/libc10_cuda.so",
    "torch/lib/libcaffe2_nvrtc.so",
}
# What NVIDIA's wheels hold besides: for other programs, several machines, or measuring.
CUDA_USELESS = ("libcusolverMg", "libnvblas", "libcufftw", ".alt.", "nvshmem_transport", "nvshmem_bootstrap", "libcufile_rdma")
# Where a libtorch states its version, in the order of trust.
VERSION_FILES = (
    "build-version",
    "include/torch/headeronly/version.h",
    "include/torch/version.h",
    "include/torch/csrc/api/include/torch/version.h",
)


class SetupError(Exception):
    """One line for the user; there is nothing to retry."""


class Bundle:
    """Files out of pinned wheels, in a folder of their own."""

    def __init__(self, name, folder, pins, wheels_bytes, needed_bytes, parts, required, destination):
        self.name = name
        self.folder = folder
        self.pins = pins
        # Sum of the wheels, for the progress lines; and what they and the unpacked files take while both exist.
        self.wheels_bytes = wheels_bytes
        self.needed_bytes = needed_bytes
        # Its folders at the top; members of wheels that it cannot do without; and where a member goes, or None.
        self.parts = parts
        self.required = required
        self.destination = destination


def main():
    cuda = "--cuda" in sys.argv[1:]
    if sys.argv[1:] not in ([], ["--cuda"]):
        raise SetupError("usage: libtorch.py [--cuda]")
    own = os.environ.get("LIBTORCH", "")
    if own and not same(own, TARGET):
        fault = unfit(own)
        if fault is None:
            link(os.path.abspath(own))
            return require_cuda_of_own() if cuda else None
        say(f"LIBTORCH={own} does not fit: {fault}; using the pinned wheels")
    for bundle in (libtorch(), cuda_libraries())[: 2 if cuda else 1]:
        if bundle.folder == CUDA and os.path.islink(TARGET):
            return require_cuda_of_own()
        if not is_complete(bundle):
            require_platform()
            with_lock(bundle)


def libtorch():
    return Bundle(
        f"libtorch {VERSION}", TARGET, PINS, 543_671_508, 1_100_000_000, ("lib", "include"), LIBRARIES, destination
    )


def cuda_libraries():
    return Bundle(
        f"libtorch {VERSION}'s CUDA libraries", CUDA, CUDA_PINS, 2_499_369_147, 6_200_000_000, ("torch", "nvidia"), CUDA_LIBRARIES, cuda_destination
    )


def require_cuda_of_own():
    if not os.path.exists(os.path.join(TARGET, "lib", "libtorch_cuda.so")):
        raise SetupError("your LIBTORCH has no lib/libtorch_cuda.so: unset LIBTORCH to use the pinned wheels")


def same(left, right):
    return os.path.realpath(left) == os.path.realpath(right)


def unfit(folder):
    """Why `folder` cannot serve as libtorch, or None if it can."""
    for name in ("lib/libtorch_cpu.so", "include"):
        if not os.path.exists(os.path.join(folder, name)):
            return f"it has no {name}"
    found = version_of(folder)
    if found is None:
        return "it does not state its version"
    return None if found.startswith(SERIES) else f"it is {found}, and tch 0.24.0 wants {SERIES}x"


def version_of(folder):
    import re

    for name in VERSION_FILES:
        try:
            with open(os.path.join(folder, name), encoding="utf-8", errors="replace") as file:
                text = file.read()
        except OSError:
            continue
        if name == "build-version":
            return text.strip()
        parts = [re.search(rf"define TORCH_VERSION_{part} +(\d+)", text) for part in ("MAJOR", "MINOR", "PATCH")]
        if all(parts):
            return ".".join(part.group(1) for part in parts)
    return None


def link(own):
    if os.path.islink(TARGET) and os.readlink(TARGET) == own:
        return
    remove(TARGET)
    os.symlink(own, TARGET)
    say(f".libtorch links to {own} ({version_of(own)})")


def is_complete(bundle):
    """Whether a folder is what an earlier run left: a link to a fitting libtorch, or all files at their sizes."""
    if os.path.islink(bundle.folder):
        return unfit(bundle.folder) is None
    import json

    try:
        with open(os.path.join(bundle.folder, "setup.json"), encoding="utf-8") as file:
            return json.load(file) == inventory(bundle)
    except (OSError, ValueError):
        return False


def inventory(bundle):
    """What a complete folder holds: the pins, each library's size, and the headers' number and bytes."""
    with open(bundle.pins, encoding="utf-8") as file:
        pins = [line.strip(" \\\n") for line in file if not line.startswith("#")]
    if bundle.folder == CUDA:
        return {"pins": pins, "files": {part: tally(os.path.join(CUDA, part)) for part in bundle.parts}}
    with os.scandir(os.path.join(bundle.folder, "lib")) as entries:
        libraries = {entry.name: entry.stat().st_size for entry in entries}
    count, size = tally(os.path.join(bundle.folder, "include"))
    return {"pins": pins, "libraries": libraries, "headers": count, "header_bytes": size}


def tally(folder):
    count = size = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            below = tally(entry.path) if entry.is_dir() else (1, entry.stat().st_size)
            count, size = count + below[0], size + below[1]
    return [count, size]


def require_platform():
    machine = os.uname()
    if (machine.sysname, machine.machine) != ("Linux", "x86_64"):
        raise SetupError(
            f"no pinned libtorch for {machine.sysname} {machine.machine}: set LIBTORCH to a libtorch {VERSION} of your own"
        )
    try:
        libc = os.confstr("CS_GNU_LIBC_VERSION").split()[1]
    except (AttributeError, OSError, ValueError, IndexError):
        libc = None
    if libc is None or tuple(int(part) for part in libc.split(".")[:2]) < (2, 28):
        raise SetupError(
            f"the pinned libtorch needs glibc 2.28 or newer, here is {libc or 'another libc'}: set LIBTORCH to one of your own"
        )


def with_lock(bundle):
    """Provides a bundle alone: a second setup in the same checkout waits, then finds the first one's result."""
    import fcntl

    if os.path.islink(TARGET) or os.path.isfile(TARGET):
        say(".libtorch links to something unfit: replacing it")
        os.unlink(TARGET)
    os.makedirs(TARGET, exist_ok=True)
    with open(os.path.join(TARGET, "lock"), "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another setup is at work in this checkout, waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_complete(bundle):
            provide(bundle)


def provide(bundle):
    """Fetches and unpacks into a folder `part`, moves the result into place, and writes `setup.json` last."""
    import json
    import shutil

    folder = bundle.folder
    part = os.path.join(folder, "part")
    for name in ("setup.json", "build-version", "part", *bundle.parts):
        remove(os.path.join(folder, name))
    free = shutil.disk_usage(TARGET).free
    if free < bundle.needed_bytes:
        needs = f"{bundle.needed_bytes // 10**6} MB of disk while they unpack, {free // 10**6} MB are free"
        raise SetupError(f"the wheels of {bundle.name} need {needs}")
    try:
        wheels = os.path.join(part, "wheels")
        os.makedirs(wheels)
        fetch(bundle, part, wheels)
        unpack(bundle, wheels, part)
        for name in bundle.parts:
            os.rename(os.path.join(part, name), os.path.join(folder, name))
    finally:
        remove(part)
    write(os.path.join(folder, "build-version"), VERSION + "\n")
    if folder == TARGET:
        probe()
    write(os.path.join(folder, "setup.json.new"), json.dumps(inventory(bundle), indent=1) + "\n")
    os.rename(os.path.join(folder, "setup.json.new"), os.path.join(folder, "setup.json"))
    say(f"{bundle.name}: in {os.path.relpath(folder, ROOT)}")


def fetch(bundle, part, wheels):
    say(f"fetching {bundle.name} ({bundle.wheels_bytes // 10**6} MB, once per checkout)")
    scratch = os.path.join(part, "tmp")
    os.makedirs(scratch)
    command = pip(part) + ["download", "--require-hashes", "--requirement", bundle.pins, "--dest", wheels]
    command += ["--no-deps", "--only-binary=:all:", "--no-cache-dir", "--disable-pip-version-check"]
    command += ["--python-version", "3.12", "--implementation", "cp", "--abi", "cp312"]
    for platform in PLATFORMS:
        command += ["--platform", platform]
    # pip unpacks downloads under TMPDIR: keeping that inside the checkout lets us watch it, and clean it up.
    environment = dict(os.environ, TMPDIR=scratch, PIP_REQUIRE_VIRTUALENV="0")
    run = on_terminal if sys.stderr.isatty() else in_lines
    for attempt in (1, 2):
        if run(command, environment, part, bundle.wheels_bytes) == 0:
            return
        if attempt == 1:
            say("the download failed, trying once more")
    raise SetupError("the download failed (see pip's lines above); or set LIBTORCH to a libtorch of your own")


def pip(part):
    """The command that runs pip: the interpreter's own, or one bootstrapped into the checkout for this run."""
    import importlib.util
    import subprocess

    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    venv = os.path.join(part, "venv")
    made = subprocess.run([sys.executable, "-m", "venv", venv], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if made.returncode != 0:
        raise SetupError("this Python has neither pip nor a working venv: install one of them, or set LIBTORCH")
    return [os.path.join(venv, "bin", "python"), "-m", "pip"]


def on_terminal(command, environment, _part, _bytes):
    """pip draws its own bar."""
    import subprocess

    return subprocess.call(command + ["--progress-bar", "on"], env=environment)


def in_lines(command, environment, part, wheels_bytes):
    """Without a terminal pip is silent until it ends: report what has arrived, and pip's words only on failure."""
    import subprocess

    with open(os.path.join(part, "pip.log"), "w+", encoding="utf-8") as log:
        process = subprocess.Popen(command + ["--progress-bar", "off"], env=environment, stdout=log, stderr=log)
        try:
            watch(process, part, wheels_bytes)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
        if process.returncode != 0:
            log.seek(0)
            sys.stderr.write(log.read())
        return process.returncode


def watch(process, part, wheels_bytes):
    import subprocess

    while True:
        try:
            process.wait(timeout=2)
            return
        except subprocess.TimeoutExpired:
            say(f"fetched {min(arrived(part), wheels_bytes) // 10**6} of {wheels_bytes // 10**6} MB")


def arrived(part):
    """Bytes of wheels so far. A finished wheel may exist twice for a moment, while pip copies it to its destination."""
    done = 0
    for name in ("tmp", "wheels"):
        try:
            done += tally(os.path.join(part, name))[1]
        except OSError:  # A file went away under the walk: the next line counts it again.
            pass
    return done


def unpack(bundle, wheels, part):
    import zipfile

    say("unpacking")
    missing = set(bundle.required)
    for wheel in sorted(os.listdir(wheels)):
        with zipfile.ZipFile(os.path.join(wheels, wheel)) as archive:
            for member in archive.infolist():
                place = bundle.destination(member.filename)
                if place is not None and not member.is_dir():
                    copy(archive, member, os.path.join(part, place))
                    missing.discard(member.filename)
        os.unlink(os.path.join(wheels, wheel))
    if missing:
        raise SetupError("the wheels do not hold " + ", ".join(sorted(missing)))
    # torch-sys asks for -ltorch. The real one depends on libtorch_cuda.so and 2.5 GB behind it; this one on nothing new.
    if bundle.folder == TARGET:
        write(os.path.join(part, "lib", "libtorch.so"), "INPUT(-ltorch_cpu)\n")


def destination(member):
    """The place in `.libtorch` of a wheel's member, or None if it is not needed."""
    if member in LIBRARIES:
        return "lib/" + member.rsplit("/", 1)[1]
    if member.startswith("torch/include/") and ".." not in member.split("/"):
        return member[len("torch/") :]
    return None


def cuda_destination(member):
    """The same for `.libtorch/cuda`: every wheel keeps its place, for the libraries' own search paths are relative to it."""
    name = member.rsplit("/", 1)[-1]
    if member in CUDA_LIBRARIES:
        return member
    if member.startswith("nvidia/") and ".so" in name and ".." not in member.split("/"):
        return None if any(useless in name for useless in CUDA_USELESS) else member
    return None


def copy(archive, member, place):
    import shutil

    os.makedirs(os.path.dirname(place), exist_ok=True)
    with archive.open(member) as source, open(place, "wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)


def probe():
    """Loads the library once, in a process of its own. A failure is a warning: the program may find what Python does not."""
    import subprocess

    library = os.path.join(TARGET, "lib", "libtorch_cpu.so")
    loaded = subprocess.run(
        [sys.executable, "-c", "import ctypes, sys; ctypes.CDLL(sys.argv[1])", library], stderr=subprocess.PIPE, text=True
    )
    if loaded.returncode != 0:
        lines = loaded.stderr.strip().splitlines() or [f"exit status {loaded.returncode}"]
        say("warning: libtorch does not load from Python here: " + lines[-1])


def remove(path):
    import shutil

    if os.path.islink(path) or os.path.isfile(path):
        os.unlink(path)
    elif os.path.isdir(path):
        shutil.rmtree(path)


def write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def say(line):
    print(f"setup: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        main()
    except SetupError as error:
        sys.exit(f"setup: {error}")
    except KeyboardInterrupt:
        sys.exit("setup: interrupted; the next run starts over")
