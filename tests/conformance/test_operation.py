"""A server as an operator runs it: TLS, keys, quotas, a port for administration, and signals, under load."""

import concurrent.futures
import hashlib
import http.client
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import time

import pytest
import tritonclient.grpc
import trustme
from tritonclient.utils import InferenceServerException

import run
from conftest import Reply, body, rows

KEYS = {name: f"secret of {name}" for name in ("digits", "feeder", "root")}
DEADLINE_S = 60


def server_section(folder):
    key = lambda name, more: f'{{ name = "{name}", sha256 = "{hashlib.sha256(KEYS[name].encode()).hexdigest()}", {more} }}'
    keys = [
        key("digits", 'tenants = ["digits"], scopes = ["inference"]'),
        key("feeder", 'scopes = ["samples"]'),
        key("root", 'scopes = ["admin"]'),
    ]
    return f"""
[server]
max_body_mib = 8
admin_port = 0
access_log = true
leave_s = 60
keys = [{", ".join(keys)}]
tls = {{ certificate = "{folder}/cert.pem", key = "{folder}/key.pem" }}
"""


class Running:
    """A server of its own, with a state folder of its own."""

    def __init__(self, folder):
        self.folder = str(folder)
        self.authority = trustme.CA()
        self.certify()
        self.config = os.path.join(self.folder, "config.toml")
        self.write(run.CONFIG)
        state = os.path.join(self.folder, "state")
        shutil.copytree(os.path.join(os.environ["MIGRATOR_TEST_STATE"], "models"), os.path.join(state, "models"))
        self.log_path = os.path.join(self.folder, "server.log")
        with open(self.log_path, "w") as log:
            command = [os.environ["MIGRATOR_TEST_BIN"], "serve", "--config", self.config, "--state-dir", state]
            command += ["--http-port", "0", "--grpc-port", "0", "--metrics-port", "0"]
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        self.addresses = dict(part.split("=", 1) for part in self.process.stdout.readline().split()[1:])
        self.until(lambda: self.request("GET", "/v2/health/ready").status == 200)

    def certify(self):
        issued = self.authority.issue_cert("127.0.0.1", "localhost")
        issued.private_key_pem.write_to_path(os.path.join(self.folder, "key.pem"))
        with open(os.path.join(self.folder, "cert.pem"), "wb") as file:
            file.write(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        return issued

    def write(self, config):
        own = re.sub(r"\[server\].*?(?=\n\[)", lambda _: self.section(), config, count=1, flags=re.S)
        with open(self.config, "w") as file:
            file.write(own)

    def section(self):
        return server_section(self.folder)

    def connect(self, port="http"):
        host, number = self.addresses[port].rsplit(":", 1)
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        return http.client.HTTPSConnection(host, int(number), timeout=30, context=context)

    def request(self, method, path, raw=None, key=None, port="http"):
        connection = self.connect(port)
        try:
            connection.request(method, path, raw, {"Authorization": f"Bearer {KEYS.get(key, key)}"} if key else {})
            return Reply(connection.getresponse())
        finally:
            connection.close()

    def infer(self, model="digits", key="root"):
        value = body() if model == "digits" else TEXT
        return self.request("POST", f"/v2/models/{model}/infer", json.dumps(value), key)

    def reloads(self, result):
        connection = http.client.HTTPConnection(self.addresses["metrics"], timeout=30)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        found = re.search(rf'^migrator_config_reloads_total\{{result="{result}"\}} (\d+)$', text, re.M)
        return int(found.group(1)) if found else 0

    def reload(self, result):
        before = self.reloads(result)
        self.process.send_signal(signal.SIGHUP)
        self.until(lambda: self.reloads(result) > before)

    def until(self, state):
        end = time.monotonic() + DEADLINE_S
        while not state():
            assert time.monotonic() < end, open(self.log_path).read()[-4000:]
            time.sleep(0.02)

    def log(self):
        with open(self.log_path) as file:
            return file.read()


TEXT = {"inputs": [{"name": "INPUT0", "shape": [1, 1], "datatype": "BYTES", "data": ["cold rain"]}]}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    running = Running(tmp_path_factory.mktemp("operation"))
    yield running
    if running.process.poll() is None:
        running.process.kill()
    running.process.wait(30)


def grpc_client(server, key):
    with open(os.path.join(server.folder, "ca.pem"), "wb") as file:
        file.write(server.authority.cert_pem.bytes())
    client = tritonclient.grpc.InferenceServerClient(server.addresses["grpc"], ssl=True, root_certificates=file.name)
    tensor = tritonclient.grpc.InferInput("INPUT0", [1, 64], "FP32")
    tensor.set_data_from_numpy(rows(1))
    headers = {"authorization": f"Bearer {KEYS.get(key, key)}"} if key else None
    return client, lambda: client.infer("digits", [tensor], headers=headers)


@pytest.mark.parametrize("key,model,status", [
    (None, "digits", 401), ("wrong", "digits", 401), ("digits", "digits", 200), ("digits", "text", 403),
    ("feeder", "digits", 403), ("root", "text", 200),
])
def test_keys(server, key, model, status):
    assert server.infer(model, key).status == status


@pytest.mark.parametrize("key,code", [(None, "UNAUTHENTICATED"), ("wrong", "UNAUTHENTICATED"), ("feeder", "PERMISSION_DENIED"), ("digits", None)])
def test_keys_over_grpc(server, key, code):
    client, infer = grpc_client(server, key)
    with client:
        if code is None:
            assert infer().as_numpy("OUTPUT0").shape == (1, 10)
            return
        with pytest.raises(InferenceServerException) as caught:
            infer()
        assert caught.value.status() == f"StatusCode.{code}"


def test_health_needs_no_key(server):
    assert server.request("GET", "/v2/health/live").status == 200


@pytest.mark.parametrize("method,path", [("GET", "/v1/plan"), ("GET", "/v2/logging"), ("POST", "/v2/repository/models/text/unload")])
def test_administration_is_at_its_own_port(server, method, path):
    assert server.request(method, path, key="root").status == 404
    assert server.request(method, path, key="digits", port="admin").status == 403
    assert server.request("GET", "/v1/plan", key="root", port="admin").status == 200


def test_plain_text_is_not_answered(server):
    connection = http.client.HTTPConnection(server.addresses["http"], timeout=10)
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        connection.request("GET", "/v2/health/live")
        connection.getresponse()


def test_no_secret_is_logged(server):
    server.infer(key="digits")
    server.until(lambda: "path=/v2/models/digits/infer status=200" in re.sub(r"\x1b\[\d*m", "", server.log()))
    assert not any(secret in server.log() for secret in KEYS.values())


def test_a_bad_file_changes_nothing_and_says_why(server):
    server.write(run.CONFIG.replace("max_batch = 16", "max_batch = 8"))
    server.reload("refused")
    assert "tenants[0].model.max_batch can only be changed by a restart" in server.log()
    server.write(run.CONFIG.replace("slo_ms = 2000", "slo_ms = -1"))
    server.reload("refused")
    assert "tenants[0].slo_ms = -1" in server.log()
    assert server.infer().status == 200


def test_a_quota_is_set_and_lifted_without_the_other_tenant_noticing(server):
    server.write(run.CONFIG.replace('name = "text"\nslo_ms = 2000', 'name = "text"\nslo_ms = 2000\nrate_rps = 0.001\nburst = 2'))
    server.reload("changed")
    replies = [server.infer("text") for _ in range(4)]
    assert [reply.status for reply in replies] == [200, 200, 429, 429]
    assert int(replies[-1].headers["retry-after"]) > 900
    assert server.infer("digits").status == 200
    server.write(run.CONFIG)
    server.reload("changed")
    assert server.infer("text").status == 200


def load(server, stop):
    """One client's statuses, on one connection, until it is told to stop."""
    connection, statuses = server.connect(), []
    while not stop:
        connection.request("POST", "/v2/models/digits/infer", json.dumps(body()), {"Authorization": f"Bearer {KEYS['digits']}"})
        statuses.append(Reply(connection.getresponse()).status)
    connection.close()
    return statuses


def test_certificates_and_configuration_change_under_load_and_nothing_fails(server):
    stop = []
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        loads = [pool.submit(load, server, stop) for _ in range(4)]
        for round in range(5):
            certificate = server.certify()
            server.write(run.CONFIG.replace("slo_ms = 2000", f"slo_ms = {2000 + round}"))
            server.reload("changed")
            connection = server.connect()
            connection.connect()
            served = ssl.DER_cert_to_PEM_cert(connection.sock.getpeercert(binary_form=True)).encode()
            connection.close()
            assert served.split() == certificate.cert_chain_pems[0].bytes().split(), "new connections get the new certificate"
        stop.append(True)
        statuses = [status for one in loads for status in one.result()]
    assert len(statuses) > 20 and set(statuses) == {200}, set(statuses)
    assert server.request("GET", "/v1/tenants/digits", key="root", port="admin").status == 200


def test_a_stopping_server_says_so_first_and_fails_nobody_who_listens(server):
    stop = []
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        loads = [pool.submit(load, server, stop) for _ in range(4)]
        server.process.send_signal(signal.SIGTERM)
        server.until(lambda: server.request("GET", "/v2/health/ready").status == 503)
        # New connections too, until whoever sends requests has noticed.
        assert [server.infer(key="digits").status for _ in range(20)] == [200] * 20
        stop.append(True)
        statuses = [status for one in loads for status in one.result()]
    assert len(statuses) > 20 and set(statuses) == {200}, set(statuses)
    # A second signal ends the waiting.
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(30) == 0
