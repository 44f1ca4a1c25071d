"""The streams, read from where the data lies: none of them is a part of this project. Built as `runtime/worker/benches/learn` builds them."""

import dataclasses
import json
import os
import random
import re
import sqlite3
import struct
import subprocess
import tempfile
import zipfile

# Where a CIFAR-10 picture is one of these, class 0 first.
PICTURES = "airplane,automobile,bird,cat,deer,dog,frog,horse,ship,truck"


class Missing(Exception):
    """A file of the data is not there."""


@dataclasses.dataclass
class Stream:
    """One tenant: its samples in the order of time, and the model that answers them."""

    name: str
    title: str
    classes: int
    # As in [tenants.model] source.
    architecture: str
    # Of one row; empty = a text.
    shape: tuple
    train: dict
    # Rows of a window.
    chunk: int
    # Raw features as the inference protocol has them, and the label.
    rows: list

    def of(self, window):
        """The rows of a window; 0 is what the first version is trained on."""
        return self.rows[window * self.chunk : (window + 1) * self.chunk]

    def write(self, folder, window):
        """The rows of a window as a file that `migrator models train` reads."""
        rows = self.of(window)
        if not self.shape:
            path = os.path.join(folder, f"{self.name}.tsv")
            with open(path, "wb") as file:
                file.writelines(b"%d\t%s\n" % (label, raw[4:]) for raw, label in rows)
            return path
        path = os.path.join(folder, f"{self.name}.safetensors")
        x, y = b"".join(raw for raw, _ in rows), struct.pack(f"<{len(rows)}q", *(label for _, label in rows))
        head = {
            "x": {"dtype": "F32", "shape": [len(rows), *self.shape], "data_offsets": [0, len(x)]},
            "y": {"dtype": "I64", "shape": [len(rows)], "data_offsets": [len(x), len(x) + len(y)]},
        }
        head = json.dumps(head).encode()
        with open(path, "wb") as file:
            file.write(struct.pack("<Q", len(head)) + head + x + y)
        return path


def every(data, binary, windows, seed):
    """All streams, for so many windows after the first: smaller ones where a stream would end before the last."""
    sets = os.path.join(data, "datasets")
    chunks = lambda most: lambda rows: min(most, len(rows) // (windows + 1))
    drifting = [electricity(sets, chunks(600)), keystroke(sets, chunks(140)), occupancy(sets, chunks(500))]
    # Whose classes arrive.
    return [*drifting, digits(sets, chunks(280), seed), news(sets, chunks(100), seed), pictures(sets, binary, chunks(300), seed)]


def opened(*path):
    path = os.path.join(*path)
    if not os.path.isfile(path):
        raise Missing(f"{path} is missing: give the folder of the data by --data or MIGRATOR_DATA")
    return path


def table(path, separator=None, skip=0):
    with open(path) as file:
        return [line.strip().split(separator) for line in file.readlines()[skip:] if line.strip()]


def raw(values):
    return struct.pack(f"<{len(values)}f", *values)


def scaled(rows, chunk):
    """Scaled by mean and deviation of the first window, as whoever feeds a model would."""
    columns = []
    for values in zip(*(values for values, _ in rows[:chunk])):
        mean = sum(values) / chunk
        columns.append((mean, max(1e-3, (sum((v - mean) ** 2 for v in values) / chunk) ** 0.5)))
    scale = lambda values: [max(-10.0, min(10.0, (v - mean) / sd)) for v, (mean, sd) in zip(values, columns)]
    return [(raw(scale(values)), label) for values, label in rows]


def labelled(folder, data, labels):
    """Rows of two tables: features, and beside them labels that may be written as floats."""
    values, classes = table(opened(folder, data)), table(opened(folder, labels))
    return [([float(v) for v in row], int(float(label[0]))) for row, label in zip(values, classes)]


def electricity(sets, chunks):
    rows = labelled(os.path.join(sets, "drift_elec2"), "elec2_data.dat", "elec2_label.dat")
    chunk = chunks(rows)
    mlp = '{ kind = "mlp", features = 8, hidden = [64, 64] }'
    return Stream("electricity", "electricity", 2, mlp, (8,), {"epochs": 8, "learning_rate": 3e-3}, chunk, scaled(rows, chunk))


def keystroke(sets, chunks):
    rows = labelled(os.path.join(sets, "drift_keystroke"), "keystroke.data", "keystroke.labels")
    chunk = chunks(rows)
    mlp = '{ kind = "mlp", features = 10, hidden = [32] }'
    return Stream("keystroke", "keystroke", 4, mlp, (10,), {"epochs": 20, "learning_rate": 1e-2}, chunk, scaled(rows, chunk))


def occupancy(sets, chunks):
    rows = []
    for name in ("datatest.txt", "datatraining.txt", "datatest2.txt"):
        for cells in table(opened(sets, "uci_occupancy", name), ",", 1):
            *values, label = (float(cell.strip('"')) for cell in cells[2:])
            rows.append((values, int(label)))
    chunk = chunks(rows)
    mlp = '{ kind = "mlp", features = 5, hidden = [32] }'
    return Stream("occupancy", "occupancy", 2, mlp, (5,), {"epochs": 10, "learning_rate": 3e-3}, chunk, scaled(rows, chunk))


def arriving(rows, classes, first, more, chunk, seed):
    """Classes appear: `first` at the start, `more` with each window."""
    pools = [[row for row in rows if row[1] == one] for one in range(classes)]
    out, known, dice = [], first, random.Random(seed)
    while True:
        window = []
        for turn in range(chunk):
            free = [pool for pool in pools[:known] if pool]
            if not free:
                return out
            window.append(free[turn % len(free)].pop())
        dice.shuffle(window)
        out += window
        known += more


def digits(sets, chunks, seed):
    rows = []
    for name in ("optdigits.tra", "optdigits.tes"):
        for cells in table(opened(sets, "uci_optdigits", name), ",", 1):
            *values, label = (int(cell) for cell in cells)
            rows.append((raw([v / 16 for v in values]), label))
    chunk, mlp = chunks(rows), '{ kind = "mlp", features = 64, hidden = [64] }'
    rows = arriving(rows, 10, 4, 2, chunk, seed)
    return Stream("optdigits", "optdigits, classes arrive", 10, mlp, (64,), {"epochs": 10, "learning_rate": 3e-3}, chunk, rows)


def news(sets, chunks, seed):
    rows, known = [], {}
    with zipfile.ZipFile(opened(sets, "mini_20newsgroups", "mini_newsgroups_dev.zip")) as archive:
        for name in sorted(name for name in archive.namelist() if not name.endswith("/")):
            label = known.setdefault(name.split("/")[-2], len(known))
            # On one line, as the file for `models train` has it, so that it is the same text everywhere.
            text = re.sub(r"\s+", " ", archive.read(name).decode("utf-8", "replace")[:4000]).strip().encode()
            rows.append((struct.pack("<I", len(text)) + text, label))
    chunk = chunks(rows)
    texts = '{ kind = "text_classifier", vocabulary = 8000, max_tokens = 400, embedding = 64 }'
    rows = arriving(rows, 20, 8, 4, chunk, seed)
    return Stream("newsgroups", "20 Newsgroups, classes arrive", 20, texts, (), {"epochs": 12, "learning_rate": 1e-2}, chunk, rows)


def pictures(sets, binary, chunks, seed):
    """Train and test pictures, decoded by `migrator data import` into a store that is read back."""
    archives = [opened(sets, "cifar10_jpg", f"cifar10_dev_{part}.zip") for part in ("train", "test")]
    cnn = '{ kind = "cnn", input = [3, 32, 32], width = 16 }'
    with tempfile.TemporaryDirectory() as folder:
        config = os.path.join(folder, "config.toml")
        with open(config, "w") as file:
            file.write(f'[[tenants]]\nname = "cifar"\nslo_ms = 200\nmodel = {{ name = "cifar", classes = 10, max_batch = 1, ')
            file.write(f'source = {{ source = "architecture", architecture = {cnn} }} }}\n')
        for path in archives:
            with zipfile.ZipFile(path) as archive:
                archive.extractall(os.path.join(folder, "pictures"))
        for part in ("train", "test"):
            command = [binary, "--log", "error", "data", "import", "--config", config, "--state-dir", folder, "--tenant", "cifar"]
            command += ["--classes", PICTURES, os.path.join(folder, "pictures", part)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        store = sqlite3.connect(os.path.join(folder, "samples.sqlite"))
        rows = store.execute("SELECT blob.features, label FROM sample JOIN blob ON blob.id = sample.blob ORDER BY sample.id").fetchall()
        store.close()
    chunk = chunks(rows)
    # The store has them class by class and folder by folder; popped from the end, the two folders would come one after the other.
    random.Random(seed).shuffle(rows)
    rows = arriving(rows, 10, 4, 2, chunk, seed)
    return Stream("cifar", "CIFAR-10, classes arrive", 10, cnn, (3, 32, 32), {"epochs": 10, "learning_rate": 2e-3}, chunk, rows)
