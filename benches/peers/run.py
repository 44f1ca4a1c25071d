#!/usr/bin/env python3
"""Measures servers of the inference protocol side by side: closed loop, one row a request, JSON and binary.

    run.py --binary here=target/release/migrator --url triton=http://127.0.0.1:9000/v2/models/digits/infer

`--binary` starts a `migrator` (with `migrator-worker` beside it) on a TorchScript MLP of 64-32-10; `--url` measures a server that
runs already and takes the same row as `INPUT0`. Repetitions are interleaved, so that a noisy host is noisy for all. Needs `wrk`, whose
percentiles are corrected for coordinated omission. Prints one row for each server, form and concurrency: the median of the repetitions.
"""

import argparse
import importlib.util
import os
import re
import statistics
import struct
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
ROW = [((i * 7) % 17) / 16.0 for i in range(64)]


def load(path, name):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


conformance = load(os.path.join(ROOT, "tests", "conformance", "run.py"), "conformance")


def scripts(folder):
    """What wrk sends, by form."""
    tensor = '{"inputs":[{"name":"INPUT0","shape":[1,64],"datatype":"FP32",%s}]%s}'
    json = tensor % (f'"data":{ROW}'.replace(" ", ""), "")
    head = tensor % ('"parameters":{"binary_data_size":256}', ',"outputs":[{"name":"OUTPUT0","parameters":{"binary_data":true}}]')
    raw = head.encode() + struct.pack("<64f", *ROW)
    bodies = {"json": (json.encode(), ""), "binary": (raw, f'wrk.headers["Inference-Header-Content-Length"] = "{len(head)}"\n')}
    made = {}
    for form, (body, header) in bodies.items():
        made[form] = os.path.join(folder, f"{form}.lua")
        with open(made[form], "w") as file:
            escaped = "".join(f"\\{byte:03d}" for byte in body)
            file.write(f'wrk.method = "POST"\nwrk.body = "{escaped}"\n{header}')
    return made


def measure(url, script, connections, seconds):
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", script, url]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    ms = {"us": 0.001, "ms": 1.0, "s": 1000.0}
    percentile = lambda p: (lambda m: float(m.group(1)) * ms[m.group(2)])(re.search(rf"{p}%\s+([\d.]+)(us|ms|s)", text))
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    return float(re.search(r"Requests/sec:\s+([\d.]+)", text).group(1)), percentile(50), percentile(99), int(bad.group(1)) if bad else 0


def resident_mib(pid):
    """Of a process and its children."""
    total = 0
    for line in subprocess.run(["ps", "-eo", "pid,ppid,rss"], capture_output=True, text=True).stdout.splitlines()[1:]:
        own, parent, rss = map(int, line.split())
        total += rss if pid in (own, parent) else 0
    return total / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    pair = lambda text: tuple(text.split("=", 1))
    parser.add_argument("--binary", type=pair, action="append", default=[], metavar="NAME=PATH")
    parser.add_argument("--url", type=pair, action="append", default=[], metavar="NAME=URL")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    started = []
    try:
        with tempfile.TemporaryDirectory() as folder:
            servers = dict(options.url)
            for name, path in options.binary:
                own = os.path.join(folder, name)
                os.mkdir(own)
                config, state = conformance.prepare(os.path.abspath(path), own)
                begun = time.monotonic()
                process, addresses = conformance.start(os.path.abspath(path), config, state, subprocess.DEVNULL)
                print(f"{name}: ready after {time.monotonic() - begun:.2f} s", file=sys.stderr)
                started.append((name, process))
                servers[name] = f"http://{addresses['http']}/v2/models/digits/infer"
            made, results = scripts(folder), {}
            for _ in range(options.repeat):
                for form, script in made.items():
                    for connections in options.connections:
                        for name, url in servers.items():
                            got = measure(url, script, connections, options.seconds)
                            results.setdefault((form, connections, name), []).append(got)
            print(f"{'form':8}{'connections':>12}  {'server':16}{'requests/s':>12}{'p50 ms':>9}{'p99 ms':>9}{'refused':>9}")
            for (form, connections, name), runs in results.items():
                rps, p50, p99, bad = (statistics.median(column) for column in zip(*runs))
                print(f"{form:8}{connections:12}  {name:16}{rps:12.0f}{p50:9.2f}{p99:9.2f}{bad:9.0f}")
            for name, process in started:
                print(f"{name}: {resident_mib(process.pid):.0f} MiB resident with its workers")
    finally:
        for _, process in started:
            process.terminate()
            process.wait(30)


if __name__ == "__main__":
    main()
