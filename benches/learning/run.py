#!/usr/bin/env python3
"""What retraining, and the planner's choice of it, are worth on a live server: real streams, one tenant each, all at once.

    run.py --binary target/release/migrator [--data ../shared/data] [--windows 10] [--window-s 30] [--out FOLDER]

The same rows in the same order, three times: without retraining, with retraining in every window, and as the planner chooses. Each row
is a request at its moment; its answer is compared with its label here, and the label is posted after it. Writes FOLDER/table.md,
results.json, learning.svg, and the logs. Standard library only.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time

import drive
import plot
import report
import server
import streams

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
# `/v1` shows the last 32 retrainings.
MOST_WINDOWS = 31
COUNTERS = {
    "profile_core_ms": ("migrator_microprofile_core_milliseconds_total", ""),
    "published": ("migrator_retrainings_total", 'result="published"'),
    "kept": ("migrator_retrainings_total", 'result="kept"'),
    "not_worth": ("migrator_retrainings_total", 'result="not_worth"'),
    "failed": ("migrator_retrainings_total", 'result="failed"'),
    "rollbacks": ("migrator_rollbacks_total", ""),
}


class Watch:
    """What the server says between windows, and how its retrainings change in between."""

    def __init__(self, running, names):
        self.running, self.names = running, names
        self.begun, self.states, self.declined, self.marks = time.monotonic(), [], [], []

    def mark(self):
        """Counters since the start, by tenant."""
        metrics, (tenants, window) = self.running.metrics(), self.running.tenants()
        of = lambda name: {key: server.of(metrics, series, name, label) for key, (series, label) in COUNTERS.items()}
        found = {name: of(name) for name in self.names}
        for name in self.names:
            found[name]["core_s"] = sum(one["core_s"] for one in tenants[name]["windows"])
            # Versions that were taken back are among the results, and among the published.
            found[name]["retrainings"] = len(tenants[name]["windows"]) - found[name]["rollbacks"]
            found[name]["published"] -= found[name]["rollbacks"]
            # Those that waited for an instance until the next window.
            found[name]["superseded"] = self.running.logged(f"retraining discarded tenant={name} ", "reason=superseded")
        wrong = sum(value for series, value in metrics.items() if series.startswith("migrator_invariant_violations_total"))
        moved = sum(value for series, value in metrics.items() if series.startswith("migrator_reconfigurations_total"))
        spent = {"cpu_s": self.running.cpu_s(), "workers": self.running.logged("worker is up")}
        return {"tenants": found, **spent, "violations": wrong, "reconfigurations": moved, "window": window}

    async def follow(self):
        """Notes each change of what a retraining does; ends by being cancelled."""
        last, refusals = {}, None
        while True:
            declined = await asyncio.to_thread(self.refusals)
            if declined != refusals:
                refusals = declined
                self.declined.append([round(time.monotonic() - self.begun, 1), *declined])
            tenants, window = await asyncio.to_thread(self.running.tenants)
            for name in self.names:
                text = tenants[name]["retraining"]
                if last.get(name) != text:
                    last[name] = text
                    self.states.append([round(time.monotonic() - self.begun, 1), window["number"], name, tenants[name]["version"], text])
            await asyncio.sleep(0.5)

    def refusals(self):
        """What the last plan does not do, and why."""
        _, _, rest = self.running.read("http", "/v1/plan?format=text").partition("What is not done and why\n")
        return [line.strip(" -") for line in rest.partition("\n\n")[0].splitlines()]

    async def next_window(self):
        """Waits for the server's next window to begin."""
        number = (await asyncio.to_thread(self.running.tenants))[1]["number"]
        while (await asyncio.to_thread(self.running.tenants))[1]["number"] == number:
            await asyncio.sleep(0.05)


async def one_run(running, every, mode, options):
    feeds = [drive.Feed(running.addresses["http"], stream, server.SLO_MS) for stream in every]
    watch = Watch(running, [stream.name for stream in every])
    follow = asyncio.create_task(watch.follow())
    await watch.next_window()
    watch.begun = time.monotonic()
    watch.marks.append(await asyncio.to_thread(watch.mark))

    async def ended(window):
        watch.marks.append(await asyncio.to_thread(watch.mark))
        shares = [(feed.counts[window].correct / max(1, feed.counts[window].answered), feed.stream.name) for feed in feeds]
        text = ", ".join(f"{name} {share:.2f}" for share, name in shares)
        print(f"{mode} {window}/{options.windows}: {text}", file=sys.stderr, flush=True)

    await drive.all_windows(feeds, options.windows, options.window_s, ended)
    follow.cancel()
    tenants = await asyncio.to_thread(running.tenants)
    return {
        "windows": [collect(watch.marks, feeds, window) for window in range(1, options.windows + 1)],
        "latency_ms": {feed.stream.name: [feed.percentile_ms(share) for share in (0.5, 0.99)] for feed in feeds},
        "slow": {feed.stream.name: feed.slow for feed in feeds},
        **{key: watch.marks[-1][key] - watch.marks[0][key] for key in ("cpu_s", "workers", "reconfigurations")},
        "violations": watch.marks[-1]["violations"],
        "states": watch.states,
        "declined": watch.declined,
        "history": {name: tenant["windows"] for name, tenant in tenants[0].items()},
    }


def collect(marks, feeds, window):
    """A window of every tenant: what the client counted, and by how much the server's counters rose."""
    before, after = marks[window - 1]["tenants"], marks[window]["tenants"]
    rose = lambda name: {key: after[name][key] - before[name][key] for key in after[name]}
    tenants = {feed.stream.name: {**feed.counts[window].plain(), **rose(feed.stream.name)} for feed in feeds}
    return {"server_window": marks[window]["window"], "tenants": tenants}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--data", default=os.environ.get("MIGRATOR_DATA", os.path.join(ROOT, "..", "shared", "data")))
    parser.add_argument("--windows", type=int, default=10, help="after the first, which the first versions are trained on")
    parser.add_argument("--window-s", type=float, default=30)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="more of [retraining]; may be given again")
    parser.add_argument("--dwell-s", type=float, default=1, help="planner.dwell_s")
    parser.add_argument("--reserved-cores", type=float, default=0.5)
    parser.add_argument("--modes", default="never,always,chosen")
    parser.add_argument("--streams", help="names of those to take, by commas; all when left out")
    parser.add_argument("--out", default="learning")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    options.modes, options.binary = options.modes.split(","), os.path.abspath(options.binary)
    unknown = [mode for mode in options.modes if mode not in server.MODES]
    if unknown:
        parser.error(f"--modes: {unknown[0]}: must be of {', '.join(server.MODES)}")
    if not 1 <= options.windows <= MOST_WINDOWS or options.window_s < 5:
        parser.error(f"1 to {MOST_WINDOWS} windows of at least 5 s")
    if not os.path.isfile(options.binary):
        parser.error(f"--binary: {options.binary} is missing")
    return options


def measure(options):
    every = streams.every(options.data, options.binary, options.windows, options.seed)
    wanted = options.streams.split(",") if options.streams else [stream.name for stream in every]
    unknown = set(wanted) - {stream.name for stream in every}
    if unknown:
        raise streams.Missing(f"--streams: {', '.join(sorted(unknown))}: must be of {', '.join(stream.name for stream in every)}")
    every = [stream for stream in every if stream.name in wanted]
    os.makedirs(options.out, exist_ok=True)
    runs = {}
    with tempfile.TemporaryDirectory() as folder:
        first = server.prepare(every, options, folder)
        for mode in options.modes:
            with server.Server(every, mode, options, first, folder) as running:
                runs[mode] = asyncio.run(one_run(running, every, mode, options))
    described = [{"name": s.name, "title": s.title, "rows": s.chunk, "architecture": s.architecture, "train": s.train} for s in every]
    settings = {"windows": options.windows, "window_s": options.window_s, "dwell_s": options.dwell_s, "set": options.set, "seed": options.seed}
    return {"settings": settings, "streams": described, "runs": runs}


def main():
    options = arguments()
    try:
        results = measure(options)
    except (streams.Missing, server.Failed) as error:
        sys.exit(f"learning: {error}")
    with open(os.path.join(options.out, "results.json"), "w") as file:
        json.dump(results, file, indent=1)
    text = report.text(results)
    with open(os.path.join(options.out, "table.md"), "w") as file:
        file.write(text)
    plot.write(os.path.join(options.out, "learning.svg"), results)
    print(text)


if __name__ == "__main__":
    main()
