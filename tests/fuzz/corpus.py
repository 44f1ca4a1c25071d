#!/usr/bin/env python3
"""Writes the fuzzers' first inputs into `corpus/`: what clients and workers send, and the shipped configuration files.

What a fuzzer finds beyond them stays out of the repository; what once broke something is kept as a test beside the code.
"""

import glob
import gzip
import json
import os
import struct
import zlib

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))


def tensor(name, shape, datatype, **more):
    return {"name": name, "shape": shape, "datatype": datatype, **more}


def binary(size):
    return {"parameters": {"binary_data_size": size}}


NUMBERS = tensor("F", [2, 2, 2], "FP32", data=[[[1, 2], [3, -4.5]], [[5e-3, 6], [7, 8e-1]]])
TEXTS = tensor("T", [2, 1], "BYTES", data=["a", "\u00e9\n\"\U0001f600"])
TRUTHS = tensor("B", [2, 1], "BOOL", data=[True, False])
PLAIN = tensor("I", [3, 2], "INT32", data=[[1, -2], [3, 4], [2147483647, -2147483648]])
OUTPUT = lambda **parameters: [{"name": "OUTPUT0", "parameters": parameters}]

BODIES = {
    "all": {"id": "x", "parameters": {"timeout": 5, "priority": 2}, "inputs": [NUMBERS, TEXTS, TRUTHS], "outputs": OUTPUT()},
    "classes": {"id": "\u00e9\"\\", "inputs": [TRUTHS, TEXTS, NUMBERS], "outputs": OUTPUT(classification=2)},
    "plain": {"inputs": [PLAIN], "parameters": {"binary_data_output": True, "own": [1]}},
    "samples": {"samples": [{"label": 1, "inputs": [tensor("F", [2, 2], "FP32", data=[1, 2, 3, 4]), {"name": "T", "data": "hi"}, {"name": "B", "data": [True]}]}]},
}


def split(value, tail):
    """JSON, and raw tensors behind it; two bytes before it say where."""
    text = json.dumps(value, separators=(",", ":")).encode()
    return struct.pack("<H", len(text)) + text + tail


BINARY = {
    "mixed": split(
        {"inputs": [tensor("F", [1, 2, 2], "FP32", **binary(16)), tensor("T", [1, 1], "BYTES", **binary(6)), tensor("B", [1, 1], "BOOL", data=[True])]},
        struct.pack("<4f", 1, 2, 3, 4) + struct.pack("<I", 2) + b"hi",
    ),
    "plain": split({"inputs": [tensor("I", [2, 2], "INT32", **binary(16))], "outputs": OUTPUT(binary_data=True)}, struct.pack("<4i", 1, 2, 3, 4)),
    "raw": b"\0\0" + struct.pack("<4i", 1, 2, 3, 4),
    "gzip": b"\0\0" + gzip.compress(b"[" * 3000, mtime=0),
    "zlib": b"\0\0" + zlib.compress(b"[1,2]"),
}


def varint(number):
    out = b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


def field(number, content):
    """A field of a message of protobuf: bytes as they are, a number as a varint."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def grpc_input(name, datatype, shape, contents=b""):
    return field(5, field(1, name) + field(2, datatype) + field(3, b"".join(map(varint, shape))) + (field(5, contents) if contents else b""))


def messages():
    head = field(1, b"m") + field(3, b"id") + field(4, field(1, b"timeout") + field(2, field(2, 5)))
    shapes = [grpc_input(b"F", b"FP32", [1, 2, 2]), grpc_input(b"T", b"BYTES", [1, 1]), grpc_input(b"B", b"BOOL", [1, 1])]
    raw = [struct.pack("<4f", 1, 2, 3, 4), struct.pack("<I", 2) + b"hi", b"\1"]
    typed = [
        grpc_input(b"F", b"FP32", [1, 2, 2], field(6, raw[0])),
        grpc_input(b"T", b"BYTES", [1, 1], field(8, b"hi")),
        grpc_input(b"B", b"BOOL", [1, 1], field(1, b"\1")),
    ]
    classes = field(6, field(1, b"OUTPUT0") + field(2, field(1, b"classification") + field(2, field(2, 2))))
    return {"raw": head + b"".join(shapes) + b"".join(field(7, one) for one in raw), "typed": head + b"".join(typed) + classes}


def frame(kind, head, payload=b"", protocol=3):
    return b"MGRW" + struct.pack("<HHQQII", protocol, kind, 7, len(payload), len(head), 0) + head + payload


def text(value):
    return varint(len(value)) + value


FRAMES = {
    # The heads are postcard: the variant's number, then its fields.
    "hello": frame(1, b"\0" + varint(3)),
    "prepare": frame(1, b"\1") + frame(1, b"\3" + varint(2)),
    "infer": frame(1, b"\6" + varint(1) + varint(2) + varint(1) + varint(8), b"payload!"),
    "inferred": frame(2, b"\3" + varint(2) + varint(30), b"logits..") + frame(2, b"\10"),
    "failed": frame(2, b"\11" + b"\1" + text(b"no")),
    "worker": frame(2, b"\0" + varint(3) + varint(99) + text(b"2.11.0")),
}


def configs():
    names = ["configs/demo.toml", "configs/digits-cifar.toml", "configs/problem/burst-and-drift.toml", "configs/problem/drift.toml"]
    return {os.path.basename(name): open(os.path.join(ROOT, name), "rb").read() for name in names}


def write(target, inputs):
    folder = os.path.join(HERE, "corpus", target)
    os.makedirs(folder, exist_ok=True)
    for old in glob.glob(os.path.join(folder, "*")):
        os.remove(old)
    for name, content in inputs.items():
        with open(os.path.join(folder, name), "wb") as file:
            file.write(content)


if __name__ == "__main__":
    write("json", {name: json.dumps(body).encode() for name, body in BODIES.items()})
    write("binary", BINARY)
    write("grpc", messages())
    write("frame", FRAMES)
    write("config", configs())
