"""Accuracy by window and retraining seconds spent, a panel for each stream, as SVG."""

import html

# Okabe and Ito's colours, which the colour-blind tell apart.
COLOURS = {"never": "#000000", "always": "#0072B2", "chosen": "#D55E00"}
NAMES = {"never": "without retraining", "always": "every window", "chosen": "the planner's choice"}
COLUMNS = 3
PANEL_W, PANEL_H = 330, 290
LEFT, TOP, ACROSS, ACCURACY_H, COST_H, BETWEEN = 46, 34, 270, 128, 62, 22
HEAD = 64


def text(x, y, words, size=11, anchor="start", colour="#333", more=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{colour}"{more}>{html.escape(words)}</text>'


def line(points, colour, dash=""):
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.8"{dash}/>'


class Panel:
    """One stream."""

    def __init__(self, stream, runs, x, y):
        self.stream, self.runs, self.left, self.top = stream, runs, x + LEFT, y + TOP
        self.windows = len(next(iter(runs.values()))["windows"])
        self.out = [text(self.left, y + 22, stream["title"], 13, more=' font-weight="bold"')]

    def of(self, mode):
        return [window["tenants"][self.stream["name"]] for window in self.runs[mode]["windows"]]

    def x(self, window):
        return self.left + ACROSS * window / self.windows

    def scale(self, top, height, low, high, step):
        """A function from values to y, with grid lines and their values drawn."""
        y = lambda value: top + height - height * (value - low) / (high - low)
        ticks = int(round((high - low) / step))
        for tick in range(ticks + 1):
            value = low + tick * step
            self.out.append(f'<path d="M{self.left} {y(value):.1f}h{ACROSS}" stroke="#ddd"/>')
            self.out.append(text(self.left - 5, y(value) + 4, f"{value:.{0 if step >= 1 else 1 if step >= 0.1 else 2}f}", 10, "end"))
        return y

    def accuracy(self):
        shares = {mode: [one["correct"] / max(1, one["answered"]) for one in self.of(mode)] for mode in self.runs}
        low = min(share for one in shares.values() for share in one)
        low = max(0.0, int(low * 5) / 5)
        y = self.scale(self.top, ACCURACY_H, low, 1.0, 0.2 if low < 0.6 else 0.1)
        for mode, of in shares.items():
            points = [(self.x(window + 0.5), y(share)) for window, share in enumerate(of)]
            self.out.append(line(points, COLOURS[mode], ' stroke-dasharray="4 3"' if mode == "never" else ""))
            swapped = [point for point, one in zip(points, self.of(mode)) if one["published"] and mode != "never"]
            self.out += [f'<circle cx="{px:.1f}" cy="{py:.1f}" r="2.6" fill="{COLOURS[mode]}"/>' for px, py in swapped]

    def cost(self):
        sums = {}
        for mode in [mode for mode in self.runs if mode != "never"]:
            spent, sums[mode] = 0.0, [0.0]
            for one in self.of(mode):
                spent += one["core_s"] + one["profile_core_ms"] / 1000
                sums[mode].append(spent)
        most = max((one[-1] for one in sums.values()), default=0.0) or 1.0
        step = next(step for step in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 1000) if most / step <= 4)
        top = self.top + ACCURACY_H + BETWEEN
        y = self.scale(top, COST_H, 0.0, step * -(-most // step), step)
        for mode, of in sums.items():
            self.out.append(line([(self.x(window), y(spent)) for window, spent in enumerate(of)], COLOURS[mode]))
        every = max(1, self.windows // 6)
        for window in range(0, self.windows, every):
            self.out.append(text(self.x(window + 0.5), top + COST_H + 14, str(window + 1), 10, "middle"))
        self.out.append(text(self.left + ACROSS / 2, top + COST_H + 28, "window", 10, "middle"))
        for words, middle in (("accuracy", self.top + ACCURACY_H / 2), ("core s, sum", top + COST_H / 2)):
            at = f' transform="rotate(-90 {self.left - 34} {middle:.1f})"'
            self.out.append(text(self.left - 34, middle, words, 10, "middle", more=at))

    def draw(self):
        self.accuracy()
        self.cost()
        return self.out


def write(path, results):
    streams, runs, settings = results["streams"], results["runs"], results["settings"]
    rows = -(-len(streams) // COLUMNS)
    width, height = PANEL_W * min(COLUMNS, len(streams)), HEAD + PANEL_H * rows
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" font-family="sans-serif">']
    out.append('<rect width="100%" height="100%" fill="white"/>')
    title = f"Accuracy of the answers and what retraining cost, one live server, windows of {settings['window_s']:g} s"
    out.append(text(14, 24, title, 15, more=' font-weight="bold"'))
    x = 14
    for mode in runs:
        dash = ' stroke-dasharray="4 3"' if mode == "never" else ""
        out += [line([(x, 44), (x + 26, 44)], COLOURS[mode], dash), text(x + 32, 48, NAMES[mode], 12)]
        x += 60 + 7 * len(NAMES[mode])
    out.append(text(x, 48, "● a new version went into service", 12))
    for place, stream in enumerate(streams):
        out += Panel(stream, runs, place % COLUMNS * PANEL_W, HEAD + place // COLUMNS * PANEL_H).draw()
    with open(path, "w") as file:
        file.write("\n".join([*out, "</svg>\n"]))
