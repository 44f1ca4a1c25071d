#!/usr/bin/env python3
"""Makes a Python environment of the project's own in `.venv/<name>` from a file of requirements; prints its interpreter.

Nothing is done when it was made from the same file before. Needs Python 3.9 or newer with `venv` and `pip`, and the package index.
"""

import hashlib
import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class SetupError(Exception):
    """One line for the user."""


def provide(name, requirements):
    """The interpreter of an environment that holds what the file asks for."""
    folder = os.path.join(ROOT, ".venv", name)
    python = os.path.join(folder, "bin", "python")
    stamp = os.path.join(folder, "made-from")
    with open(requirements, "rb") as file:
        digest = hashlib.sha256(file.read() + sys.version.encode()).hexdigest()
    if os.path.exists(python) and os.path.exists(stamp):
        with open(stamp) as file:
            if file.read() == digest:
                return python
    shutil.rmtree(folder, ignore_errors=True)
    print(f"setup: installing {os.path.relpath(requirements, ROOT)} into {os.path.relpath(folder, ROOT)}", file=sys.stderr)
    # Without ensurepip, which some distributions leave out: the pip that runs this installs.
    run([sys.executable, "-m", "venv", "--without-pip", folder], "a Python environment could not be made")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--disable-pip-version-check", "--retries", "5"]
    run(pip + ["-r", requirements], "the packages could not be installed: is the package index reachable, and is pip 22.3 or newer there?")
    with open(stamp, "w") as file:
        file.write(digest)
    return python


def run(command, failure):
    done = subprocess.run(command, stdout=sys.stderr)
    if done.returncode != 0:
        raise SetupError(failure)


def main():
    if len(sys.argv) != 3:
        raise SetupError("usage: venv.py NAME REQUIREMENTS")
    print(provide(sys.argv[1], sys.argv[2]))


if __name__ == "__main__":
    try:
        main()
    except SetupError as error:
        sys.exit(f"setup: {error}")
