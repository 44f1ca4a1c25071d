#!/usr/bin/env python3
"""Three things that a server does under load besides answering, side by side: a bounded queue, a load over HTTP, and its end.

    weak.py migrator=target/release triton=ENV --models MODELS

Needs `wrk`. The servers are those of `peer.py`, each alone on the machine; repetitions are interleaved.
"""

import argparse
import http.client
import json
import os
import signal
import statistics
import subprocess
import tempfile
import threading
import time
import urllib.request

import peer
import run

CONNECTIONS = 8


def bounded_queue(kind, home, model, path, seconds):
    """With a bound on the queue that the load never reaches. Ours has one always."""
    one = peer.KINDS[kind](home, model, "queue" if kind == "triton" else "")
    one.start()
    try:
        return run.wrk(one.url, path, CONNECTIONS, seconds)
    finally:
        one.stop()


def loads(one):
    """Loads the model again and again until told to stop; gives the longest load, seconds."""
    stop, longest = threading.Event(), [0.0]

    def work():
        while not stop.wait(1.0):
            begun = time.monotonic()
            status, _, body = peer.post(f"{one.address}/v2/repository/models/m/load", b"{}", timeout=60)
            assert status == 200, body
            longest[0] = max(longest[0], time.monotonic() - begun)

    thread = threading.Thread(target=work)
    thread.start()
    return lambda: (stop.set(), thread.join(), longest[0])[2]


def loading(kind, home, model, path, seconds):
    """While the model is loaded over HTTP every second, a new version each time where a load would else find nothing to do."""
    one = peer.KINDS[kind](home, model)
    one.start()
    try:
        steady = run.wrk(one.url, path, CONNECTIONS, seconds)
        if kind == "migrator":
            import_versions(one, seconds)
        done = loads(one)
        under = run.wrk(one.url, path, CONNECTIONS, seconds)
        return steady, under, done(), counted(one)
    finally:
        one.stop()


def import_versions(one, seconds):
    """A new version every second, beside the load."""
    command = [os.path.join(one.home, "migrator"), "--log", "error", "models", "import", "--tenant", "m", "--file", one.model.path]
    command += ["--config", os.path.join(one.folder, "config.toml"), "--state-dir", os.path.join(one.folder, "state")]

    def work():
        for _ in range(int(seconds)):
            subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(1.0)

    threading.Thread(target=work, daemon=True).start()


def counted(one):
    """Requests that the statistics say were answered since the start, after the loads."""
    with urllib.request.urlopen(f"{one.address}/v2/models/m/stats", timeout=10) as answer:
        stats = json.load(answer)["model_stats"][0]["inference_stats"]
    return stats["success"]["count"]


def ending(kind, home, model):
    """What a client sees from SIGTERM to the end: milliseconds in which the server said that it is not ready and still answered."""
    one = peer.KINDS[kind](home, model)
    if kind == "migrator":
        one.config = "\n[server]\nleave_s = 2.0\n" + one.config
    one.start()
    seen = []
    try:
        one.process.send_signal(signal.SIGTERM)
        begun = time.monotonic()
        while time.monotonic() < begun + 10:
            seen.append((time.monotonic() - begun, ask(one, "GET", "/v2/health/ready"), ask(one, "POST", "/v2/models/m/infer")))
            if seen[-1][2] == "refused":
                break
            time.sleep(0.01)
    finally:
        one.stop()
    told = [at for at, ready, answer in seen if ready not in (200, "refused") and answer == 200]
    return (told[-1] - told[0]) * 1000 if told else 0.0, [answer for _, _, answer in seen if answer not in (200, "refused")][:1]


def ask(one, method, path):
    try:
        connection = http.client.HTTPConnection("127.0.0.1", one.port, timeout=5)
        connection.request(method, path, one.model.body() if method == "POST" else None)
        status = connection.getresponse().status
        connection.close()
        return status
    except OSError:
        return "refused"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("servers", nargs="+", metavar="NAME=HOME")
    parser.add_argument("--models", required=True)
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    model, results = peer.Model(options.models, "mlp"), {}
    servers = [text.split("=", 1) for text in options.servers]
    with tempfile.TemporaryDirectory() as folder:
        path = run.script(folder, "json", model)
        for _ in range(options.repeat):
            for kind, home in servers:
                results.setdefault((kind, "queue"), []).append(bounded_queue(kind, home, model, path, options.seconds))
                results.setdefault((kind, "load"), []).append(loading(kind, home, model, path, options.seconds))
                results.setdefault((kind, "end"), []).append(ending(kind, home, model))
    middle = lambda runs, of: statistics.median(map(of, runs))
    shown = lambda runs: f"{middle(runs, lambda r: r['rps']):.0f}/s, p50 {middle(runs, lambda r: r['p50']):.2f} ms, p99 {middle(runs, lambda r: r['p99']):.2f} ms, longest {middle(runs, lambda r: r['max']):.1f} ms"
    for kind, _ in servers:
        print(f"{kind}: bounded queue, {CONNECTIONS} connections: {shown(results[kind, 'queue'])}")
        steady, under = ([one[n] for one in results[kind, "load"]] for n in (0, 1))
        print(f"{kind}: steady: {shown(steady)}")
        print(f"{kind}: while the model is loaded every second: {shown(under)}; not 2xx {sum(one['bad'] for one in under)}")
        answered = middle(results[kind, "load"], lambda one: (one[0]["rps"] + one[1]["rps"]) * options.seconds)
        print(f"{kind}: longest load {middle(results[kind, 'load'], lambda one: one[2]):.2f} s; the statistics count {middle(results[kind, 'load'], lambda one: one[3]):.0f} of about {answered:.0f}")
        print(f"{kind}: SIGTERM: not ready and still answering for {middle(results[kind, 'end'], lambda one: one[0]):.0f} ms")


if __name__ == "__main__":
    main()
