#!/usr/bin/env python3
"""Measures servers of inference side by side: closed loop, one row a request, JSON and binary.

    PYTHON server/export.py MODELS                               # once; PYTHON has torch
    run.py migrator=target/release triton=ENV triton-plain=ENV fastapi=ENV … --models MODELS --model mlp

ENV is a Python environment with what `peer.py` says. Each repetition starts every server in turn, alone on the machine, sees its first
right answer, measures it at each concurrency, and ends it; so a noisy host is noisy for all. Needs `wrk`, whose percentiles are
corrected for coordinated omission. Prints the median of the repetitions, and how far they lie apart, as a table in Markdown.
"""

import argparse
import json
import os
import statistics
import struct
import subprocess
import sys
import tempfile

import peer

DONE = """
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('RESULT {"rps":%f,"p50":%f,"p99":%f,"p999":%f,"max":%f,"bad":%d}\\n',
    summary.requests / summary.duration * 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    latency:percentile(99.9) / 1e3, latency.max / 1e3, e.connect + e.read + e.write + e.status + e.timeout))
end
"""


def script(folder, form, model):
    """What wrk sends, as a file."""
    body, header = model.body(), 'wrk.headers["Content-Type"] = "application/json"\n'
    if form == "binary":
        tensor = {"name": "INPUT0", "shape": [1, *model.shape], "datatype": "FP32", "parameters": {"binary_data_size": 4 * len(model.row)}}
        outputs = [{"name": "OUTPUT0", "parameters": {"binary_data": True}}]
        head = json.dumps({"inputs": [tensor], "outputs": outputs}, separators=(",", ":")).encode()
        body, header = head + struct.pack(f"<{len(model.row)}f", *model.row), f'wrk.headers["Inference-Header-Content-Length"] = "{len(head)}"\n'
    data, path = os.path.join(folder, form), os.path.join(folder, f"{form}.lua")
    with open(data, "wb") as file:
        file.write(body)
    with open(path, "w") as file:
        file.write(f'wrk.method = "POST"\nlocal f = io.open("{data}", "rb")\nwrk.body = f:read("*a")\nf:close()\n{header}{DONE}')
    return path


def wrk(url, path, connections, seconds):
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", path, url]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(next(line for line in text.splitlines() if line.startswith("RESULT ")).removeprefix("RESULT "))


def measure(one, scripts, options, results, name):
    """Starts one server, measures it, ends it."""
    results.setdefault((name, "start"), []).append(one.start())
    try:
        for form, path in scripts.items():
            if form == "binary" and not one.binary:
                continue
            for connections in options.connections:
                wrk(one.url, path, connections, 1)
                results.setdefault((name, form, connections), []).append(wrk(one.url, path, connections, options.seconds))
        results.setdefault((name, "memory"), []).append(one.memory_mib())
    finally:
        one.stop()


def report(results, names, options):
    middle = lambda key, of: statistics.median(of(one) for one in results[key])
    print("| form | connections | server | requests/s | lowest–highest | p50 ms | p99 ms | p99.9 ms | longest ms | not 2xx |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for form in ("json", "binary"):
        for connections in options.connections:
            for name in names:
                runs = results.get((name, form, connections))
                if not runs:
                    continue
                rps, at = [one["rps"] for one in runs], lambda what: middle((name, form, connections), lambda one: one[what])
                spread = f"{min(rps):.0f}–{max(rps):.0f}"
                times = " | ".join(f"{at(what):.2f}" for what in ("p50", "p99", "p999", "max"))
                print(f"| {form} | {connections} | {name} | {at('rps'):.0f} | {spread} | {times} | {at('bad'):.0f} |")
    print("\n| server | first answer after s | resident MiB | proportional MiB |\n|---|---|---|---|")
    for name in names:
        if results.get((name, "memory")):
            rss, pss = (middle((name, "memory"), lambda one: one[n]) for n in (0, 1))
            print(f"| {name} | {middle((name, 'start'), float):.2f} | {rss:.0f} | {pss:.0f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("servers", nargs="+", metavar="NAME=HOME")
    parser.add_argument("--models", required=True)
    parser.add_argument("--model", default="mlp")
    parser.add_argument("--forms", nargs="+", default=["json", "binary"])
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    model, results = peer.Model(options.models, options.model), {}
    names = [text.split("=", 1)[0] for text in options.servers]
    with tempfile.TemporaryDirectory() as folder:
        scripts = {form: script(folder, form, model) for form in options.forms}
        for repetition in range(options.repeat):
            for name, text in zip(names, options.servers):
                try:
                    measure(peer.make(text, model), scripts, options, results, name)
                except RuntimeError as error:
                    print(f"{name}: {error}", file=sys.stderr)
                print(f"{repetition + 1}/{options.repeat} {name}", file=sys.stderr)
    report(results, names, options)


if __name__ == "__main__":
    main()
