"""Sends the streams, each row at its moment, and compares every answer with the label, which follows."""

import asyncio
import collections
import json
import math
import time

# Every second the labels of what was answered are posted.
LABELS_S = 1.0


class Count:
    """What became of a window's rows."""

    def __init__(self):
        self.sent = self.answered = self.on_time = self.correct = self.good = 0
        self.labels = self.refused = 0
        self.statuses = collections.Counter()

    def add(self, status, ms, right, slo_ms):
        self.sent += 1
        self.statuses[str(status)] += 1
        if status == 200:
            self.answered += 1
            self.on_time += ms <= slo_ms
            self.correct += right
            self.good += right and ms <= slo_ms

    def plain(self):
        return {**vars(self), "statuses": dict(self.statuses)}


class Client:
    """Requests of one tenant over connections that are kept."""

    def __init__(self, address, stream):
        host, port = address.rsplit(":", 1)
        self.host, self.port, self.stream, self.free = host, int(port), stream, []

    async def post(self, path, body, head=""):
        """Status and body; the status is the error's name when there was no answer."""
        raw = f"POST {path} HTTP/1.1\r\nHost: x\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        while True:
            kept = bool(self.free)
            try:
                reader, writer = self.free.pop() if kept else await asyncio.open_connection(self.host, self.port)
                writer.write(raw)
                lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
                answer = await reader.readexactly(int(headers["content-length"]))
            except (OSError, asyncio.IncompleteReadError) as error:
                # The server closes connections that were idle for long; another one will do.
                if kept and not getattr(error, "partial", b""):
                    continue
                return type(error).__name__, b""
            self.free.append((reader, writer))
            return int(lines[0].split()[1]), answer

    async def ask(self, name, raw):
        """Status, and the class that the model took the row for."""
        shape, datatype = ([1, *self.stream.shape], "FP32") if self.stream.shape else ([1, 1], "BYTES")
        tensor = {"name": "INPUT0", "shape": shape, "datatype": datatype, "parameters": {"binary_data_size": len(raw)}}
        text = json.dumps({"id": name, "inputs": [tensor]}).encode()
        head = f"Inference-Header-Content-Length: {len(text)}\r\n"
        status, body = await self.post(f"/v2/models/{self.stream.name}/infer", text + raw, head)
        if status != 200:
            return status, None
        logits = json.loads(body)["outputs"][0]["data"]
        return status, max(range(len(logits)), key=logits.__getitem__)

    async def label(self, labels):
        """Labels of answered requests; how many were not taken."""
        body = json.dumps({"labels": [{"id": name, "label": label} for name, label in labels]}).encode()
        status, answer = await self.post(f"/v1/tenants/{self.stream.name}/labels", body)
        return len(json.loads(answer)["refused"]) if status == 200 else len(labels)


class Feed:
    """One tenant's stream."""

    def __init__(self, address, stream, slo_ms):
        self.client, self.stream, self.slo_ms = Client(address, stream), stream, slo_ms
        # By window of the row, whenever its answer comes.
        self.counts = collections.defaultdict(Count)
        self.unlabelled, self.latencies_ms = [], []
        # Of answers that took a quarter of the SLO and more: window, when in it they were due (s), and latency (ms).
        self.slow = []

    async def one(self, window, name, raw, label, begun, due):
        status, best = await self.client.ask(name, raw)
        ms = (time.monotonic() - due) * 1000
        if ms >= self.slo_ms / 4:
            self.slow.append([window, round(due - begun, 1), round(ms)])
        self.counts[window].add(status, ms, best == label, self.slo_ms)
        if status == 200:
            self.latencies_ms.append(ms)
            self.unlabelled.append((window, name, label))

    async def labels(self):
        ready, self.unlabelled = self.unlabelled, []
        if ready:
            refused = await self.client.label([(name, label) for _, name, label in ready])
            last = self.counts[ready[-1][0]]
            last.labels += len(ready) - refused
            last.refused += refused

    async def window(self, window, begun, seconds):
        """A window's rows, evenly: a request is due when it is due, whatever the ones before it do."""
        rows, tasks, labelled = self.stream.of(window), [], begun
        for place, (raw, label) in enumerate(rows):
            due = begun + seconds * (place + 0.5) / len(rows)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            tasks.append(asyncio.create_task(self.one(window, f"{window}-{place}", raw, label, begun, due)))
            if time.monotonic() - labelled >= LABELS_S:
                labelled = time.monotonic()
                tasks.append(asyncio.create_task(self.labels()))
        await asyncio.sleep(max(0.0, begun + seconds - time.monotonic()))
        await asyncio.gather(*tasks)
        await self.labels()

    def percentile_ms(self, share):
        ordered = sorted(self.latencies_ms)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else math.nan


async def all_windows(feeds, windows, seconds, ended):
    """All streams window by window; `ended(window)` is awaited between two, while the next goes on."""
    begun = time.monotonic()

    async def one(feed):
        for window in range(1, windows + 1):
            await feed.window(window, begun + (window - 1) * seconds, seconds)

    async def watch():
        for window in range(1, windows + 1):
            await asyncio.sleep(max(0.0, begun + window * seconds - time.monotonic()))
            await ended(window)

    await asyncio.gather(watch(), *(one(feed) for feed in feeds))
