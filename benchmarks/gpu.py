"""What only a GPU can show, in slices that end by themselves and resume: rows are written as they finish.

    PYTHONPATH=. python benchmarks/gpu.py --data FOLDER --out "$OUT" [--minutes 9] [--rows speed,r16,r4,p250,cu]

FOLDER holds the CIFAR-10 parquet files (../shared/data/cifar10-jpeg). Needs torch, torchvision, pyarrow, pillow, numpy; not
`datasets`. Rows: `speed` (the card's own bfloat16 matrix rate, then victim and crafting speed as a share of it, counted in
useful floating-point operations), and one row a preset: the paper protocol (ResNet-18, 100 epochs, batch 128) on the
protected training set, peak and final beside the published figures, perturbations rounded to whole grey levels as in a
lossless file. A row that is in OUT/rows.jsonl is not made again; no row is begun that would not end in time.
`--device cpu --images 400 --epochs 1 --rows speed,r16` tries the script without a GPU.
"""

from __future__ import annotations

import argparse
import datetime
import io
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image

from unlearnable import budget, craft, nets
from unlearnable.device import describe, pick
from unlearnable.keys import Key
from unlearnable.poisons import _pgd
from unlearnable.surrogate import trainer
from unlearnable.train import PAPER, Recipe, train
from unlearnable.types import Batch, Context

PUBLISHED = {  # peak, final: methods.md 5.1 ("Poisons that are learned faster are more effective", table 1)
    "clean": (None, None), "r4": (0.2451, 0.1145), "r16": (0.2454, 0.2032), "r64": (0.3321, 0.1300),
    "p250": (0.5730, 0.0815), "p100": (0.4502, 0.1159), "su": (0.3377, 0.3283), "cu": (0.3322, 0.1919), "lf4": (0.4859, 0.4859),
}  # fmt: skip
RESNET18_FLOPS = 2 * 0.5567e9  # one forward pass at 32x32, 3x3 stem: 0.557 G multiply-adds


def load(folder: Path, split: str, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, 3, 32, 32) uint8 images and (N,) labels."""
    rows = pq.read_table(next(folder.glob(f"{split}*.parquet"))).slice(0, count).to_pylist()
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB")) for row in rows])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), torch.tensor([row["label"] for row in rows])


def matmul_rate(device: torch.device, side: int = 8192) -> float:
    """Floating-point operations a second of the card's own bfloat16 matrix product on random data, median of 20."""
    side = side if device.type == "cuda" else 512
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    times = []
    for _ in range(23):
        begun = _now(device)
        a @ b
        times.append(_now(device) - begun)
    return 2 * side**3 / float(np.median(times[3:]))


def speed(x: torch.Tensor, y: torch.Tensor, device: torch.device) -> dict[str, Any]:
    """Victim and crafting throughput of ResNet-18 against the matrix rate."""
    rate = matmul_rate(device)
    part = min(len(x), 25_000)
    recipe = Recipe(epochs=3, batch=128, schedule="cosine")
    net = nets.create("resnet18", 10, 32, 0)
    marks: list[float] = []
    data = (x[:part].to(device), y[:part].to(device))
    train(net, *data, recipe, seed=0, on_epoch=lambda epoch, history: marks.append(history.seconds))
    victim = part / float(np.median(np.diff([0.0, *marks])[1:]))
    steps, batch = 20, 512 if device.type == "cuda" else 64
    context = Context(Key.new(), tuple(map(str, range(10))), 8, 32, str(device))
    ids = tuple(map(str, range(batch)))
    descent = _pgd.Descent(_pgd.toward, steps, 0.05)
    arguments = (
        net,
        Batch(ids, x[:batch].to(device), y[:batch].to(device)),
        (y[:batch].to(device) + 1) % 10,
        descent,
        context,
    )
    seconds = []
    for _ in range(4):
        begun = _now(device)
        _pgd.attack(*arguments, purpose="speed", restarts=1, size=batch)
        seconds.append(_now(device) - begun)
    crafting = steps * batch / float(np.median(seconds[1:]))
    share = {"victim": 3 * RESNET18_FLOPS * victim / rate, "crafting": 3 * RESNET18_FLOPS * crafting / rate}
    return {
        "matmul_tflops": rate / 1e12,
        "victim_images_per_s": victim,
        "pgd_image_steps_per_s": crafting,
        "share": share,
    }


def row(preset: str, sets: tuple[torch.Tensor, ...], device: torch.device, epochs: int) -> dict[str, Any]:
    """Protect the training set with a preset and train the paper's victim on it."""
    x, y, xt, yt = sets
    begun = time.monotonic()
    images = x if preset == "clean" else protected(preset, x, y, device)
    crafted = time.monotonic() - begun
    recipe = replace(PAPER, epochs=epochs)
    test = (xt.to(device), yt.to(device))
    history = train(nets.create("resnet18", 10, 32, 0), images.to(device), y.to(device), recipe, seed=0, test=test)
    published = dict(zip(("published_peak", "published_final"), PUBLISHED[preset], strict=True))
    half = history.epochs_to(0.5)
    found = {
        "peak": history.peak,
        "final": history.final,
        "peak_epoch": int(np.argmax(history.accuracy)) + 1,
        "half": half,
    }
    return {**found, **published, "crafting_seconds": crafted, "training_seconds": history.seconds, "epochs": epochs}


def protected(preset: str, x: torch.Tensor, y: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The training set as a lossless release would decode; surrogates stop early on its last twentieth."""
    key = Key.new()
    names = tuple(map(str, range(10)))
    tail = len(x) // 20
    surrogates = trainer((x[-tail:], y[-tail:]), 10, seed=key.seed("surrogate"), device=device, tell=print)
    context = Context(key, names, 8, 32, str(device), surrogates)
    method = craft.resolve(None, preset, {})
    ids = tuple(f"train/{i}" for i in range(len(x)))
    crafter = craft.fit(method, Batch(ids[:-tail], x[:-tail], y[:-tail]) if method.trains else None, context)
    out = torch.empty_like(x)
    for part in torch.split(torch.arange(len(x)), 2048):
        deltas = crafter.on(tuple(ids[i] for i in part), x[part], y[part])
        for i, delta in zip(part.tolist(), deltas, strict=True):
            clean = x[i].permute(1, 2, 0).numpy()
            out[i] = torch.from_numpy(budget.add(clean, budget.to_levels(delta, clean, 8))).permute(2, 0, 1)
    return out


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", default="speed,r16,r4,clean,cu,p250,lf4,r64,su,p100")
    parser.add_argument("--minutes", type=float, default=9)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--epochs", type=int, default=100)
    args = parser.parse_args()
    device, begun, longest = pick(args.device), time.monotonic(), 0.0
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / "rows.jsonl"
    done = {json.loads(line)["row"] for line in file.read_text().splitlines()} if file.exists() else set()
    sets = (*load(args.data, "train", args.images), *load(args.data, "test", max(100, args.images // 5)))
    for name in [name for name in args.rows.split(",") if name not in done]:
        if time.monotonic() - begun + longest > args.minutes * 60:
            print(f"{name}: left for the next slice")
            continue
        started = time.monotonic()
        found = speed(sets[0], sets[1], device) if name == "speed" else row(name, sets, device, args.epochs)
        longest = max(longest, time.monotonic() - started)
        about = {
            "row": name,
            "date": datetime.date.today().isoformat(),
            "hardware": describe(device),
            "torch": torch.__version__,
        }
        with file.open("a") as out:
            out.write(json.dumps(about | {"images": args.images, "seed": 0} | found) + "\n")
        print(name, found, flush=True)


if __name__ == "__main__":
    main()
