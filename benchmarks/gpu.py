"""What only a GPU can show, in slices that end by themselves and resume: rows are written as they finish.

    PYTHONPATH=. python benchmarks/gpu.py --data FOLDER --out "$OUT" [--minutes 9] [--rows speed,R16,R4,P250,CU]

FOLDER holds the CIFAR-10 parquet files (../shared/data/cifar10-jpeg). Needs torch, torchvision, pyarrow, pillow, numpy; not
`datasets`. Rows: `speed` (the card's own bfloat16 matrix rate, then victim and crafting speed as a share of it, counted in
useful floating-point operations), and those of reproduction.py under its `paper` protocol, one seed: append OUT/rows.jsonl to
benchmarks/results/reproduction.jsonl, and `reproduction.py table` shows them. A row that is in OUT/rows.jsonl, or in
reproduction.jsonl, is not made again; none is begun that would not end in time, judged by the longest so far.
`--device cpu --images 400 --epochs 1 --rows speed,R16` tries the script without a GPU.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _cifar import World, about
from _rows import BY_NAME
from reproduction import PROTOCOLS, RESULTS, lines, run

from unlearnable import nets
from unlearnable.device import pick
from unlearnable.keys import Key
from unlearnable.poisons import _pgd, _surrogates
from unlearnable.train import Recipe, train
from unlearnable.types import Batch, Context

RESNET18_FLOPS = 2 * 0.5567e9  # one forward pass at 32x32, 3x3 stem: 0.557 G multiply-adds


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


def speed(world: World) -> dict[str, Any]:
    """Victim and crafting throughput of ResNet-18 against the matrix rate."""
    (x, y), device = world.train, world.device
    rate = matmul_rate(device)
    part = min(len(x), 25_000)
    recipe = Recipe(epochs=3, batch=128, schedule="cosine")
    net = nets.create("resnet18", 10, 32, 0)
    marks: list[float] = []
    data = (x[:part].to(device), y[:part].to(device))
    train(net, *data, recipe, seed=0, on_epoch=lambda epoch, history: marks.append(history.seconds))
    victim = part / float(np.median(np.diff([0.0, *marks])[1:]))
    steps, count = 20, min(len(x), 2048 if device.type == "cuda" else 64)
    context = Context(Key.new(), tuple(map(str, range(10))), 8, 32, str(device))
    batch = Batch(tuple(map(str, range(count))), x[:count].to(device), y[:count].to(device))
    (attacked,) = _surrogates.unpack(
        _surrogates.pack([net], "resnet18", context), context
    )  # folded, as a release has it
    descent, wanted = _pgd.Descent(_pgd.toward, steps, 0.05), (batch.labels + 1) % 10
    seconds = []
    for _ in range(4):
        begun = _now(device)
        _pgd.attack([attacked], batch, wanted, descent, context, purpose="speed")
        seconds.append(_now(device) - begun)
    crafting = steps * count / float(np.median(seconds[1:]))
    # crafting needs no gradients for weights: a forward pass and as much again backwards
    share = {"victim": 3 * RESNET18_FLOPS * victim / rate, "crafting": 2 * RESNET18_FLOPS * crafting / rate}
    return {
        "matmul_tflops": rate / 1e12,
        "victim_images_per_s": victim,
        "pgd_image_steps_per_s": crafting,
        "share": share,
        "copies_in_the_step_loop": copies(attacked, batch, descent) if device.type == "cuda" else "not asked: no GPU",
    }


def copies(net: nets.Network, batch: Batch, descent: _pgd.Descent) -> str:
    """ "none", or the first operation of the step loop that made the host wait for the card."""
    start = torch.zeros(batch.images.shape, device=batch.images.device)
    draws = torch.rand((descent.steps, len(batch), 3), device=start.device)
    torch.cuda.set_sync_debug_mode("error")
    try:
        descent.run([net], batch.images, batch.labels, start, 8 / 255, draws)
    except RuntimeError as why:
        return str(why)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return "none"


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", default=",".join(["speed", *BY_NAME]))
    parser.add_argument("--minutes", type=float, default=9)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--epochs", type=int, default=100)
    args = parser.parse_args()
    begun, device = time.monotonic(), pick(args.device)
    paper = PROTOCOLS["paper"]
    protocol = replace(paper, images=args.images, recipe=replace(paper.recipe, epochs=args.epochs))
    world = World.open(args.data, device, args.images, max(100, args.images // 5))
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / "rows.jsonl"
    wanted = args.rows.split(",")
    if "speed" in wanted and not any(line["row"] == "speed" for line in lines(file)):
        found = {"row": "speed", "protocol": "speed", "seed": 0, **speed(world), **about(device)}
        with file.open("a") as out:
            out.write(json.dumps(found) + "\n")
        print(found, flush=True)
    earlier = [line for line in lines(RESULTS / "reproduction.jsonl") if line["protocol"] == "paper"]
    rows = [BY_NAME[name] for name in wanted if name != "speed"]
    if args.images == paper.images:
        rows = [row for row in rows if not (row.known and any(row.made(line) for line in earlier))]
    left = args.minutes - (time.monotonic() - begun) / 60
    run(rows, [0], protocol, world, file, left, None)


if __name__ == "__main__":
    main()
