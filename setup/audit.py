#!/usr/bin/env python3
"""Checks the dependencies with cargo-deny by `deny.toml`: licences, sources and bans always, known vulnerabilities where RustSec's database can
be fetched, which is not everywhere. A cargo-deny on the PATH is used, or one of the pinned version is built into `.tools` (once, minutes)."""

import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TOOLS = os.path.join(ROOT, ".tools")
VERSION = "0.20.2"


def program():
    """The cargo-deny to use; one is built when there is none."""
    own = os.path.join(TOOLS, "bin", "cargo-deny")
    found = shutil.which("cargo-deny") or shutil.which(own)
    if not found:
        print(f"audit: building cargo-deny {VERSION} into .tools, which takes some minutes", flush=True)
        cargo = os.environ.get("CARGO", "cargo")
        subprocess.run([cargo, "install", "--locked", "--quiet", "--root", TOOLS, f"cargo-deny@{VERSION}"], check=True, cwd=ROOT)
        found = own
    return found


def main():
    deny = program()
    run = lambda *args, **options: subprocess.run([deny, "--all-features", "--locked", *args], cwd=ROOT, **options).returncode
    failed = run("check", "--hide-inclusion-graph", "bans", "licenses", "sources")
    fetched = run("fetch", "db", capture_output=True)
    if fetched == 0:
        failed = run("check", "--disable-fetch", "advisories") or failed
    else:
        print("audit: known vulnerabilities NOT checked: their database could not be fetched", file=sys.stderr)
    return failed


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.CalledProcessError as error:
        sys.exit(f"audit: cargo-deny could not be built (cargo ended with {error.returncode}); `cargo install cargo-deny` says why")
