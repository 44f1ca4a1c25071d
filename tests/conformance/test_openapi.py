"""The server against its own OpenAPI document: `schemathesis` sends what the document allows and what it forbids."""

import http.client
import os
import subprocess
import sys

import pytest

from test_operation import KEYS, Running

HERE = os.path.dirname(os.path.abspath(__file__))
# What fits the model's shape, or the live problem, no schema can say: there only the other direction is checked.
ONLY_A_MODEL_CAN_TELL = "/(infer|samples|labels|what-if)$"
# Takes numbers where the document says texts.
LENIENT = "/trace/setting$"


class Plain(Running):
    """Keys, but neither TLS nor a port for administration."""

    def section(self):
        lines = super().section().splitlines()
        return "\n".join(line for line in lines if not line.startswith(("tls", "admin_port", "leave_s")))

    def connect(self, port="http"):
        host, number = self.addresses[port].rsplit(":", 1)
        return http.client.HTTPConnection(host, int(number), timeout=30)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    running = Plain(tmp_path_factory.mktemp("openapi"))
    yield running
    running.process.terminate()
    running.process.wait(30)


@pytest.mark.parametrize("which", [
    ["--include-path-regex", ONLY_A_MODEL_CAN_TELL, "--exclude-checks", "positive_data_acceptance"],
    ["--exclude-path-regex", f"{ONLY_A_MODEL_CAN_TELL}|/unload$|{LENIENT}"],
    ["--include-path-regex", LENIENT, "--exclude-checks", "negative_data_rejection"],
    # Last, for nothing else has an answer afterwards.
    ["--include-path-regex", "/unload$"],
])
def test_nothing_that_schemathesis_sends_is_answered_otherwise_than_documented(server, which):
    command = [os.path.join(os.path.dirname(sys.executable), "schemathesis"), "--config-file", os.path.join(HERE, "schemathesis.toml")]
    command += ["run", f"http://{server.addresses['http']}/openapi.json", "--header", f"Authorization: Bearer {KEYS['root']}"]
    command += [*which, "--phases", "coverage,fuzzing"]
    command += ["--max-examples", os.environ.get("MIGRATOR_TEST_EXAMPLES", "12"), "--seed", "1", "--no-color"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=server.folder)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert server.request("GET", "/v2/health/live").status == 200
    assert "panicked" not in server.log()
