"""Tables of what a run came to."""


def total(run, name, key):
    """Sum of a count of a tenant over the windows."""
    return sum(window["tenants"][name][key] for window in run["windows"])


def accuracy(run, name):
    """Of all answered rows."""
    return total(run, name, "correct") / max(1, total(run, name, "answered"))


def cost(run, name):
    """Core seconds of retrainings, microprofiles included."""
    return total(run, name, "core_s") + profiles(run, name)


def profiles(run, name):
    return total(run, name, "profile_core_ms") / 1000


def share(part, whole, digits=0):
    return f"{100 * part / whole:.{digits}f} %" if whole else "–"


def row(stream, runs):
    name = stream["name"]
    cells = [stream["title"], str(stream["rows"])]
    cells += [f"{accuracy(runs[mode], name):.3f}" if mode in runs else "–" for mode in ("never", "always", "chosen")]
    if "always" in runs and "chosen" in runs:
        always, chosen = runs["always"], runs["chosen"]
        cells.append(share(accuracy(chosen, name), accuracy(always, name), 1))
        cells += [f"{cost(always, name):.2f}", f"{cost(chosen, name):.2f}", f"{profiles(chosen, name):.2f}"]
        cells.append(share(cost(chosen, name), cost(always, name)))
    return "| " + " | ".join(cells) + " |"


def whole(streams, runs):
    """All streams: the mean of their accuracies, the sum of their costs."""
    names = [stream["name"] for stream in streams]
    mean = lambda mode: sum(accuracy(runs[mode], name) for name in names) / len(names)
    spent = lambda mode: sum(cost(runs[mode], name) for name in names)
    cells = ["mean, sum", ""] + [f"{mean(mode):.3f}" if mode in runs else "–" for mode in ("never", "always", "chosen")]
    if "always" in runs and "chosen" in runs:
        tried = sum(profiles(runs["chosen"], name) for name in names)
        cells += [share(mean("chosen"), mean("always"), 1), f"{spent('always'):.2f}", f"{spent('chosen'):.2f}", f"{tried:.2f}"]
        cells.append(share(spent("chosen"), spent("always")))
    return "| " + " | ".join(cells) + " |"


def happened(streams, run, mode):
    """Per tenant: requests, on time, retrainings and what became of them."""
    for stream in streams:
        name = stream["name"]
        of = lambda key: total(run, name, key)
        p50, p99 = run["latency_ms"][name]
        cells = [mode, stream["title"], f"{of('sent')}", share(of("answered"), of("sent"), 2), share(of("on_time"), of("sent"), 2)]
        cells += [f"{p50:.1f}, {p99:.1f}", share(of("good"), of("sent"), 1)]
        cells += [f"{of(key):.0f}" for key in ("retrainings", "published", "not_worth", "superseded", "failed", "rollbacks", "refused")]
        yield "| " + " | ".join(cells) + " |"


def text(results):
    streams, runs = results["streams"], results["runs"]
    head = ["stream", "rows a window", "never", "always", "chosen", "of always", "core s always", "core s chosen", "of it microprofiles"]
    lines = ["| " + " | ".join([*head, "cost"]) + " |", "|---" * 10 + "|"]
    lines += [row(stream, runs) for stream in streams] + [whole(streams, runs), ""]
    head = ["mode", "stream", "requests", "answered", "on time", "p50, p99 ms", "good", "retrainings", "published", "not worth", "superseded"]
    lines += ["| " + " | ".join([*head, "failed", "rollbacks", "labels refused"]) + " |", "|---" * 14 + "|"]
    for mode, run in runs.items():
        lines += happened(streams, run, mode)
    lines.append("")
    for mode, run in runs.items():
        note = f"{run['workers']} workers started, {run['reconfigurations']:.0f} reconfigurations, {run['violations']:.0f} invariant violations"
        lines.append(f"{mode}: {run['cpu_s']:.1f} CPU s of the server and its workers, {note}")
    return "\n".join(lines) + "\n"
