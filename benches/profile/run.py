#!/usr/bin/env python3
"""Where a request's time goes: CPU by thread and by stage, latency over the model's own, and a flame graph.

    run.py target/release --models MODELS [--connections 1 64] [--flame FILE.svg]

MODELS is what `benches/peers/server/export.py` wrote. CPU is read from the kernel's accounting of each thread; stages are shares of
`perf` samples of the same run. Needs `wrk` and `perf`.
"""

import argparse
import collections
import html
import os
import re
import subprocess
import sys
import tempfile
import urllib.request
import json

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "peers"))

import peer  # noqa: E402
import run as peers  # noqa: E402

# The first of a stack's frames, from the innermost outwards, that matches one of these is the stage.
STAGES = [
    ("compute: libtorch", r"mkl|at::|c10::|torch|sgemm|libgomp|addmm"),
    ("routing", r"regex|actix_router|capture_match_info|RegisteredMethods"),
    ("request: JSON and tensors", r"migrator::http::(request|input|tensor|parameter|body|codec)|serde_json"),
    ("answer: JSON and tensors", r"migrator::http::(response|classification)|zmij"),
    ("metrics and statistics", r"metrics|migrator_actors::statistic|Meter"),
    ("tenant: queue, batches, deadlines", r"migrator_machine|TenantActor|migrator_actors"),
    ("wire between server and worker", r"migrator_wire|migrator_worker"),
    ("actors' mailboxes", r"actix::"),
    ("HTTP", r"actix_http|actix_web|migrator::http|httparse|h1::"),
    ("sockets: kernel", r"tcp_|__sys_send|__sys_recv|sock_|unix_stream|__x64_sys_(send|recv|read|write)|ksys_(read|write)|vfs_(read|write)"),
    ("waiting and waking: kernel", r"futex|schedule|epoll|ep_|eventfd|wake_up|sched"),
    ("tasks and timers: tokio", r"tokio|mio::"),
]
PERF_HZ = 499


def threads(one):
    """Microseconds of CPU so far, by (program, thread)."""
    spent = collections.Counter()
    for pid in one.members():
        with open(f"/proc/{pid}/comm") as file:
            program = file.read().strip()
        for tid in os.listdir(f"/proc/{pid}/task"):
            try:
                with open(f"/proc/{pid}/task/{tid}/comm") as name, open(f"/proc/{pid}/task/{tid}/schedstat") as stat:
                    spent[(program, name.read().strip(), int(tid))] = int(stat.read().split()[0]) / 1000
            except OSError:
                continue
    return spent


def stats(one):
    """Requests, and the worker's own computation per request and per batch, microseconds, from the server's statistics."""
    with urllib.request.urlopen(f"{one.address}/v2/models/m/stats", timeout=10) as answer:
        told = json.load(answer)["model_stats"][0]
    return told["inference_stats"]["success"]["count"], told["inference_stats"]["compute_infer"]["ns"] / 1000, told["execution_count"]


def added(one):
    """What the server added to the worker's computation so far: requests that took at most so many seconds, by the server's own histogram."""
    with open(one.log.name) as log:
        address = re.search(r"^listening .* metrics=(\S+)", log.read(), re.MULTILINE)[1]
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    buckets = re.findall(r'^migrator_added_seconds_bucket\{[^}]*le="([^"]+)"\} (\d+)$', text, re.MULTILINE)
    return [(float(limit), int(count)) for limit, count in buckets]


def percentile_us(before, after, part):
    """Of what was added between two readings, interpolated within a bucket."""
    counts = [(limit, late - early) for (limit, early), (_, late) in zip(before, after)]
    wanted, (below, reached) = part * counts[-1][1], (0.0, 0)
    for limit, count in counts:
        if count >= wanted:
            return 1e6 * (below + (min(limit, 1.0) - below) * (wanted - reached) / max(count - reached, 1))
        below, reached = limit, count


def stacks(path):
    """Samples as (thread, frames from the outermost inwards)."""
    command = ["perf", "script", "-i", path, "-F", "comm,tid,ip,sym", "--no-inline"]
    text = subprocess.run(command, capture_output=True, text=True, errors="replace").stdout
    for block in text.split("\n\n"):
        lines = block.strip("\n").split("\n")
        if len(lines) < 2:
            continue
        head = lines[0].split()
        frames = [re.sub(r"^\s*[0-9a-f]+ ", "", line).strip() for line in lines[1:]]
        yield (" ".join(head[:-1]), int(head[-1])), [re.sub(r"::h[0-9a-f]{16}$", "", frame) for frame in reversed(frames)]


def stage(frames):
    for frame in reversed(frames):
        for name, pattern in STAGES:
            if re.search(pattern, frame):
                return name
    return "other"


def flame(samples, path):
    """A flame graph: width is CPU, from the bottom up is who calls whom."""
    root = {"count": 0, "children": {}}
    for (thread, _), frames in samples:
        node = root
        node["count"] += 1
        for name in [thread] + frames:
            node = node["children"].setdefault(name, {"count": 0, "children": {}})
            node["count"] += 1
    width, height, least = 1200.0, 15, 1.5
    boxes = []

    def draw(node, name, x, depth):
        wide = width * node["count"] / root["count"]
        if wide < least:
            return
        boxes.append((x, depth, wide, name, node["count"]))
        for child, below in sorted(node["children"].items()):
            draw(below, child, x, depth + 1)
            x += width * below["count"] / root["count"]

    draw(root, "all", 0.0, 0)
    deepest = max(depth for _, depth, *_ in boxes) + 1
    with open(path, "w") as file:
        file.write(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {deepest * height}" font-family="monospace" font-size="10">\n')
        for x, depth, wide, name, count in boxes:
            hue = 20 + sum(map(ord, name[:24])) % 40
            shown = html.escape(name[: int(wide / 6.2)]) if wide > 25 else ""
            y = (deepest - 1 - depth) * height
            file.write(
                f'<g><title>{html.escape(name[:160])}: {count / root["count"]:.1%}</title><rect x="{x:.1f}" y="{y}" width="{wide:.1f}" '
                f'height="{height - 1}" fill="hsl({hue},75%,65%)"/><text x="{x + 2:.1f}" y="{y + 11}">{shown}</text></g>\n'
            )
        file.write("</svg>\n")


def profile(options, form, connections, folder):
    model = peer.Model(options.models, options.model)
    one = peer.Migrator(options.home, model)
    one.start()
    try:
        script = peers.script(folder, form, model)
        peers.wrk(one.url, script, connections, 1)
        before, counted, early = threads(one), stats(one), added(one)
        plain = peers.wrk(one.url, script, connections, options.seconds)
        after, answered, late = threads(one), stats(one), added(one)
        requests, batches = answered[0] - counted[0], max(answered[2] - counted[2], 1)
        compute = (answered[1] - counted[1]) / requests
        print(f"\n{form}, {connections} connections: {plain['rps']:.0f}/s, {requests / batches:.1f} requests a batch")
        print(f"latency: p50 {plain['p50'] * 1000:.0f} us, p99 {plain['p99'] * 1000:.0f} us; the batch's own computation: {compute:.0f} us on average")
        p50, p99 = (percentile_us(early, late, part) for part in (0.5, 0.99))
        print(f"added to it in the server, waiting included: p50 {p50:.0f} us, p99 {p99:.0f} us")
        spent = {key: (after[key] - before[key]) / requests for key in after}
        for (program, name, _), us in sorted(spent.items(), key=lambda item: -item[1])[:6]:
            print(f"  {us:7.1f} us of CPU a request: {program}, thread {name}")
        total = sum(spent.values())
        print(f"  {total:7.1f} us of CPU a request in all")
        data = os.path.join(folder, "perf.data")
        pids = ",".join(map(str, one.members()))
        record = ["perf", "record", "-q", "-F", str(PERF_HZ), "--call-graph", "dwarf,8192", "-o", data, "-p", pids, "--", "sleep", "4"]
        recorder = subprocess.Popen(record, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        peers.wrk(one.url, script, connections, 5)
        recorder.wait()
        samples = list(stacks(data))
        stages = collections.Counter(stage(frames) for _, frames in samples)
        for name, count in stages.most_common():
            print(f"  {count / len(samples):6.1%} {total * count / len(samples):6.1f} us: {name}")
        return samples
    finally:
        one.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("home")
    parser.add_argument("--models", required=True)
    parser.add_argument("--model", default="mlp")
    parser.add_argument("--forms", nargs="+", default=["json", "binary"])
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--flame", help="file for a flame graph of the last run")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for form in options.forms:
            for connections in options.connections:
                samples = profile(options, form, connections, folder)
    if options.flame:
        flame(samples, options.flame)


if __name__ == "__main__":
    main()
