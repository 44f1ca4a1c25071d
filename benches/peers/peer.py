"""Servers that can be started, asked and ended: ours and those that people would otherwise take. All serve the same TorchScript file."""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAMS = os.path.join(HERE, "server")
DEADLINE_S = 180.0

MIGRATOR = """
[device]
cores = 1

# The whole core for the only tenant, whatever it would need to keep its SLO.
[planner]
policy = "ekya"

[retraining]
enabled = false

[[tenants]]
name = "m"
slo_ms = 5000
queue = 4096
model = {{ name = "m", classes = {classes}, max_batch = 64, source = {{ source = "torchscript", inputs = [{{ name = "INPUT0", datatype = "FP32", shape = {shape} }}] }} }}
"""

TRITON = """
name: "m"
backend: "python"
max_batch_size: 64
input [ {{ name: "INPUT0" data_type: TYPE_FP32 dims: {shape} }} ]
output [ {{ name: "OUTPUT0" data_type: TYPE_FP32 dims: [ {classes} ] }} ]
instance_group [ {{ count: 1 kind: KIND_CPU }} ]
{more}
"""


class Model:
    """What `server/export.py` wrote of one model."""

    def __init__(self, folder, name):
        self.name, self.path = name, os.path.abspath(os.path.join(folder, f"{name}.pt"))
        with open(os.path.join(folder, f"{name}.json")) as file:
            known = json.load(file)
        self.shape, self.row, self.answer = known["shape"], known["row"], known["answer"]

    def body(self):
        tensor = {"name": "INPUT0", "shape": [1, *self.shape], "datatype": "FP32", "data": self.row}
        return json.dumps({"inputs": [tensor]}, separators=(",", ":")).encode()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def post(url, body=b"", headers={}, timeout=30):
    """Status, headers and body of the answer, whatever the status."""
    request = urllib.request.Request(url, body, {"Content-Type": "application/json", **headers}, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


class Peer:
    """A server while it runs. `binary`: whether it takes binary tensors as Triton does."""

    binary = False

    def __init__(self, home, model, variant=""):
        self.home, self.model, self.variant = os.path.abspath(home), model, variant
        self.port, self.folder = free_port(), tempfile.mkdtemp()
        self.address = f"http://127.0.0.1:{self.port}"
        self.url = self.address + self.path
        self.environment = {**os.environ, "OMP_NUM_THREADS": "1", "PEER_MODEL": model.path}
        self.environment.pop("PYTHONDONTWRITEBYTECODE", None)

    path = "/infer"

    def start(self):
        """Starts it; gives the seconds until its first right answer."""
        command = self.prepare()
        self.log = open(os.path.join(self.folder, "log"), "w")
        begun = time.monotonic()
        self.process = subprocess.Popen(
            command, env=self.environment, stdout=self.log, stderr=self.log, start_new_session=True, cwd=self.folder
        )
        while time.monotonic() < begun + DEADLINE_S:
            if self.process.poll() is not None:
                break
            try:
                status, _, answer = post(self.url, self.model.body())
                if status == 200:
                    took = time.monotonic() - begun
                    self.check(json.loads(answer)["outputs"][0]["data"])
                    return took
            except OSError:
                # Does not listen yet.
                pass
            time.sleep(0.005)
        with open(self.log.name) as log:
            said = "".join(log.readlines()[-15:])
        self.stop()
        raise RuntimeError(f"{type(self).__name__} did not answer:\n{said}")

    def check(self, answer):
        wrong = [n for n, (a, b) in enumerate(zip(answer, self.model.answer, strict=True)) if abs(a - b) > 1e-3 * max(1, abs(b))]
        if wrong:
            raise RuntimeError(f"{type(self).__name__} answers wrongly: element {wrong[0]} is {answer[wrong[0]]}")

    def members(self):
        """Its processes: all of its session, wherever they were moved in the tree."""
        found = []
        for entry in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{entry}/stat") as file:
                    if int(file.read().rsplit(")", 1)[1].split()[3]) == self.process.pid:
                        found.append(int(entry))
            except OSError:
                continue
        return found

    def memory_mib(self):
        """Resident (shared pages counted in every process) and proportional (counted once)."""
        sums = {"Rss": 0, "Pss": 0}
        for pid in self.members():
            try:
                with open(f"/proc/{pid}/smaps_rollup") as file:
                    for line in file:
                        name, _, rest = line.partition(":")
                        sums[name] = sums[name] + int(rest.split()[0]) if name in sums else 0
            except OSError:
                continue
        return sums["Rss"] / 1024, sums["Pss"] / 1024

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                pass
        for pid in self.members():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait(20)
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class Migrator(Peer):
    """Home: the folder of the built programs."""

    binary, path = True, "/v2/models/m/infer"
    config = MIGRATOR

    def prepare(self):
        program, config = os.path.join(self.home, "migrator"), os.path.join(self.folder, "config.toml")
        with open(config, "w") as file:
            file.write(self.config.format(classes=len(self.model.answer), shape=self.model.shape))
        state = ["--config", config, "--state-dir", os.path.join(self.folder, "state")]
        command = [program, "--log", "error", "models", "import", "--tenant", "m", "--file", self.model.path, *state]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        ports = ["--http-port", str(self.port), "--grpc-port", "0", "--metrics-port", "0"]
        return [program, "serve", *state, *ports]


class Triton(Peer):
    """Home: an environment with nvidia-pytriton, torch and numpy. Variants: no batches, or a queue policy beside the batches."""

    binary, path = True, "/v2/models/m/infer"
    variants = {
        "": "dynamic_batching {}",
        "plain": "",
        "queue": "dynamic_batching { default_queue_policy { max_queue_size: 1000 } }",
    }

    def prepare(self):
        site = next(os.path.join(self.home, "lib", name, "site-packages") for name in os.listdir(os.path.join(self.home, "lib")))
        server, version = os.path.join(site, "pytriton", "tritonserver"), os.path.basename(os.path.dirname(site)).removeprefix("python")
        backends = os.path.join(self.folder, "backends")
        shutil.copytree(os.path.join(server, "backends"), backends)
        # The stub must lie beside the back end, and embeds the interpreter that it finds by PATH.
        shutil.copy(os.path.join(server, "python_backend_stubs", version, "triton_python_backend_stub"), os.path.join(backends, "python"))
        repository = os.path.join(self.folder, "models")
        os.makedirs(os.path.join(repository, "m", "1"))
        shutil.copy(os.path.join(PROGRAMS, "triton_model.py"), os.path.join(repository, "m", "1", "model.py"))
        shutil.copy(self.model.path, os.path.join(repository, "m", "1", "model.pt"))
        with open(os.path.join(repository, "m", "config.pbtxt"), "w") as file:
            file.write(TRITON.format(shape=self.model.shape, classes=len(self.model.answer), more=self.variants[self.variant]))
        self.environment["PATH"] = os.path.join(self.home, "bin") + ":" + self.environment["PATH"]
        real = os.path.realpath(os.path.join(self.home, "bin", "python"))
        libraries = [os.path.join(os.path.dirname(os.path.dirname(real)), "lib"), os.path.join(site, "nvidia_pytriton.libs")]
        self.environment["LD_LIBRARY_PATH"] = ":".join(libraries)
        self.metrics_port = free_port()
        return [
            os.path.join(server, "bin", "tritonserver"), "--model-repository", repository, "--backend-directory", backends,
            "--http-address", "127.0.0.1", "--http-port", str(self.port), "--grpc-port", str(free_port()),
            "--metrics-port", str(self.metrics_port), "--model-control-mode", "explicit", "--load-model", "m",
        ]


class FastApi(Peer):
    """Home: an environment with fastapi, uvicorn and torch."""

    def prepare(self):
        serve = ["-m", "uvicorn", "fastapi_app:app", "--app-dir", PROGRAMS, "--port", str(self.port), "--no-access-log", "--log-level", "warning"]
        return [os.path.join(self.home, "bin", "python"), *serve]


class LitServe(Peer):
    """Home: an environment with litserve and torch."""

    path = "/predict"

    def prepare(self):
        return [os.path.join(self.home, "bin", "python"), os.path.join(PROGRAMS, "litserve_app.py"), str(self.port)]


class RayServe(Peer):
    """Home: an environment with ray[serve] and torch."""

    def prepare(self):
        self.environment["RAY_TMPDIR"] = self.folder
        return [os.path.join(self.home, "bin", "python"), os.path.join(PROGRAMS, "ray_app.py"), str(self.port)]


class MlServer(Peer):
    """Home: an environment with mlserver and torch."""

    path = "/v2/models/m/infer"

    def prepare(self):
        settings = {"http_port": self.port, "grpc_port": free_port(), "metrics_port": free_port(), "parallel_workers": 0, "debug": False}
        batches = {"max_batch_size": 64, "max_batch_time": 0.001} if self.variant == "batch" else {}
        model = {"name": "m", "implementation": "mlserver_model.Model", "parameters": {"uri": self.model.path}, **batches}
        for name, value in (("settings.json", settings), ("model-settings.json", model)):
            with open(os.path.join(self.folder, name), "w") as file:
                json.dump(value, file)
        shutil.copy(os.path.join(PROGRAMS, "mlserver_model.py"), self.folder)
        self.environment["PYTHONPATH"] = self.folder
        return [os.path.join(self.home, "bin", "mlserver"), "start", self.folder]


TORCHSERVE = """
inference_address=http://127.0.0.1:{port}
management_address=http://127.0.0.1:{management}
metrics_address=http://127.0.0.1:{metrics}
enable_envvars_config=false
number_of_netty_threads=1
job_queue_size=4096
"""


class TorchServe(Peer):
    """Home: an environment with torchserve, torch-model-archiver and torch; Java on the PATH."""

    path = "/predictions/m"

    def prepare(self):
        store, settings = os.path.join(self.folder, "store"), os.path.join(self.folder, "model.yaml")
        os.makedirs(store)
        with open(settings, "w") as file:
            file.write("minWorkers: 1\nmaxWorkers: 1\nbatchSize: 64\nmaxBatchDelay: 1\n")
        self.environment["PATH"] = os.path.join(self.home, "bin") + ":" + self.environment["PATH"]
        archive = ["torch-model-archiver", "--model-name", "m", "--version", "1", "--serialized-file", self.model.path, "--config-file", settings]
        handler = ["--handler", os.path.join(PROGRAMS, "torchserve_handler.py"), "--export-path", store]
        subprocess.run(archive + handler, check=True, env=self.environment, stdout=subprocess.DEVNULL)
        config = os.path.join(self.folder, "config.properties")
        with open(config, "w") as file:
            file.write(TORCHSERVE.format(port=self.port, management=free_port(), metrics=free_port()))
        self.environment["LOG_LOCATION"] = self.environment["METRICS_LOCATION"] = self.folder
        # So that it is not to be sent a key.
        start = ["--start", "--foreground", "--ncs", "--disable-token-auth"]
        return ["torchserve", *start, "--model-store", store, "--models", "m=m.mar", "--ts-config", config]


KINDS = {"migrator": Migrator, "triton": Triton, "fastapi": FastApi, "litserve": LitServe, "ray": RayServe, "mlserver": MlServer, "torchserve": TorchServe}


def make(text, model):
    """`NAME=HOME`, where a name is a kind and perhaps `-VARIANT`, or for `migrator` any other word behind a dash."""
    name, home = text.split("=", 1)
    kind, _, variant = name.partition("-")
    return KINDS[kind](home, model, variant)
