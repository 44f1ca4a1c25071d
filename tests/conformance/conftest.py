"""What the suite shares: where the server listens, and rows whose answers are known."""

import http.client
import json
import os
import struct

import numpy as np
import pytest

FIXTURE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fixture")


def address(name):
    return os.environ[f"MIGRATOR_TEST_{name}"]


class Reply:
    """An answer: status, headers in lower case, body."""

    def __init__(self, response):
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read()

    def json(self):
        return json.loads(self.body)

    def error(self):
        assert self.headers["content-type"] == "application/json"
        told = self.json()
        assert list(told) == ["error"] and told["error"] and "\n" not in told["error"]
        return told["error"]


def request(method, path, body=None, headers=None, port="HTTP"):
    """One request on a connection of its own, written as it is."""
    connection = http.client.HTTPConnection(address(port), timeout=30)
    try:
        connection.request(method, path, body=body, headers=headers or {})
        return Reply(connection.getresponse())
    finally:
        connection.close()


def rows(count):
    """The rows that the fixture's logits were written for."""
    return np.array([[((row * 7 + i) % 17) / 16.0 for i in range(64)] for row in range(count)], dtype=np.float32)


def logits(count):
    with open(os.path.join(FIXTURE, "digits_mlp.logits"), "rb") as file:
        known = np.frombuffer(file.read(), dtype="<f4").reshape(3, 10)
    return known[:count]


def body(count=1, **more):
    data = rows(count)
    tensor = {"name": "INPUT0", "shape": list(data.shape), "datatype": "FP32", "data": data.ravel().tolist()}
    return {"inputs": [tensor], **more}


def infer(value, path="/v2/models/digits/infer", headers=None):
    raw = value if isinstance(value, (bytes, str)) else json.dumps(value)
    return request("POST", path, raw, headers)


def binary(head, tail):
    """A body of JSON and raw tensors, and its header."""
    text = json.dumps(head).encode()
    return text + tail, {"Inference-Header-Content-Length": str(len(text))}


def texts(*values):
    return b"".join(struct.pack("<I", len(value)) + value for value in values)


@pytest.fixture(autouse=True)
def the_server_still_answers():
    """After every case, whatever it did."""
    yield
    answer = infer(body())
    assert answer.status == 200, answer.body
