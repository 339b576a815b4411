"""Published poisons beside ours: peak and final accuracy, learning speed and transferability on CIFAR-10 (its JPEG copy).

    python benchmarks/reproduction.py run [--protocol miniature] [--rows R4,R16] [--seeds 0,1] [--keep FOLDER] [--minutes M]
    python benchmarks/reproduction.py table        writes benchmarks/results/reproduction.md and .json

`run` adds a line of benchmarks/results/reproduction.jsonl (or --out) for every row and seed as soon as it is there, and makes
none twice, unless its parameters changed: stop it when you like. Rows and published figures are in _rows.py; a row whose
method does not exist is skipped.

`paper` (a GPU): 50,000 images, ResNet-18, 100 epochs, batch 128, learning rate 0.1 falling tenfold at 50; the poisons as
published. `miniature` (a CPU): 10,000 images, the `tiny` network, the same recipe in 12 epochs with the fall at 6, tested on
2,000 images, poisons crafted on the same network and `reduced` where a row would take over half an hour. Its accuracies
are those of a weak victim with few images; its order of the poisons is what can be compared. Closed-form poisons are drawn
anew for every seed; crafted ones are crafted once, and the seeds are those of the victim. Two more protocols look into why
the miniature differs: `miniature-small` shows the images of its reduced rows to a network that they were not crafted on, and
`miniature-long` trains for 60 epochs on some that 12 are too few for.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _cifar import CLASSES, DATA, World, about, protected
from _rows import BY_NAME, MINI_NET, ROWS, Row, collisions, rows_of
from _table import write
from torch import Tensor

from unlearnable import craft, nets
from unlearnable.device import pick
from unlearnable.surrogate import trainer
from unlearnable.train import PAPER, Recipe, accuracy, train
from unlearnable.types import Batch

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Protocol:
    """How victims are trained, and which networks trained on clean images are shown the poisoned ones."""

    name: str
    net: str
    recipe: Recipe
    images: int
    test: int
    judges: tuple[str, ...]


JUDGES = ("resnet18", "vgg19_bn", "mobilenet_v2", "googlenet")  # of the paper's table 2
PROTOCOLS = {
    "miniature": Protocol("miniature", MINI_NET, replace(PAPER, epochs=12), 10_000, 2_000, (MINI_NET, "small")),
    "miniature-small": Protocol("miniature-small", "small", replace(PAPER, epochs=12), 10_000, 2_000, ()),
    "miniature-long": Protocol("miniature-long", MINI_NET, replace(PAPER, epochs=60), 10_000, 2_000, ()),
    "paper": Protocol("paper", "resnet18", PAPER, 50_000, 10_000, JUDGES),
}


def measure(
    row: Row, seed: int, protocol: Protocol, world: World, keep: Path | None = None, tell: Callable[[str], None] = print
) -> dict[str, Any]:
    """One line of the results: the row's poison on the training set, and a victim of it."""
    images, crafting, method = poisoned(row, seed, protocol, world, keep, tell)
    net = nets.create(protocol.net, len(CLASSES), images.shape[-1], seed)
    data = (images.to(world.device), world.train[1].to(world.device))
    test = (world.test[0].to(world.device), world.test[1].to(world.device))
    history = train(net, *data, protocol.recipe, seed=seed, test=test)
    paper = protocol.name == "paper"
    return {
        "row": row.name,
        "protocol": protocol.name,
        "seed": seed,
        "preset": row.preset,
        "overrides": row.overrides(protocol.name),
        "reduced": row.reduced_paper if paper else row.reduced,
        "peak": history.peak,
        "final": history.final,
        "peak_epoch": int(np.argmax(history.accuracy)) + 1,
        "half_loss_epoch": history.epochs_to(0.5),
        "misread": misread(images, protocol, world, tell) if row.transfer and protocol.judges else None,
        "crafting_seconds": crafting,
        "training_seconds": history.seconds,
        "accuracy": history.accuracy,
        "train_loss": history.train_loss,
        "images": len(images),
        "epochs": protocol.recipe.epochs,
        "victim": protocol.net,
        "crafted_on": method.surrogate if method else None,
        **about(world.device),
    }


def poisoned(
    row: Row, seed: int, protocol: Protocol, world: World, keep: Path | None, tell: Callable[[str], None]
) -> tuple[Tensor, float | None, craft.Method | None]:
    """(N, 3, 32, 32) uint8 training images, the seconds they took to make (None for clean), and the method."""
    if row.preset == "clean":
        return world.train[0], None, None
    method = row.method(protocol.name)
    draw = 0 if method.trains else seed
    family = protocol.name.partition("-")[0]  # miniatures share what was crafted
    about_it = f"{family} {row.preset} {row.overrides(protocol.name)} {row.levels} {draw} {len(world.train[0])}"
    kept = keep / f"{row.name}-{hashlib.sha256(about_it.encode()).hexdigest()[:12]}.pt" if keep else None
    if kept and kept.exists():
        images, seconds = torch.load(kept, weights_only=True)
        return images, seconds, method
    fit = collisions if row.name == "R1" else craft.fit
    images, seconds = protected(method, world, draw, levels=row.levels, fit=fit, tell=tell)
    if kept and method.trains:
        kept.parent.mkdir(parents=True, exist_ok=True)
        torch.save((images, seconds), kept)
    return images, seconds, method


def misread(images: Tensor, protocol: Protocol, world: World, tell: Callable[[str], None]) -> dict[str, float]:
    """Share of the poisoned images that each network, trained on the clean ones, does not read as their class."""
    judges = trainer(world.held_out, len(CLASSES), device=world.device, tell=tell)
    clean = Batch(tuple(map(str, range(len(images)))), *world.train)
    out = {}
    for name in protocol.judges:
        (judge,), _ = judges(clean, name, number=7)  # no surrogate has this seed
        out[name] = 1 - accuracy(judge, images.to(world.device), world.train[1].to(world.device))
    return out


def run(
    rows: list[Row], seeds: list[int], protocol: Protocol, world: World, out: Path, minutes: float, keep: Path | None
) -> None:
    """Every row for the first seed, then for the next, until the minutes are up; a line of `out` for each."""
    begun, longest = time.monotonic(), 0.0
    made = [line for line in lines(out) if line["protocol"] == protocol.name]
    for seed in seeds:
        for row in rows:
            if not row.known:
                print(f"{row.name}: there is no preset {row.preset} yet; skipped", flush=True)
                continue
            if any(line["seed"] == seed and row.made(line) for line in made):
                continue
            if time.monotonic() - begun + longest > minutes * 60:
                print(f"{row.name}, seed {seed}: left for another run", flush=True)
                continue
            started = time.monotonic()
            found = measure(row, seed, protocol, world, keep, lambda text: print("   ", text, flush=True))
            longest = max(longest, time.monotonic() - started)
            out.parent.mkdir(parents=True, exist_ok=True)
            with out.open("a") as file:
                file.write(json.dumps(found) + "\n")
            words = f"peak {found['peak']:.3f} in epoch {found['peak_epoch']}, final {found['final']:.3f}"
            print(f"{row.name}, seed {seed}: {words}, {time.monotonic() - started:.0f} s", flush=True)


def lines(file: Path) -> list[dict[str, Any]]:
    """The results so far."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["run", "table"])
    parser.add_argument("--protocol", choices=list(PROTOCOLS), default=None, help="paper where there is a GPU")
    parser.add_argument("--rows", default=None, help="those of the protocol")
    parser.add_argument("--seeds", default=None, help="0,1 in the miniature, else 0")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--out", type=Path, default=RESULTS / "reproduction.jsonl")
    parser.add_argument(
        "--keep", type=Path, default=None, help="folder for crafted images, 30 MB a row: seeds share them"
    )
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    if args.command == "table":
        return write(lines(args.out), ROWS, RESULTS / "reproduction")
    device = pick(args.device)
    protocol = PROTOCOLS[args.protocol or ("miniature" if device.type == "cpu" else "paper")]
    seeds = args.seeds or ("0,1" if protocol.name == "miniature" else "0")
    world = World.open(args.data, device, protocol.images, protocol.test)
    rows = [BY_NAME[name] for name in args.rows.split(",")] if args.rows else rows_of(protocol.name)
    run(rows, [int(seed) for seed in seeds.split(",")], protocol, world, args.out, args.minutes, args.keep)


if __name__ == "__main__":
    main()
