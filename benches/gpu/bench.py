#!/usr/bin/env python3
"""ResNet-50 through a worker and in PyTorch, in one run: inference and fine-tuning by batch, and what a start is made of.

Needs PyTorch for this Python, `make setup CUDA=1`, and
`cargo build --release -p migrator-worker --bins --examples`. `--device cpu --batches 1,2 --pixels 64` runs anywhere.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

import torch

from resnet50 import resnet50

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CLASSES = 10


def main():
    options = arguments()
    if options.device != "cpu":
        # Before CUDA starts in this process; the worker gets its own.
        os.environ["CUDA_VISIBLE_DEVICES"] = options.device
    with tempfile.TemporaryDirectory() as folder:
        torch.jit.script(resnet50(CLASSES).eval()).save(os.path.join(folder, "model.pt"))
        ours = worker(options, folder)
    theirs = pytorch(options)
    report(options, ours, theirs)


def arguments():
    numbers = lambda text: [int(number) for number in text.split(",")]  # noqa: E731
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default=None, help="cpu, GPU-<uuid> or MIG-<uuid>; the first that nvidia-smi lists")
    parser.add_argument("--batches", type=numbers, default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--train-batches", type=numbers, default=None, help="default: the largest of --batches")
    parser.add_argument("--train-steps", type=int, default=60, help="steps of a fine-tuning")
    parser.add_argument("--executors", type=int, default=2, help="batches in flight in the worker for the concurrent column")
    parser.add_argument("--seconds", type=float, default=3.0, help="of measuring per batch size")
    parser.add_argument("--pixels", type=int, default=224)
    parser.add_argument("--precision", choices=("fp32", "fp16", "bf16"), default="fp32", help="of inference, on a GPU")
    parser.add_argument("--build", default=os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target")) + "/release")
    options = parser.parse_args()
    options.device = options.device or first_gpu()
    options.train_batches = options.train_batches or [max(options.batches)]
    return options


def first_gpu():
    import re

    try:
        listed = subprocess.run(["nvidia-smi", "-L"], stdout=subprocess.PIPE, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        sys.exit("bench: nvidia-smi lists no GPU; --device cpu measures the host")
    found = re.findall(r"\(UUID: (MIG-[^)]+)\)", listed) or re.findall(r"\(UUID: (GPU-[^)]+)\)", listed)
    return found[0] if found else sys.exit("bench: nvidia-smi lists no GPU")


def worker(options, folder):
    inputs = [{"name": "x", "datatype": "FP32", "shape": [3, options.pixels, options.pixels]}]
    spec = {"name": "resnet50", "classes": CLASSES, "max_batch": max(options.batches), "precision": options.precision}
    spec["source"] = {"source": "torchscript", "inputs": inputs}
    wanted = {
        "worker": os.path.join(options.build, "migrator-worker"),
        "device": options.device,
        "spec": spec,
        "folder": folder,
        "batches": options.batches,
        "executors": options.executors,
        "seconds": options.seconds,
        "train_batches": options.train_batches,
        "train_steps": options.train_steps,
    }
    # It sets its own; one of another layout must not leak in.
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    command = [os.path.join(options.build, "examples", "measure"), json.dumps(wanted)]
    return json.loads(subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout)


def pytorch(options):
    """The same work in this process: eager PyTorch, inputs from the host and logits back to it, as a server must."""
    torch.set_num_threads(1)
    start = time.perf_counter()
    device = torch.device("cpu" if options.device == "cpu" else "cuda:0")
    torch.zeros(1, device=device)
    context_ms = (time.perf_counter() - start) * 1e3
    kind = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[options.precision]
    if options.device == "cpu":
        kind = torch.float32
    start = time.perf_counter()
    model = resnet50(CLASSES).eval().to(device, kind)
    build_ms = (time.perf_counter() - start) * 1e3
    inference = [infer(model, batch, device, kind, options) for batch in options.batches]
    model = resnet50(CLASSES).to(device).train()
    training = [train(model, batch, device, options) for batch in options.train_batches]
    return {"context_ms": context_ms, "build_ms": build_ms, "inference": inference, "training": training}


def rows_of(batch, options):
    return torch.rand(batch, 3, options.pixels, options.pixels)


def infer(model, batch, device, kind, options):
    rows = rows_of(batch, options)
    staging = rows.pin_memory() if device.type == "cuda" else rows
    times = []
    with torch.inference_mode():
        begin = time.perf_counter()
        while len(times) < 8 or time.perf_counter() - begin < options.seconds:
            start = time.perf_counter()
            model(staging.to(device, non_blocking=True).to(kind)).float().cpu()
            times.append(time.perf_counter() - start)
    times = sorted(times[4:])
    median = times[len(times) // 2]
    return {"batch": batch, "latency_ms": median * 1e3, "rows_per_s": batch / median}


def train(model, batch, device, options):
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-5)
    rows, labels = rows_of(batch, options), torch.randint(0, CLASSES, (batch,))
    steps = options.train_steps
    for step in range(steps + 4):
        if step == 4:
            start = time.perf_counter()
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(rows.to(device)), labels.to(device))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        loss.item()
    step_ms = (time.perf_counter() - start) * 1e3 / steps
    return {"batch": batch, "step_ms": step_ms, "rows_per_s": batch * 1e3 / step_ms}


def report(options, ours, theirs):
    name = ours["staged"].pop("device", "the host's CPU, one core per batch")
    ours["direct"].pop("device", None)
    print(f"ResNet-50, {options.pixels}x{options.pixels}, {options.precision}, on {name}; PyTorch {torch.__version__}\n")
    print("| batch | worker ms | PyTorch ms | worker rows/s | PyTorch rows/s | worker rows/s, " f"{options.executors} in flight |")
    print("|---|---|---|---|---|---|")
    for a, b in zip(ours["inference"], theirs["inference"]):
        times = f"{a['latency_ms']:.2f} | {b['latency_ms']:.2f}"
        rates = f"{a['rows_per_s']:.1f} | {b['rows_per_s']:.1f} | {a['rows_per_s_concurrent']:.1f}"
        print(f"| {a['batch']} | {times} | {rates} |")
    print("\n| fine-tuning, batch | worker ms/step | PyTorch ms/step | worker rows/s | PyTorch rows/s |\n|---|---|---|---|---|")
    for a, b in zip(ours["training"], theirs["training"]):
        print(f"| {a['batch']} | {a['step_ms']:.1f} | {b['step_ms']:.1f} | {a['rows_per_s']:.1f} | {b['rows_per_s']:.1f} |")
    print("\n| start, ms | loaded, then attached | attached, then loaded |\n|---|---|---|")
    staged, direct = ours["staged"], ours["direct"]
    for part in list(dict.fromkeys([*staged, *direct])):
        unit = " (MiB)" if part == "memory_mib" else ""
        cells = [f"{times[part]:.0f}" if part in times else "" for times in (staged, direct)]
        print(f"| {part.removesuffix('_mib')}{unit} | {cells[0]} | {cells[1]} |")
    print(f"\nPyTorch: context {theirs['context_ms']:.0f} ms, model {theirs['build_ms']:.0f} ms")


if __name__ == "__main__":
    main()
