"""The protocol as it is on the wire: bodies that no client library would send, and what curl sees."""

import gzip
import json
import re
import shutil
import socket
import struct
import subprocess
import time
import zlib

import numpy as np
import pytest

from conftest import address, binary, body, infer, logits, request, rows, texts


def first(**changes):
    value = body()
    value["inputs"][0].update(changes)
    return value


def without(key):
    value = body()
    del value["inputs"][0][key]
    return value


MALFORMED = {
    "no JSON": "hello",
    "cut JSON": '{"inputs": [{',
    "an empty body": "",
    "an array": "[]",
    "a number": "3",
    "a second object": json.dumps(body()) + "{}",
    "a byte-order mark": "\ufeff" + json.dumps(body()),
    "not UTF-8": b'{"id":"\xff"}',
    "a lone surrogate": '{"id":"\\ud800","inputs":[]}',
    "deep nesting": "[" * 100_000,
    "no inputs": {},
    "inputs null": {"inputs": None},
    "inputs empty": {"inputs": []},
    "inputs twice": json.dumps(body())[:-1] + ',"inputs":[]}',
    "an input that is no object": {"inputs": [1]},
    "an input twice": {"inputs": body()["inputs"] * 2},
    "unknown input": first(name="X"),
    "no name": without("name"),
    "no shape": without("shape"),
    "no datatype": without("datatype"),
    "no data": without("data"),
    "data null": first(data=None),
    "a text among numbers": first(data=["x"] * 64),
    "null among numbers": first(data=[None] * 64),
    "too few elements": first(data=[0.0] * 63),
    "too many elements": first(data=[0.0] * 65),
    "wrong nesting": first(data=[[0.0] * 32] * 2),
    "mixed nesting": first(data=[0.0, [0.0]]),
    "wrong width": first(shape=[1, 63], data=[0.0] * 63),
    "wrong rank": first(shape=[64]),
    "no rows": first(shape=[0, 64], data=[]),
    "too many rows": first(shape=[17, 64], data=[0.0] * 17 * 64),
    "a negative size": first(shape=[-1, 64]),
    "a fraction of a row": first(shape=[1.5, 64]),
    "a shape beyond all numbers": first(shape=[2**63, 64]),
    "wrong datatype": first(datatype="INT32"),
    "unknown datatype": first(datatype="FP7"),
    "a number beyond FP32": first(data=[1e300] * 64),
    "an id that is no text": body(id=7),
    "priority as text": body(parameters={"priority": "x"}),
    "priority below 0": body(parameters={"priority": -1}),
    "timeout below 0": body(parameters={"timeout": -1}),
    "a reserved parameter": body(parameters={"triton_x": 1}),
    "a nested parameter": body(parameters={"x": {}}),
    "parameters that are no object": body(parameters=[]),
    "unknown output": body(outputs=[{"name": "X"}]),
    "an output twice": body(outputs=[{"name": "OUTPUT0"}] * 2),
    "an output without name": body(outputs=[{}]),
    "no classes": body(outputs=[{"name": "OUTPUT0", "parameters": {"classification": 0}}]),
    "classes as text": body(outputs=[{"name": "OUTPUT0", "parameters": {"classification": "x"}}]),
    "shared memory": first(parameters={"shared_memory_region": "x"}),
    "data and binary data": first(parameters={"binary_data_size": 256}),
}


@pytest.mark.parametrize("what", MALFORMED)
def test_malformed_is_400_with_one_line(what):
    value = MALFORMED[what]
    if isinstance(value, str):
        value = value.encode("utf-8", "surrogatepass")
    reply = infer(value)
    assert reply.status == 400, reply.body
    reply.error()


def head(size=256, **more):
    return {"inputs": [{"name": "INPUT0", "shape": [1, 64], "datatype": "FP32", "parameters": {"binary_data_size": size}}], **more}


BINARY = {
    "one byte short": binary(head(), b"\0" * 255),
    "one byte over": binary(head(), b"\0" * 257),
    "a wrong size": binary(head(255), b"\0" * 255),
    "a size below 0": binary(head(-1), b"\0" * 256),
    "JSON longer than the body": (json.dumps(head()), {"Inference-Header-Content-Length": "99999"}),
    "a length below 0": (json.dumps(head()), {"Inference-Header-Content-Length": "-5"}),
    "a length that is no number": (json.dumps(head()), {"Inference-Header-Content-Length": "x"}),
    "raw, not a row": (b"\0" * 255, {"Inference-Header-Content-Length": "0"}),
    "raw, too many rows": (b"\0" * 256 * 17, {"Inference-Header-Content-Length": "0"}),
    "raw and empty": (b"", {"Inference-Header-Content-Length": "0"}),
}


@pytest.mark.parametrize("what", BINARY)
def test_malformed_binary_is_400(what):
    raw, headers = BINARY[what]
    reply = infer(raw, headers=headers)
    assert reply.status == 400, reply.body
    reply.error()


def answer(reply):
    """JSON and raw output of a binary answer."""
    length = int(reply.headers["inference-header-content-length"])
    told = json.loads(reply.body[:length])
    assert told["outputs"][0]["parameters"]["binary_data_size"] == len(reply.body) - length
    return told, np.frombuffer(reply.body[length:], dtype="<f4").reshape(told["outputs"][0]["shape"])


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("ask", [
    {"outputs": [{"name": "OUTPUT0", "parameters": {"binary_data": True}}]},
    {"parameters": {"binary_data_output": True}},
    {"outputs": [{"name": "OUTPUT0"}], "parameters": {"binary_data_output": True}},
])
def test_binary_answers(binary_in, ask):
    if binary_in:
        raw, headers = binary(head(**ask), rows(1).tobytes())
        reply = infer(raw, headers=headers)
    else:
        reply = infer(body(**ask))
    assert reply.headers["content-type"] == "application/octet-stream"
    np.testing.assert_allclose(answer(reply)[1], logits(1), rtol=1e-4, atol=1e-5)


def test_an_output_overrides_the_request():
    outputs = [{"name": "OUTPUT0", "parameters": {"binary_data": False}}]
    reply = infer(body(outputs=outputs, parameters={"binary_data_output": True}))
    assert reply.headers["content-type"] == "application/json" and len(reply.json()["outputs"][0]["data"]) == 10


@pytest.mark.parametrize("count", [1, 3])
def test_a_raw_body(count):
    reply = infer(rows(count).tobytes(), headers={"Inference-Header-Content-Length": "0"})
    np.testing.assert_allclose(answer(reply)[1], logits(count), rtol=1e-4, atol=1e-5)


def test_nested_data_and_any_order_of_keys():
    value = {"inputs": [{"data": rows(2).tolist(), "datatype": "FP32", "shape": [2, 64], "name": "INPUT0"}], "id": ""}
    told = infer(value).json()
    assert "id" not in told and told["outputs"][0]["shape"] == [2, 10]
    np.testing.assert_allclose(np.reshape(told["outputs"][0]["data"], (2, 10)), logits(2), rtol=1e-4, atol=1e-5)


def test_binary_texts():
    value = {"inputs": [{"name": "INPUT0", "shape": [2, 1], "datatype": "BYTES", "parameters": {"binary_data_size": 12}}]}
    raw, headers = binary(value, texts(b"ab", b"cd"))
    assert infer(raw, "/v2/models/text/infer", headers).json()["outputs"][0]["shape"] == [2, 2]


@pytest.mark.parametrize("tail", [struct.pack("<I", 2**31) + b"ab", b"\0", texts(b"ab") + b"x", b""])
def test_texts_cut_wrongly(tail):
    value = {"inputs": [{"name": "INPUT0", "shape": [1, 1], "datatype": "BYTES", "parameters": {"binary_data_size": len(tail)}}]}
    raw, headers = binary(value, tail)
    assert infer(raw, "/v2/models/text/infer", headers).status == 400


@pytest.mark.parametrize("method,path,status", [
    ("GET", "/v2", 200),
    ("GET", "/v2/", 404),
    ("GET", "/nope", 404),
    ("POST", "/v2", 405),
    ("GET", "/v2/health/live", 200),
    ("GET", "/v2/health/ready", 200),
    ("POST", "/v2/health/live", 405),
    ("GET", "/v2/models/digits", 200),
    ("GET", "/v2/models/digits/versions/1", 200),
    ("GET", "/v2/models/digits/versions/99", 404),
    ("GET", "/v2/models/digits/versions/x", 404),
    ("GET", "/v2/models/nope", 404),
    ("GET", "/v2/models/nope/config", 404),
    ("GET", "/v2/models/nope/stats", 404),
    ("GET", "/v2/models/nope/ready", 404),
    ("GET", "/v2/models/digits/versions/1/config", 200),
    ("GET", "/v2/models/digits/versions/1/stats", 200),
    ("GET", "/v2/models/stats", 200),
    ("GET", "/v2/models/digits/infer", 405),
    ("DELETE", "/v2/models/digits", 405),
    ("GET", "/v2/repository/index", 405),
    ("POST", "/v2/repository/index", 200),
    ("POST", "/v2/repository/other/index", 501),
    ("GET", "/v2/trace/setting", 200),
    ("GET", "/v2/models/digits/trace/setting", 200),
    ("GET", "/v2/models/nope/trace/setting", 404),
    ("GET", "/v2/logging", 200),
    ("DELETE", "/v2/logging", 405),
    ("GET", "/v2/systemsharedmemory/status", 404),
    ("POST", "/v2/models/digits/generate", 404),
])
def test_status_codes(method, path, status):
    reply = request(method, path)
    assert reply.status == status, reply.body
    if status >= 400:
        reply.error()
    if status == 405:
        assert reply.headers["allow"]


@pytest.mark.parametrize("name,pack", [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_packed_bodies(name, pack):
    reply = infer(pack(json.dumps(body()).encode()), headers={"Content-Encoding": name})
    assert reply.status == 200, reply.body


@pytest.mark.parametrize("name,pack", [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_a_packed_body_beyond_the_limit_is_413(name, pack):
    packed = pack(b" " * (64 << 20))
    assert len(packed) < 1 << 20
    assert infer(packed, headers={"Content-Encoding": name}).status == 413


@pytest.mark.parametrize("name", ["gzip", "deflate"])
def test_a_body_that_is_not_packed_as_it_says(name):
    assert infer(json.dumps(body()), headers={"Content-Encoding": name}).status == 400


@pytest.mark.parametrize("name", ["br", "zstd", "gzip, gzip"])
def test_other_packings_are_415(name):
    reply = infer(json.dumps(body()), headers={"Content-Encoding": name})
    assert reply.status == 415 and reply.headers["accept-encoding"] == "gzip, deflate"


def test_a_body_beyond_the_limit_is_413():
    assert infer(b" " * ((8 << 20) + 1)).status == 413


def test_a_deadline_that_cannot_be_met_is_503_with_retry_after():
    # An idle instance is tried with such a request once a second, in case that it is faster than expected.
    replies = (infer(body(parameters={"timeout": 1})) for _ in range(20))
    reply = next(reply for reply in replies if reply.status != 200)
    assert reply.status == 503 and int(reply.headers["retry-after"]) >= 1 and "deadline" in reply.error()


def test_metrics_have_tritons_names():
    text = request("GET", "/metrics", port="METRICS").body.decode()
    value = lambda: int(re.search(r'^nv_inference_request_success\{model="digits",version="1"\} (\d+)$', text, re.M).group(1))
    before = value()
    infer(body())
    text = request("GET", "/metrics", port="METRICS").body.decode()
    assert value() > before
    for name in ["nv_inference_count", "nv_inference_exec_count", "nv_inference_queue_duration_us", "nv_inference_request_failure"]:
        assert f"\n{name}{{" in text, name
    assert "migrator_requests_total{" in text


def exchange(*pieces):
    """Writes bytes on one connection and reads until the server closes it, or has been silent for long."""
    host, port = address("HTTP").rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        got = b""
        try:
            for piece in pieces:
                connection.sendall(piece)
            while chunk := connection.recv(65536):
                got += chunk
        except (TimeoutError, ConnectionError):
            pass
        return got


def post(value, more=b""):
    raw = json.dumps(value).encode()
    return b"POST /v2/models/digits/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n%s\r\n" % (len(raw), more) + raw


def test_pipelining():
    got = exchange(post(body(id="one")) + post(body(id="two")) + post(body(id="three"), b"Connection: close\r\n"))
    assert got.count(b"HTTP/1.1 200") == 3
    assert got.index(b'"one"') < got.index(b'"two"') < got.index(b'"three"')


def test_a_chunked_body():
    raw = json.dumps(body()).encode()
    head = b"POST /v2/models/digits/infer HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = [b"%x\r\n%s\r\n" % (len(raw[i : i + 50]), raw[i : i + 50]) for i in range(0, len(raw), 50)]
    assert exchange(head, *chunks, b"0\r\n\r\n").startswith(b"HTTP/1.1 200")


def test_a_half_closed_connection_is_answered_or_closed():
    host, port = address("HTTP").rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(post(body()))
        connection.shutdown(socket.SHUT_WR)
        got = connection.recv(65536)
        assert got == b"" or got.startswith(b"HTTP/1.1 200")


def test_headers_without_end_are_refused():
    got = exchange(b"GET /v2 HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 200_000 + b"\r\n\r\n")
    assert got == b"" or got.split(b" ")[1] in (b"400", b"431")


def test_idle_connections_hurt_nobody():
    host, port = address("HTTP").rsplit(":", 1)
    idle = [socket.create_connection((host, int(port)), timeout=10) for _ in range(500)]
    try:
        for connection in idle[::2]:
            connection.sendall(b"POST /v2/models/digits/infer HTTP/1.1\r\nHost: x\r\nContent-Le")
        start = time.monotonic()
        assert infer(body()).status == 200
        assert time.monotonic() - start < 10
    finally:
        for connection in idle:
            connection.close()


def curl(*arguments):
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    done = subprocess.run(["curl", "-sS", "--max-time", "30", *arguments], capture_output=True, check=True)
    return done.stdout


def url(path):
    return f"http://{address('HTTP')}{path}"


def test_curl_gets_metadata():
    assert json.loads(curl(url("/v2/models/digits")))["name"] == "digits"


def test_curl_infers():
    told = json.loads(curl(url("/v2/models/digits/infer"), "-d", json.dumps(body(id="c"))))
    assert told["id"] == "c" and len(told["outputs"][0]["data"]) == 10


def test_curl_compressed():
    told = json.loads(curl("--compressed", url("/v2/models/digits/infer"), "-d", json.dumps(body(3, id="x" * 3000))))
    assert told["outputs"][0]["shape"] == [3, 10]


def test_curl_with_expect_100():
    told = json.loads(curl("-H", "Expect: 100-continue", url("/v2/models/digits/infer"), "-d", json.dumps(body(3))))
    assert told["outputs"][0]["shape"] == [3, 10]


def test_curl_over_http2_without_tls():
    assert json.loads(curl("--http2", url("/v2")))["name"] == "migrator"
