"""The real server: its configuration, the first versions, and what it says of itself."""

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request

SLO_MS = 200
READY_S = 120.0
# Fewest labelled samples that begin a retraining: the smallest windows have fewer than the default.
MIN_SAMPLES = 50

HEAD = """
[device]
reserved_cores = {reserved}

[planner]
dwell_s = {dwell_s}
policy = "{policy}"

[retraining]
window_s = {window_s}
min_samples = {min_samples}
{mode}
{more}
"""

TENANT = """
[[tenants]]
name = "{name}"
slo_ms = {slo_ms}
labels = {{}}
model = {{ name = "{name}", classes = {classes}, max_batch = 32, source = {{ source = "architecture", architecture = {architecture} }} }}
train = {{ epochs = {epochs}, batch = 32, learning_rate = {learning_rate}, seed = {seed} }}
"""

# Policy, and the rest of [retraining].
MODES = {
    "never": ("migrator", "enabled = false"),
    # As [tenants.train] says. An instance for each tenant and one where all that is due takes turns, whatever it may bring; the planner
    # puts the same instances where they are, but would judge each retraining.
    "always": ("static-even", "microprofile_share = 0"),
    "chosen": ("migrator", ""),
    # The planner without microprofiles: as [tenants.train] says, for a gain that is assumed.
    "assumed": ("migrator", "microprofile_share = 0"),
}


class Failed(Exception):
    """The server, or a command, did not do what it has to."""


def configure(path, streams, mode, options, longer=1):
    """Writes the configuration of a mode; epochs are `longer` times those of a retraining."""
    settings = {"reserved": options.reserved_cores, "window_s": options.window_s, "dwell_s": options.dwell_s, "min_samples": MIN_SAMPLES}
    policy, rest = MODES[mode]
    text = HEAD.format(**settings, policy=policy, mode=rest, more="\n".join(options.set))
    for stream in streams:
        train = {**stream.train, "epochs": stream.train["epochs"] * longer}
        text += TENANT.format(
            name=stream.name, slo_ms=SLO_MS, classes=stream.classes, architecture=stream.architecture, seed=options.seed, **train
        )
    with open(path, "w") as file:
        file.write(text)


def command(binary, *arguments):
    done = subprocess.run([binary, "--log", "error", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise Failed(f"migrator {' '.join(arguments[:2])} ended with {done.returncode}: {done.stdout.strip()}")


def prepare(streams, options, folder):
    """A state folder with a first version of every model, trained on the first window, whose rows are older samples to each run."""
    state, config = os.path.join(folder, "first"), os.path.join(folder, "first.toml")
    # Twice the epochs of a retraining, for it starts from nothing.
    configure(config, streams, "never", options, longer=2)
    for stream in streams:
        print(f"first version of {stream.name}, {stream.chunk} rows", file=sys.stderr)
        file = stream.write(folder, 0)
        common = ["--config", config, "--state-dir", state, "--tenant", stream.name]
        command(options.binary, "models", "train", *common, "--data", file)
        command(options.binary, "data", "import", *common, file)
    # As if it had been yesterday: else the run that comes first would find them fresh, and the others would not.
    store = sqlite3.connect(os.path.join(state, "samples.sqlite"))
    with store:
        store.execute("UPDATE sample SET at_ms = at_ms - 86400000")
    store.close()
    return state


class Server:
    """A running server of one mode, on a state folder of its own."""

    def __init__(self, streams, mode, options, first, folder):
        state, config = os.path.join(folder, mode), os.path.join(folder, f"{mode}.toml")
        shutil.copytree(first, state)
        configure(config, streams, mode, options)
        self.log_path = os.path.join(options.out, f"{mode}.log")
        self.log = open(self.log_path, "w")
        run = [options.binary, "serve", "--config", config, "--state-dir", state]
        run += ["--http-port", "0", "--grpc-port", "0", "--metrics-port", "0"]
        environment = {**os.environ, "NO_COLOR": "1"}
        self.process = subprocess.Popen(run, stdout=subprocess.PIPE, stderr=self.log, text=True, env=environment)
        line = self.process.stdout.readline()
        if not line.startswith("listening "):
            self.stop()
            raise Failed(f"the server did not listen: {line!r}; see {self.log_path}")
        self.addresses = dict(part.split("=", 1) for part in line.split()[1:])

    def __enter__(self):
        end = time.monotonic() + READY_S
        while time.monotonic() < end and self.process.poll() is None:
            try:
                self.read("http", "/v2/health/ready")
                return self
            except urllib.error.HTTPError:
                # Not ready yet: a state to wait for, and nothing to be told by.
                time.sleep(0.05)
        self.stop()
        raise Failed(f"the server was never ready; see {self.log_path}")

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()

    def logged(self, *words):
        """Lines of the log with all these words: what no counter tells."""
        with open(self.log_path) as log:
            return sum(all(word in line for word in words) for line in log)

    def read(self, port, path):
        with urllib.request.urlopen(f"http://{self.addresses[port]}{path}", timeout=20) as answer:
            return answer.read().decode()

    def tenants(self):
        """What `/v1/tenants` shows, by name, and the window."""
        seen = json.loads(self.read("http", "/v1/tenants"))
        return {tenant["name"]: tenant for tenant in seen["tenants"]}, seen["window"]

    def metrics(self):
        """Every series by name and labels."""
        lines = [line for line in self.read("metrics", "/metrics").splitlines() if line and not line.startswith("#")]
        return {series: float(value) for series, value in (line.rsplit(" ", 1) for line in lines)}

    def cpu_s(self):
        """CPU seconds of the server and all its workers, those that ended included."""
        tick = os.sysconf("SC_CLK_TCK")
        fields = lambda pid: open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
        own = sum(int(value) for value in fields(self.process.pid)[11:15])
        children = set()
        for thread in os.listdir(f"/proc/{self.process.pid}/task"):
            with open(f"/proc/{self.process.pid}/task/{thread}/children") as file:
                children.update(file.read().split())
        for child in children:
            try:
                own += sum(int(value) for value in fields(child)[11:15])
            except OSError:
                # It ended since; its parent has its time now.
                continue
        return own / tick


def of(metrics, name, tenant, label=""):
    """Sum over the series of a name that are of a tenant and have this label."""
    wanted = re.compile(rf"{name}\{{.*tenant=\"{re.escape(tenant)}\"")
    return sum(value for series, value in metrics.items() if wanted.match(series) and label in series)
