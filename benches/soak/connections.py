#!/usr/bin/env python3
"""Ten thousand idle connections, slow ones, half-closed ones and deep pipelines: what everybody else notices.

    connections.py --binary target/release/migrator

Starts its own server. Ends with 1 when a request failed or a slow connection was kept. Standard library only.
"""

import argparse
import os
import resource
import socket
import statistics
import sys
import tempfile
import time

import run
import traffic

SLOW = 500
HALF = 500
DEEP = 200
# The server gives headers 5 s; what is cut off later than this was kept too long.
SLOW_S = 20
GOOD = traffic.message(traffic.PATH, traffic.GOOD)


def limits(count):
    """As many files as the idle connections need here and, by inheritance, in the server."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + 4096
    if most != resource.RLIM_INFINITY and most < wanted:
        sys.exit(f"at most {most} files may be open: {wanted} are needed (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def ask(address, count=400):
    """Latencies of one client's requests, ms; anything but 200 ends it."""
    connection, took = run.Connection(address), []
    for _ in range(count):
        begun = time.monotonic()
        connection.socket.sendall(GOOD)
        status, _, body = connection.answer()
        took.append((time.monotonic() - begun) * 1000)
        assert status == 200, (status, body)
    connection.socket.close()
    return took


def slow(address):
    """Headers that never end, a byte at a time; seconds until the server has closed all of them."""
    open_ones = []
    for _ in range(SLOW):
        one = socket.create_connection(address, timeout=10)
        one.sendall(b"POST /v2/models/digits/infer HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        open_ones.append(one)
    begun, rounds = time.monotonic(), []
    while open_ones and time.monotonic() < begun + SLOW_S:
        rounds += ask(address, 20)
        still = []
        for one in open_ones:
            try:
                one.send(b"x")
                # Whatever comes, 408 or the end, the server is done with it.
                one.recv(4096, socket.MSG_DONTWAIT)
                one.close()
            except BlockingIOError:
                still.append(one)
            except OSError:
                one.close()
        open_ones = still
    return time.monotonic() - begun, len(open_ones), rounds


def half_closed(address):
    """Requests on connections whose sending half is closed right after: answered, or closed, but never kept."""
    answered, kept = 0, 0
    ones = []
    for _ in range(HALF):
        one = socket.create_connection(address, timeout=10)
        one.sendall(GOOD)
        one.shutdown(socket.SHUT_WR)
        ones.append(one)
    for one in ones:
        try:
            answered += one.recv(65536).startswith(b"HTTP/1.1 200")
            while one.recv(65536):
                pass
        except TimeoutError:
            kept += 1
        except OSError:
            pass
        one.close()
    return answered, kept


def pipelined(address):
    """Many requests in one write; their answers in order."""
    connection = run.Connection(address)
    bodies = [traffic.GOOD[:-1] + b', "id": "%d"}' % n for n in range(DEEP)]
    connection.socket.sendall(b"".join(traffic.message(traffic.PATH, body) for body in bodies))
    for n in range(DEEP):
        status, _, body = connection.answer()
        assert status == 200 and b'"id":"%d"' % n in body, (n, status, body)


def line(name, took):
    ordered = sorted(took)
    print(f"{name}: {len(took)} requests, p50 {statistics.median(took):.2f} ms, p99 {ordered[int(len(ordered) * 0.99)]:.2f} ms, longest {ordered[-1]:.1f} ms")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--idle", type=int, default=10_000)
    options = parser.parse_args()
    limits(options.idle)
    suite, binary = run.conformance(), os.path.abspath(options.binary)
    with tempfile.TemporaryDirectory() as folder:
        config, state = suite.prepare(binary, folder)
        with open(os.path.join(folder, "log"), "w") as log:
            process, addresses = suite.start(binary, config, state, log)
        try:
            host, port = addresses["http"].rsplit(":", 1)
            address = (host, int(port))
            ask(address)
            line("alone", ask(address))
            before = run.memory_mib(process.pid)[0]
            idle = []
            for number in range(options.idle):
                one = run.Connection(address)
                if number % 2:
                    # Half of them have been used before.
                    one.socket.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
                    assert one.answer()[0] == 200
                idle.append(one)
            line(f"beside {len(idle)} idle connections", ask(address))
            grown = (run.memory_mib(process.pid)[0] - before) * 1024 / len(idle)
            print(f"an idle connection costs the server {grown:.1f} KiB")
            took, kept, rounds = slow(address)
            line(f"beside {SLOW} connections with endless headers", rounds)
            print(f"endless headers: all closed after {took:.1f} s" if not kept else f"endless headers: {kept} kept after {took:.1f} s")
            answered, held = half_closed(address)
            print(f"half-closed: {answered} of {HALF} answered, {HALF - answered - held} closed, {held} kept open")
            pipelined(address)
            print(f"pipelined: {DEEP} requests in one write answered in order")
            line("afterwards", ask(address))
            for one in idle:
                one.socket.close()
        finally:
            process.terminate()
            code = process.wait(60)
        print(f"the server ended with {code}")
        sys.exit(1 if kept or held or code else 0)


if __name__ == "__main__":
    main()
