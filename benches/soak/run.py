#!/usr/bin/env python3
"""A million requests of mixed kinds and sizes, one in a hundred hostile; every answer is checked, and the server's memory watched.

    run.py --binary target/release/migrator [--requests 1000000]

Starts its own server. Ends with 1 when an answer was wrong, a request failed, the server died, panicked or grew. Standard library only.
"""

import argparse
import collections
import importlib.util
import multiprocessing
import os
import re
import socket
import sys
import tempfile
import time

import traffic

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
CONNECTIONS = 12
POOL = 600
HOSTILE = 0.01
# Memory may still grow while buffers and allocators reach what the load needs; from here on it must not.
SETTLED = 0.3
GROWTH_MIB = 24


def conformance():
    spec = importlib.util.spec_from_file_location("conformance", os.path.join(ROOT, "tests", "conformance", "run.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Connection:
    def __init__(self, address):
        self.socket = socket.create_connection(address, timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.left = b""

    def answer(self):
        """Status, headers, body; status 0 = closed."""
        data = self.left
        while b"\r\n\r\n" not in data:
            more = self.socket.recv(65536)
            if not more:
                return 0, {}, b""
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        length = int(headers.get("content-length", 0))
        while len(body) < length:
            more = self.socket.recv(65536)
            if not more:
                return 0, {}, b""
            body += more
        self.left = body[length:]
        return int(lines[0].split()[1]), headers, body[:length]


def attack(address, dice, seen):
    """One hostile request on a connection of its own; what is wrong with its answer, or nothing."""
    raw, allowed = traffic.hostile(dice)
    # A peer that closed its half may find the connection closed, and one that still writes may see a reset instead of the answer.
    half, long = dice.random() < 0.2, len(raw) > 100_000
    try:
        connection = Connection(address)
        connection.socket.sendall(raw)
        if half:
            connection.socket.shutdown(socket.SHUT_WR)
        status = connection.answer()[0]
        connection.socket.close()
    except OSError:
        status = 0
    seen[f"hostile {status}"] += 1
    return None if status in allowed or status == 0 and (half or long) else f"{raw[:120]!r} answered {status}, not {allowed}"


def client(address, seed, count, done, failures):
    dice, seen = traffic.seeded(seed), collections.Counter()
    pool = traffic.valid(dice, POOL)
    connections = [Connection(address) for _ in range(CONNECTIONS)]
    sent = 0
    while sent < count:
        batch = [dice.choice(pool) for _ in connections]
        for connection, request in zip(connections, batch):
            connection.socket.sendall(request.raw)
        wrong = attack(address, dice, seen) if dice.random() < HOSTILE * (CONNECTIONS + 1) else None
        for connection, request in zip(connections, batch):
            status, headers, body = connection.answer()
            seen[status] += 1
            wrong = wrong or (f"{status} {body[:200]!r} to {request.raw[:300]!r}" if status != 200 else request.check(headers, body))
        if wrong:
            failures.put(wrong)
            return
        sent += CONNECTIONS
        done.value = sum(seen.values())
    failures.put(dict(seen))


def memory_mib(pid):
    """Resident memory of a process and of its workers."""
    resident = lambda one: int(re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{one}/status").read()).group(1)) / 1024
    children = open(f"/proc/{pid}/task/{pid}/children").read().split()
    for thread in os.listdir(f"/proc/{pid}/task"):
        children += open(f"/proc/{pid}/task/{thread}/children").read().split()
    return resident(pid), sum(resident(child) for child in set(children))


def watch(process, clients, counters, total):
    """Samples memory until the clients are done: (share of the requests, server, workers)."""
    samples, begun = [], time.monotonic()
    while any(one.is_alive() for one in clients) and process.poll() is None:
        time.sleep(0.5)
        share = sum(counter.value for counter in counters) / total
        samples.append((share, *memory_mib(process.pid)))
        if int(share * 10) > int((samples[-2][0] if len(samples) > 1 else -1) * 10):
            server, workers = samples[-1][1:]
            print(f"{share:5.0%} after {time.monotonic() - begun:4.0f} s: server {server:.1f} MiB, workers {workers:.1f} MiB", flush=True)
    return samples


def verdict(samples, log):
    faults = [line for line in log.splitlines() if "panicked" in line or "invariant" in line]
    settled = [sample for sample in samples if sample[0] >= SETTLED]
    if len(settled) > 4:
        third = len(settled) // 3
        for index, name in ((1, "server"), (2, "workers")):
            early, late = (max(sample[index] for sample in part) for part in (settled[:third], settled[-third:]))
            print(f"{name}: at most {early:.1f} MiB in the first third after {SETTLED:.0%}, {late:.1f} MiB in the last")
            if late - early > GROWTH_MIB:
                faults.append(f"{name} grew by {late - early:.1f} MiB")
    return faults


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--clients", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    suite, binary = conformance(), os.path.abspath(options.binary)
    with tempfile.TemporaryDirectory() as folder:
        config, state = suite.prepare(binary, folder)
        log_path = os.path.join(folder, "server.log")
        with open(log_path, "w") as log:
            process, addresses = suite.start(binary, config, state, log)
        host, port = addresses["http"].rsplit(":", 1)
        results, counters = multiprocessing.Queue(), [multiprocessing.Value("q", 0) for _ in range(options.clients)]
        share = options.requests // options.clients
        clients = [
            multiprocessing.Process(target=client, args=((host, int(port)), options.seed + n, share, counter, results))
            for n, counter in enumerate(counters)
        ]
        begun = time.monotonic()
        for one in clients:
            one.start()
        samples = watch(process, clients, counters, options.requests)
        took, seen, faults = time.monotonic() - begun, collections.Counter(), []
        for one in clients:
            one.join()
        while not results.empty():
            result = results.get()
            seen.update(result) if isinstance(result, dict) else faults.append(result)
        alive = process.poll() is None
        process.terminate()
        code = process.wait(60)
        with open(log_path) as log:
            faults += verdict(samples, log.read())
        faults += [] if alive and code == 0 and any(seen) else [f"the server ended with {code}, clients saw {dict(seen)}"]
        print(f"{sum(seen.values())} requests in {took:.0f} s: {dict(sorted(seen.items(), key=str))}")
        print("\n".join(faults) or "no fault")
        sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
