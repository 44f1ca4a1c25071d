#!/usr/bin/env python3
"""One tenant at ten times its capacity: what its neighbour notices, and what the refused are told.

    run.py --binary target/release/migrator

Two tenants with the same heavy model. The loud one's capacity is measured, then it is asked for half of it and for ten times it in
turns, open loop; the quiet one is asked for a steady quarter of its own all the time. Standard library only.
"""

import argparse
import asyncio
import collections
import importlib.util
import json
import os
import random
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
SLO_MS = 400
FEATURES = 64

CONFIG = """
[retraining]
enabled = false

[planner]
policy = "{policy}"
""" + "".join(
    f"""
[[tenants]]
name = "{name}"
slo_ms = {SLO_MS}
model = {{{{ name = "{name}", classes = 10, max_batch = 1, source = {{{{ source = "architecture", architecture = {{{{ kind = "mlp", features = {FEATURES}, hidden = [4096, 4096, 4096] }}}} }}}} }}}}
"""
    for name in ("quiet", "loud")
)


def conformance():
    spec = importlib.util.spec_from_file_location("conformance", os.path.join(ROOT, "tests", "conformance", "run.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def prepare(binary, folder, policy):
    config, state = os.path.join(folder, "config.toml"), os.path.join(folder, "state")
    with open(config, "w") as file:
        file.write(CONFIG.format(policy=policy))
    data = os.path.join(folder, "data.csv")
    with open(data, "w") as file:
        dice = random.Random(1)
        file.write(",".join(f"f{n}" for n in range(FEATURES)) + ",label\n")
        file.writelines(",".join(f"{dice.random():.3f}" for _ in range(FEATURES)) + f",{n % 10}\n" for n in range(64))
    for name in ("quiet", "loud"):
        command = [binary, "--log", "error", "models", "train", "--tenant", name, "--data", data, "--config", config, "--state-dir", state]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return config, state


class Client:
    """Requests of one tenant over connections that are kept; every answer is filed."""

    def __init__(self, address, tenant):
        self.host, port = address.rsplit(":", 1)
        self.port, self.free = int(port), []
        data = [((i * 7) % 17) / 16.0 for i in range(FEATURES)]
        body = json.dumps({"inputs": [{"name": "INPUT0", "shape": [1, FEATURES], "datatype": "FP32", "data": data}]}).encode()
        self.raw = f"POST /v2/models/{tenant}/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body

    async def ask(self):
        """Status, whether a refusal says why and when to come back, and nothing else."""
        reader, writer = self.free.pop() if self.free else await asyncio.open_connection(self.host, self.port)
        writer.write(self.raw)
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        lines = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
        body = await reader.readexactly(int(lines["content-length"]))
        self.free.append((reader, writer))
        status = int(head.split()[1])
        clear = status == 200 or status in (429, 503) and int(lines.get("retry-after", 0)) >= 1 and bool(json.loads(body)["error"])
        return status, clear


class Tally:
    def __init__(self):
        self.sent = self.in_time = 0
        self.statuses, self.latencies, self.unclear = collections.Counter(), [], 0

    async def one(self, client, due):
        self.sent += 1
        try:
            status, clear = await client.ask()
        except (OSError, asyncio.IncompleteReadError) as error:
            status, clear = type(error).__name__, False
        ms = (time.monotonic() - due) * 1000
        self.statuses[status] += 1
        self.unclear += not clear
        if status == 200:
            self.latencies.append(ms)
            self.in_time += ms <= SLO_MS

    def attainment(self):
        return self.in_time / self.sent

    def at(self, share):
        ordered = sorted(self.latencies) or [float("nan")]
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def steady(client, rps, seconds, tally, dice):
    """Open loop, Poisson: a request is due when it is due, whatever the ones before it do."""
    begun, due, tasks = time.monotonic(), 0.0, []
    while due < seconds:
        due += dice.expovariate(rps)
        await asyncio.sleep(max(0.0, begun + due - time.monotonic()))
        tasks.append(asyncio.create_task(tally.one(client, begun + due)))
    await asyncio.gather(*tasks)


async def capacity(client, seconds, width=16):
    answered, end = 0, time.monotonic() + seconds

    async def loop():
        nonlocal answered
        while time.monotonic() < end:
            status, _ = await client.ask()
            answered += status == 200

    await asyncio.gather(*(loop() for _ in range(width)))
    return answered / seconds


async def measure(addresses, options):
    quiet, loud = (Client(addresses["http"], name) for name in ("quiet", "loud"))
    await capacity(loud, 2)
    most, own = await capacity(loud, options.seconds / 2), await capacity(quiet, options.seconds / 2)
    print(f"capacity alone: loud {most:.0f}/s, quiet {own:.0f}/s")
    dice, phases = random.Random(1), {"half": (most / 2, Tally(), Tally()), "tenfold": (most * 10, Tally(), Tally())}
    for _ in range(options.repeat):
        for name, (rps, of_quiet, of_loud) in phases.items():
            both = (steady(quiet, own / 4, options.seconds, of_quiet, dice), steady(loud, rps, options.seconds, of_loud, dice))
            await asyncio.gather(*both)
            await asyncio.sleep(2)
    print("| loud tenant | quiet: sent | within the SLO | p50 ms | p99 ms | loud: sent | statuses | refusals without a clear answer |")
    print("|---|---|---|---|---|---|---|---|")
    for name, (rps, q, l) in phases.items():
        times = f"{q.at(0.5):.1f} | {q.at(0.99):.1f}"
        print(f"| {name} ({rps:.0f}/s) | {q.sent} | {q.attainment():.2%} | {times} | {l.sent} | {dict(l.statuses)} | {l.unclear + q.unclear} |")
    before, during = phases["half"][1].attainment(), phases["tenfold"][1].attainment()
    unclear = sum(tally.unclear for _, q, l in phases.values() for tally in (q, l))
    return before - during, unclear


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--policy", default="keep", help="keep: the cut stays, so that the neighbour's share is the same throughout")
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    suite, binary = conformance(), os.path.abspath(options.binary)
    with tempfile.TemporaryDirectory() as folder:
        config, state = prepare(binary, folder, options.policy)
        with open(os.path.join(folder, "log"), "w") as log:
            process, addresses = suite.start(binary, config, state, log)
        try:
            lost, unclear = asyncio.run(measure(addresses, options))
        finally:
            process.terminate()
            process.wait(30)
    print(f"the quiet tenant lost {lost:.2%} of its SLO attainment; {unclear} refusals were unclear")
    sys.exit(1 if lost > 0.01 or unclear else 0)


if __name__ == "__main__":
    main()
