#!/usr/bin/env python3
"""Runs the conformance suite: real clients, unmodified, against the real server.

Makes the clients' environment (`setup/venv.py`), models and a configuration, starts `migrator serve` on free ports of the loopback
interface, and hands its addresses to pytest. Arguments go to pytest.
"""

import importlib.util
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))

DEADLINE_S = 120.0


def load(path, name):
    """A module of this repository, by its path: `setup/venv.py` shares its name with one of Python's own."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def program():
    """The server's binary: MIGRATOR_BIN, or the newest build."""
    given = os.environ.get("MIGRATOR_BIN")
    if given:
        return given
    target = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
    built = [os.path.join(target, profile, "migrator") for profile in ("debug", "release")]
    built = [path for path in built if os.path.exists(path)]
    if not built:
        sys.exit("conformance: there is no migrator: run `make build` or `cargo build --workspace --bins`")
    return max(built, key=os.path.getmtime)


CONFIG = """
[server]
max_body_mib = 8

[device]
cores = 1

[retraining]
enabled = false

[[tenants]]
name = "digits"
slo_ms = 2000
model = { name = "digits-mlp", classes = 10, max_batch = 16, source = { source = "torchscript", inputs = [{ name = "INPUT0", datatype = "FP32", shape = [64] }] } }

[[tenants]]
name = "text"
slo_ms = 2000
model = { name = "texts", classes = 2, max_batch = 8, source = { source = "architecture", architecture = { kind = "text_classifier", vocabulary = 64, max_tokens = 8, embedding = 8 } } }
"""


def prepare(binary, folder):
    """A state folder with a version of every model, and the configuration."""
    config, state = os.path.join(folder, "config.toml"), os.path.join(folder, "state")
    with open(config, "w") as file:
        file.write(CONFIG)
    texts = os.path.join(folder, "texts.tsv")
    with open(texts, "w") as file:
        file.writelines(f"{n % 2}\t{('cold rain', 'warm sun')[n % 2]} {n}\n" for n in range(64))
    digits = os.path.join(ROOT, "tests", "fixture", "digits_mlp.pt")
    for what in (["import", "--tenant", "digits", "--file", digits], ["train", "--tenant", "text", "--data", texts]):
        command = [binary, "--log", "error", "models", *what, "--config", config, "--state-dir", state]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return config, state


def start(binary, config, state, log):
    """The server, and where it listens."""
    command = [binary, "serve", "--config", config, "--state-dir", state]
    command += ["--http-port", "0", "--grpc-port", "0", "--metrics-port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    line = server.stdout.readline()
    if not line.startswith("listening "):
        server.kill()
        raise RuntimeError(f"the server did not listen: {line!r}")
    addresses = dict(part.split("=", 1) for part in line.split()[1:])
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        try:
            urllib.request.urlopen(f"http://{addresses['http']}/v2/health/ready", timeout=5).read()
            return server, addresses
        except urllib.error.HTTPError:
            # Not ready yet: a state to wait for, and nothing to be told by.
            time.sleep(0.05)
    server.kill()
    raise RuntimeError("the server was never ready")


def tail(path):
    with open(path) as log:
        sys.stderr.write("last lines of the server's log:\n" + "".join(log.readlines()[-30:]))


def main():
    setup = load(os.path.join(ROOT, "setup", "venv.py"), "provide_venv")
    try:
        python = setup.provide("conformance", os.path.join(HERE, "requirements.txt"))
    except setup.SetupError as error:
        sys.exit(f"conformance: {error}")
    binary = program()
    with tempfile.TemporaryDirectory() as folder:
        config, state = prepare(binary, folder)
        log_path = os.path.join(folder, "server.log")
        with open(log_path, "w") as log:
            try:
                server, addresses = start(binary, config, state, log)
            except RuntimeError as error:
                tail(log_path)
                sys.exit(f"conformance: {error}")
        environment = {f"MIGRATOR_TEST_{name.upper()}": address for name, address in addresses.items()}
        environment.update(MIGRATOR_TEST_BIN=binary, MIGRATOR_TEST_CONFIG=config, MIGRATOR_TEST_STATE=state, MIGRATOR_TEST_LOG=log_path)
        try:
            tests = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", HERE, *sys.argv[1:]]
            code = subprocess.run(tests, env={**os.environ, **environment, "PYTHONDONTWRITEBYTECODE": "1"}).returncode
        finally:
            server.terminate()
            ended = server.wait(30)
        if code != 0 or ended != 0:
            tail(log_path)
        if ended != 0:
            sys.exit(f"conformance: the server ended with {ended}")
        sys.exit(code)


if __name__ == "__main__":
    main()
