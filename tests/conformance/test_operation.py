"""A server as an operator runs it: TLS, keys, tokens, quotas, spans, a port for administration, tenants that come and go, and signals, under load."""

import base64
import concurrent.futures
import hashlib
import hmac
import http.client
import http.server
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import threading
import time

import pytest
import tritonclient.grpc
import trustme
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from tritonclient.utils import InferenceServerException

import run
from conftest import Reply, body, rows

SECRET = b"the secret that tokens are signed with in this test"
KEYS = {name: f"secret of {name}" for name in ("digits", "feeder", "root")}
DEADLINE_S = 60


def base64url(raw):
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def token(scope, sign=None, algorithm="HS256", **claims):
    """A signed token; by default by the shared secret, for ten minutes."""
    claims = {"exp": int(time.time()) + 600, "aud": "migrator", "sub": "test", "scope": scope, **claims}
    message = b".".join(base64url(json.dumps(part).encode()) for part in ({"alg": algorithm, "typ": "JWT"}, claims))
    sign = sign or (lambda message: hmac.new(SECRET, message, hashlib.sha256).digest())
    return (message + b"." + base64url(sign(message))).decode()


class Collector:
    """Takes spans."""

    def __init__(self):
        self.bodies = bodies = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                bodies.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_address[1]}/v1/traces"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def server_section(folder, endpoint, jwt="HS256"):
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
jwt = {{ algorithm = "{jwt}", key = "{folder}/{jwt}", audience = "migrator", leeway_s = 0 }}
otlp = {{ endpoint = "{endpoint}", share = 0 }}
tls = {{ certificate = "{folder}/cert.pem", key = "{folder}/key.pem" }}
"""


class Running:
    """A server of its own, with a state folder of its own."""

    def __init__(self, folder):
        self.folder = str(folder)
        self.authority = trustme.CA()
        self.collector = Collector()
        with open(os.path.join(self.folder, "HS256"), "wb") as file:
            file.write(SECRET + b"\n")
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

    def write(self, config, jwt="HS256"):
        self.jwt = jwt
        own = re.sub(r"\[server\].*?(?=\n\[)", lambda _: self.section(), config, count=1, flags=re.S)
        with open(self.config, "w") as file:
            file.write(own)

    def section(self):
        return server_section(self.folder, self.collector.endpoint, self.jwt)

    def connect(self, port="http"):
        host, number = self.addresses[port].rsplit(":", 1)
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        return http.client.HTTPSConnection(host, int(number), timeout=30, context=context)

    def request(self, method, path, raw=None, key=None, port="http", **headers):
        connection = self.connect(port)
        try:
            connection.request(method, path, raw, {"Authorization": f"Bearer {KEYS.get(key, key)}", **headers} if key else headers)
            return Reply(connection.getresponse())
        finally:
            connection.close()

    def infer(self, model="digits", key="root", **headers):
        value = TEXT if model == "text" else body()
        return self.request("POST", f"/v2/models/{model}/infer", json.dumps(value), key, **headers)

    def owners(self):
        """Whose instances there are, by the planner's view."""
        gpus = self.request("GET", "/v1/partition", key="root", port="admin").json()["gpus"]
        return {instance["tenant"] for gpu in gpus for instance in gpu["instances"]}

    def ready(self, path):
        return self.request("GET", f"{path}/ready", key="root").status

    def load(self, stop, model, statuses):
        """Asks until it is told to stop; a connection of its own."""
        connection = self.connect()
        while not stop:
            connection.request("POST", f"/v2/models/{model}/infer", json.dumps(body()), {"Authorization": f"Bearer {KEYS['root']}"})
            statuses.append(Reply(connection.getresponse()).status)
        connection.close()

    def metrics(self):
        connection = http.client.HTTPConnection(self.addresses["metrics"], timeout=30)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        return text

    def reloads(self, result):
        text = self.metrics()
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


def check_over_grpc(server, key, code):
    """That a request with this key is answered, or refused with that code."""
    client, infer = grpc_client(server, key)
    with client:
        if code is None:
            assert infer().as_numpy("OUTPUT0").shape == (1, 10)
            return
        with pytest.raises(InferenceServerException) as caught:
            infer()
        assert caught.value.status() == f"StatusCode.{code}"


@pytest.mark.parametrize("key,model,status", [
    (None, "digits", 401), ("wrong", "digits", 401), ("digits", "digits", 200), ("digits", "text", 403),
    ("feeder", "digits", 403), ("root", "text", 200),
])
def test_keys(server, key, model, status):
    assert server.infer(model, key).status == status


@pytest.mark.parametrize("key,code", [(None, "UNAUTHENTICATED"), ("wrong", "UNAUTHENTICATED"), ("feeder", "PERMISSION_DENIED"), ("digits", None)])
def test_keys_over_grpc(server, key, code):
    check_over_grpc(server, key, code)


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
    assert "tenants.digits.model.max_batch can only be changed by a restart" in server.log()
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


EXTRA = """
[[tenants]]
name = "extra"
slo_ms = 2000
model = { name = "digits-mlp", classes = 10, max_batch = 16, source = { source = "torchscript", inputs = [{ name = "INPUT0", datatype = "FP32", shape = [64] }] } }
"""


def reload(server):
    return server.request("POST", "/v1/reload", key="root", port="admin")


def test_a_reload_by_request_says_what_has_changed_or_why_nothing_has(server):
    server.write(run.CONFIG.replace("slo_ms = 2000", "slo_ms = 1900"))
    reply = reload(server)
    assert reply.status == 200 and reply.json() == {"changed": ["tenants.digits.slo_ms", "tenants.text.slo_ms"], "added": [], "removed": []}
    server.write(run.CONFIG.replace('name = "text"\nslo_ms', 'name = "text"\nslo'))
    reply = reload(server)
    assert reply.status == 409
    assert re.search(r"nothing was changed: .*config\.toml:\d+.*did you mean slo_ms", reply.error()), reply.body
    server.write(run.CONFIG + EXTRA.replace('"digits-mlp"', '"nothing"'))
    reply = reload(server)
    assert reply.status == 409 and "no complete version in the store" in reply.error(), reply.body
    assert server.request("GET", "/v2/models/extra", key="root").status == 404
    assert server.request("POST", "/v1/reload", key="digits", port="admin").status == 403
    assert server.request("POST", "/v1/reload", key="root").status == 404, "administration has a port of its own"
    server.write(run.CONFIG)
    assert reload(server).json()["changed"] == ["tenants.digits.slo_ms", "tenants.text.slo_ms"]


def test_tenants_come_and_go_under_load_and_nobody_else_notices(server):
    stop, statuses, readiness = [], [], []
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        loads = [pool.submit(server.load, stop, "digits", statuses) for _ in range(2)]
        for _ in range(2):
            server.write(run.CONFIG + EXTRA)
            assert reload(server).json() == {"changed": [], "added": ["extra"], "removed": []}
            server.until(lambda: readiness.append(server.ready("/v2/health")) or server.ready("/v2/models/extra") == 200)
            server.until(lambda: "extra" in server.owners())
            assert server.infer("extra").status == 200
            assert 'tenant="extra"' in server.metrics()
            enough, asked = [], []
            asking = [pool.submit(server.load, enough, "extra", asked) for _ in range(2)]
            server.until(lambda: len(asked) > 20)
            server.write(run.CONFIG)
            assert reload(server).json() == {"changed": [], "added": [], "removed": ["extra"]}
            assert server.infer("extra").status == 404
            server.until(lambda: asked[-1] == 404)
            enough.append(True)
            [one.result() for one in asking]
            assert set(asked) == {200, 404}, set(asked)
            server.until(lambda: 'tenant="extra"' not in server.metrics())
            tenants = server.request("GET", "/v1/tenants", key="root", port="admin").json()["tenants"]
            assert sorted(tenant["name"] for tenant in tenants) == ["digits", "text"]
            server.until(lambda: "extra" not in server.owners())
        stop.append(True)
        [load.result() for load in loads]
    assert len(statuses) > 20 and set(statuses) == {200}, set(statuses)
    assert set(readiness) == {200}, "a server does not stop being ready for a newcomer"


@pytest.mark.parametrize("scope,model,status", [
    ("inference:digits", "digits", 200), ("inference:digits", "text", 403), ("inference", "text", 200), ("inference:*", "text", 200),
    ("samples:digits", "digits", 403), ("*", "text", 200), ("admin", "digits", 200), ("", "digits", 403), ("nonsense", "digits", 403),
])
def test_tokens(server, scope, model, status):
    assert server.infer(model, token(scope)).status == status


def test_a_token_may_add_samples_and_administrate(server):
    sample = json.dumps({"samples": [{"data": [0.0] * 64, "label": 3}]})
    assert server.request("POST", "/v1/tenants/digits/samples", sample, token("samples:digits")).status == 200
    assert server.request("POST", "/v1/tenants/digits/samples", sample, token("inference:digits")).status == 403
    assert server.request("GET", "/v1/plan", key=token("admin"), port="admin").status == 200
    assert server.request("GET", "/v1/plan", key=token("samples"), port="admin").status == 403


@pytest.mark.parametrize("claims,why", [
    ({"exp": 1}, "it has expired"), ({"nbf": 2**33}, "it is not valid yet"), ({"aud": "others"}, "it is for another audience"),
    ({"exp": "soon"}, ""), ({"sign": lambda _: b"x" * 32}, "its signature is wrong"), ({"algorithm": "none", "sign": lambda _: b""}, ""),
    ({"algorithm": "HS512"}, "it is signed by another algorithm"),
])
def test_tokens_that_are_refused(server, claims, why):
    reply = server.infer("digits", token("*", **claims))
    assert reply.status == 401 and reply.headers["www-authenticate"] == "Bearer"
    assert reply.error().startswith("the token is refused") and why in reply.error()


@pytest.mark.parametrize("scope,code", [("inference:digits", None), ("inference:text", "PERMISSION_DENIED"), (None, "UNAUTHENTICATED")])
def test_tokens_over_grpc(server, scope, code):
    check_over_grpc(server, token(scope) if scope else token("*", exp=1), code)


def test_the_key_of_the_tokens_is_changed_while_it_runs(server):
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = private.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    with open(os.path.join(server.folder, "RS256"), "wb") as file:
        file.write(public)
    signed = token("inference:digits", lambda message: private.sign(message, padding.PKCS1v15(), hashes.SHA256()), "RS256")
    assert server.infer("digits", signed).status == 401
    server.write(run.CONFIG, jwt="RS256")
    assert reload(server).json()["changed"] == ["server.jwt.algorithm", "server.jwt.key"]
    assert server.infer("digits", signed).status == 200
    assert server.infer("digits", token("*")).status == 401, "the old secret is worth nothing"
    server.write(run.CONFIG, jwt="ES256")
    reply = reload(server)
    assert reply.status == 409 and "ES256" in reply.error()
    assert server.infer("digits", signed).status == 200
    server.write(run.CONFIG)
    assert reload(server).status == 200
    log = server.log()
    assert signed not in log and SECRET.decode() not in log


def test_spans_are_exported_for_traces_that_are_sampled(server):
    trace = os.urandom(16)
    assert server.infer("digits", traceparent=f"00-{trace.hex()}-00f067aa0ba902b7-01").status == 200
    skipped = os.urandom(16)
    assert server.infer("digits", traceparent=f"00-{skipped.hex()}-00f067aa0ba902b7-00").status == 200
    taken = lambda: b"".join(raw for path, raw in list(server.collector.bodies) if path == "/v1/traces")
    server.until(lambda: taken().count(trace) == 5)
    assert all(name in taken() for name in (b"infer", b"parse", b"queue", b"compute", b"write", b"migrator.tenant", b"digits"))
    assert skipped not in taken()
    server.until(lambda: 'migrator_span_exports_total{result="ok"}' in server.metrics())


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
