"""Requests of every kind with the answers they must get, and hostile ones with the statuses they may get."""

import gzip
import json
import os
import random
import struct
import zlib

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# What `tests/fixture/export.py` wrote logits for, from PyTorch.
ROWS = [[((row * 7 + i) % 17) / 16.0 for i in range(64)] for row in range(3)]
with open(os.path.join(ROOT, "tests", "fixture", "digits_mlp.logits"), "rb") as file:
    LOGITS = [struct.unpack_from("<10f", file.read(40)) for _ in range(3)]
MOST_ROWS = 16
TEXTS = ["cold rain", "warm sun", "rain rain rain", "x", "", "\u00e9\U0001f600 sun"]
PATH = "/v2/models/digits/infer"


def message(path, body, headers=()):
    head = f"POST {path} HTTP/1.1\r\nHost: soak\r\nContent-Length: {len(body)}\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers)
    return head.encode() + b"\r\n" + body




class Request:
    """A request as bytes, and a check of its answer, which says what is wrong or nothing."""

    def __init__(self, raw, check):
        self.raw, self.check = raw, check


def near(given, wanted):
    return len(given) == len(wanted) and all(abs(a - b) <= 1e-4 for a, b in zip(given, wanted))


def of_digits(dice, name):
    """One to sixteen known rows, asked for in one of the ways there are."""
    which = [dice.randrange(3) for _ in range(dice.choice((1, 1, 1, 2, 3, 7, MOST_ROWS)))]
    wanted = [x for row in which for x in LOGITS[row]]
    numbers, shape = [x for row in which for x in ROWS[row]], [len(which), 64]
    raw_in, raw_out, classes = dice.random() < 0.4, dice.random() < 0.4, dice.random() < 0.1
    tensor = {"name": "INPUT0", "shape": shape, "datatype": "FP32"}
    value = {"id": name, "inputs": [tensor], "outputs": [{"name": "OUTPUT0", "parameters": {"binary_data": raw_out}}]}
    if classes:
        value["outputs"][0]["parameters"] = {"classification": 3}
        raw_out = False
    if raw_in:
        tensor["parameters"] = {"binary_data_size": 256 * len(which)}
    else:
        tensor["data"] = [ROWS[row] for row in which] if dice.random() < 0.5 else numbers
    body, headers = json.dumps(value).encode(), []
    if raw_in:
        headers.append(("Inference-Header-Content-Length", len(body)))
        body += struct.pack(f"<{len(numbers)}f", *numbers)
    packed = dice.random()
    if packed < 0.2:
        headers.append(("Content-Encoding", "gzip" if packed < 0.1 else "deflate"))
        body = gzip.compress(body, 1) if packed < 0.1 else zlib.compress(body, 1)

    def check(headers, answer):
        if raw_out:
            split = int(headers["inference-header-content-length"])
            told, given = json.loads(answer[:split]), struct.unpack(f"<{len(wanted)}f", answer[split:])
        else:
            told = json.loads(answer)
            given = told["outputs"][0]["data"]
        if told["id"] != name:
            return f"id {told['id']}"
        if classes:
            tops = [max(range(10), key=LOGITS[row].__getitem__) for row in which]
            return None if [int(given[3 * n].split(":")[1]) for n in range(len(which))] == tops else f"classes {given}"
        return None if near(given, wanted) and told["outputs"][0]["shape"] == [len(which), 10] else f"{given} instead of {wanted}"

    return Request(message(PATH, body, headers), check)


def of_raw(dice):
    """A body that is nothing but the tensor."""
    which = [dice.randrange(3) for _ in range(dice.randint(1, MOST_ROWS))]
    body = b"".join(struct.pack("<64f", *ROWS[row]) for row in which)
    wanted = [x for row in which for x in LOGITS[row]]

    def check(headers, answer):
        given = struct.unpack(f"<{len(wanted)}f", answer[int(headers["inference-header-content-length"]) :])
        return None if near(given, wanted) else f"{given} instead of {wanted}"

    return Request(message(PATH, body, [("Inference-Header-Content-Length", 0)]), check)


def of_text(dice, known):
    """Texts; what the first answer to each was holds for all."""
    texts = [dice.choice(TEXTS) for _ in range(dice.randint(1, 8))]
    value = {"inputs": [{"name": "INPUT0", "shape": [len(texts), 1], "datatype": "BYTES", "data": texts}]}

    def check(headers, answer):
        given = json.loads(answer)["outputs"][0]["data"]
        for n, text in enumerate(texts):
            logits = given[2 * n : 2 * n + 2]
            if not near(logits, known.setdefault(text, logits)):
                return f"{text!r} answered {logits}, before {known[text]}"
        return None

    return Request(message("/v2/models/text/infer", json.dumps(value).encode()), check)


def of_reading(dice):
    """Metadata, statistics and health."""
    path = dice.choice(("/v2", "/v2/models/digits", "/v2/models/digits/config", "/v2/models/stats", "/v1/plan", "/openapi.json", "/v2/health/live"))
    return Request(f"GET {path} HTTP/1.1\r\nHost: soak\r\n\r\n".encode(), lambda headers, answer: json.loads(answer or "{}") and None)


def valid(dice, count):
    known = {}
    make = [lambda n: of_digits(dice, f"r{n}\u00e9\""), lambda n: of_raw(dice), lambda n: of_text(dice, known), lambda n: of_reading(dice)]
    return [make[dice.choices(range(4), (70, 12, 15, 3))[0]](n) for n in range(count)]


GOOD = json.dumps({"inputs": [{"name": "INPUT0", "shape": [1, 64], "datatype": "FP32", "data": ROWS[0]}]}).encode()


def hostile(dice):
    """Bytes, and the statuses that they may be answered with; 0 = the connection is closed without one."""
    cut = GOOD[: dice.randrange(len(GOOD))]
    noise = bytearray(GOOD)
    for _ in range(3):
        noise[dice.randrange(len(noise))] = dice.randrange(256)
    refused, any_of = (400,), (200, 400)
    choices = [
        (message(PATH, cut), refused),
        (message(PATH, bytes(noise)), any_of),
        (message(PATH, b"[" * 50_000), refused),
        (message(PATH, GOOD.replace(b"[1, 64]", b"[9223372036854775807, 64]")), refused),
        (message(PATH, GOOD, [("Inference-Header-Content-Length", 2**63)]), refused),
        (message(PATH, GOOD, [("Inference-Header-Content-Length", dice.randrange(len(GOOD)))]), refused),
        (message(PATH, gzip.compress(bytes(16 << 20)), [("Content-Encoding", "gzip")]), (413,)),
        (message(PATH, GOOD, [("Content-Encoding", "gzip")]), refused),
        (message(PATH, GOOD, [("Content-Encoding", "br")]), (415,)),
        (b"POST " + PATH.encode() + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n", (413,)),
        (b"POST " + PATH.encode() + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", (0, 400)),
        (b"POST " + PATH.encode() + b" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n", (0, 400)),
        (b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n\r\n", (0, 400, 414, 431)),
        (b"GET / HTTP/1.1\r\n" + b"X: " + b"y" * 200_000 + b"\r\n\r\n", (0, 400, 431)),
        (bytes(dice.randrange(256) for _ in range(200)) + b"\r\n\r\n", (0, 400)),
        (b"\x16\x03\x01" + bytes(100), (0, 400)),
        (message("/v2/models/%00/infer", GOOD), (404,)),
        (message("/v2/models/../../etc/passwd", GOOD), (404, 405)),
        (message("/v2/models/text/infer", GOOD), refused),
        (message("/v1/tenants/digits/samples", b'{"samples":[{"label":10,"data":[]}]}'), refused),
        (message("/v2/repository/models/nobody/unload", b"{"), (400, 404)),
    ]
    return dice.choice(choices)


def seeded(seed):
    return random.Random(seed)
