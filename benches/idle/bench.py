"""Host cost of a server that nobody asks anything: CPU time and memory of the server and its seven workers.

Starts `migrator serve` (release build) on the `cpu` device with seven tenants that share one trained model, waits until each has its
instance, and looks at `/proc` twice. Run `make build` before. Usage: python3 benches/idle/bench.py [SECONDS]
"""

import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
MIGRATOR = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"), "release/migrator")
TENANTS = 7
HTTP, METRICS = 18080, 18082
READY_S = 120

HEAD = """[server]
http_port = {http}
metrics_port = {metrics}
state_dir = {state!r}

[device]
kind = "cpu"

[planner]
policy = "{policy}"
spares = 0

[retraining]
enabled = false
"""

TENANT = """
[[tenants]]
name = "tenant-{index}"
slo_ms = 100.0
[tenants.model]
name = "sensor"
classes = 3
max_batch = 16
[tenants.model.source]
source = "architecture"
[tenants.model.source.architecture]
kind = "mlp"
features = 8
hidden = [64, 64]
"""


def cpu_s(pid):
    """CPU seconds that a process has used, its threads included."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mib(pid):
    """Proportional and private memory, MiB."""
    kib = {}
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        key, value = line.split()[:2]
        kib[key.rstrip(":")] = int(value)
    return kib["Pss"] / 1024, (kib["Private_Clean"] + kib["Private_Dirty"]) / 1024


def workers(server):
    """Processes of the server's that compute."""
    lists = pathlib.Path(f"/proc/{server}/task").glob("*/children")
    found = " ".join(path.read_text() for path in lists).split()
    return [int(pid) for pid in found if "migrator-worker" in pathlib.Path(f"/proc/{pid}/cmdline").read_text()]


def wait_ready(server):
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            sys.exit(f"the server ended with {server.returncode}")
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{HTTP}/v2/health/ready", timeout=2)
            if len(workers(server.pid)) == TENANTS:
                return
        except OSError:
            pass
        time.sleep(0.5)
    sys.exit(f"not ready with {TENANTS} workers within {READY_S} s")


def measure(policy, seconds):
    with tempfile.TemporaryDirectory() as folder:
        state = os.path.join(folder, "state")
        config = pathlib.Path(folder, "idle.toml")
        text = HEAD.format(http=HTTP, metrics=METRICS, state=state, policy=policy)
        config.write_text(text + "".join(TENANT.format(index=index) for index in range(TENANTS)))
        data = os.path.join(folder, "data.csv")
        with open(data, "w") as file:
            file.write("a,b,c,d,e,f,g,h,label\n")
            for row in range(300):
                file.write(",".join(str((row * k) % 7 / 7 + row % 3) for k in range(1, 9)) + f",{row % 3}\n")
        train = [MIGRATOR, "models", "train", "--tenant", "tenant-0", "--data", data, "--config", config]
        done = subprocess.run(train, capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr)
        server = subprocess.Popen([MIGRATOR, "serve", "--config", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_ready(server)
            time.sleep(5)
            pids = [server.pid, *workers(server.pid)]
            before = {pid: cpu_s(pid) for pid in pids}
            time.sleep(seconds)
            used = {pid: cpu_s(pid) - before[pid] for pid in pids}
            memory = {pid: memory_mib(pid) for pid in pids}
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait()
    of_workers = pids[1:]
    print(f"{policy}: over {seconds} s, {len(of_workers)} workers")
    print(f"  server : {used[pids[0]] / seconds * 1000:7.2f} ms of CPU a second, {memory[pids[0]][0]:6.1f} MiB (private {memory[pids[0]][1]:.1f})")
    share = sum(used[pid] for pid in of_workers) / seconds * 1000
    pss, private = (sum(memory[pid][at] for pid in of_workers) for at in (0, 1))
    print(f"  workers: {share:7.2f} ms of CPU a second, {pss:6.1f} MiB (private {private:.1f}; {private / len(of_workers):.1f} each)")


if __name__ == "__main__":
    if not MIGRATOR.is_file():
        sys.exit(f"{MIGRATOR} is missing: make build")
    for name in ("migrator", "static-even"):
        measure(name, int(sys.argv[1]) if len(sys.argv) > 1 else 60)
