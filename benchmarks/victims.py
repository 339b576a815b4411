"""Our training loop beside a plain one: images a second, and whether speed costs accuracy.

    python benchmarks/victims.py speed [--net small] [--images 4096] [--rounds 3]
    python benchmarks/victims.py accuracy [--net tiny] [--images 10000] [--epochs 10] [--seeds 8] [--minutes M]

The plain loop is what a tutorial has: a Dataset of PIL images, torchvision's RandomCrop(32, padding 4), flip, ToTensor and
Normalize, a DataLoader with 2 workers, float32. Both train the same network from the same weights with the same batch, SGD
and schedule. `speed` runs them in turn for one epoch each, after one that is not counted, on all cores, and gives the ratio of
each round. `accuracy` writes a line of benchmarks/results/victims.jsonl for every loop and seed and makes none twice; the
summary, with an interval of the difference of final accuracies, goes to victims.json. `speed` wants an idle machine.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from _cifar import DATA, about, load
from _notes import RESULTS
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from unlearnable import nets
from unlearnable.train import Recipe, train

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
BATCH = 128


class Pictures(Dataset[tuple[Tensor, int]]):
    """PIL images and labels with the augmentation of the literature."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.pictures = [Image.fromarray(image) for image in images.permute(0, 2, 3, 1).numpy()]
        self.labels = labels.tolist()
        self.change = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.change(self.pictures[index]), self.labels[index]


def plain(net: nn.Module, images: Tensor, labels: Tensor, epochs: int, seed: int) -> float:
    """Trains in place as a tutorial would; the seconds it took. Normalisation is in the data, so the network's own is off."""
    loader = DataLoader(
        Pictures(images, labels),
        BATCH,
        shuffle=True,
        num_workers=2,
        persistent_workers=True,
        drop_last=True,
        generator=torch.Generator().manual_seed(seed),
    )
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs * len(loader))
    loss_of, begun = nn.CrossEntropyLoss(), 0.0
    for epoch in range(epochs):
        net.train()
        for number, (x, y) in enumerate(loader):
            if epoch == 0 and number == 0:
                begun = time.perf_counter()  # workers are up, and the first batch came for nothing
            optimiser.zero_grad()
            loss = loss_of(net(x), y)
            loss.backward()
            optimiser.step()
            schedule.step()
    return time.perf_counter() - begun


def bare(name: str, seed: int) -> nets.Network:
    """The network without normalisation of its own, for data that comes normalised; plain memory layout."""
    net = nets.create(name, 10, 32, seed)
    net.mean.zero_()
    net.std.fill_(1)
    return net


def speed(name: str, images: int, rounds: int) -> dict[str, Any]:
    """Images a second of both loops, round by round, after one round of each that is not counted."""
    torch.set_num_threads(os.cpu_count() or 1)
    x, y = load(DATA, "train", images)
    recipe = Recipe(epochs=1, batch=BATCH, schedule="cosine")
    rates: dict[str, list[float]] = {"ours": [], "plain": []}
    for number in range(rounds + 1):
        found = {
            "ours": len(x) / train(nets.create(name, 10, 32, 0), x, y, recipe, seed=number).seconds,
            "plain": len(x) // BATCH * BATCH / plain(bare(name, 0), x, y, 1, number),
        }
        for loop, rate in found.items():
            if number:
                rates[loop].append(rate)
                print(f"{loop}: {rate:.0f} images/s", flush=True)
    ratios = [a / b for a, b in zip(rates["ours"], rates["plain"], strict=True)]
    middle = {loop: statistics.median(values) for loop, values in rates.items()}
    return {"net": name, "images": images, "images_per_s": rates, "median": middle, "ratios": ratios}


def accuracy(name: str, images: int, epochs: int, seeds: int, minutes: float, out: Path) -> None:
    """A line for every loop and seed: final and peak accuracy on 2,000 test images."""
    from unlearnable.train import accuracy as share

    x, y = load(DATA, "train", images)
    test = load(DATA, "test", 2000)
    about_run = {"net": name, "images": images, "epochs": epochs}
    lines = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    done = {(line["loop"], line["seed"]) for line in lines if {key: line[key] for key in about_run} == about_run}
    begun = time.monotonic()
    for seed in range(seeds):
        for loop in ("ours", "plain"):
            if (loop, seed) in done or time.monotonic() - begun > minutes * 60:
                continue
            if loop == "ours":
                net = nets.create(name, 10, 32, seed)
                train(net, x, y, Recipe(epochs=epochs, batch=BATCH, schedule="cosine"), seed=seed)
            else:
                net = bare(name, seed)
                plain(net, x, y, epochs, seed)
                net.mean.copy_(torch.tensor(MEAN).view(1, 3, 1, 1))
                net.std.copy_(torch.tensor(STD).view(1, 3, 1, 1))
            line = {"loop": loop, "seed": seed, **about_run, "final": share(net, *test), **about(torch.device("cpu"))}
            with out.open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(f"{loop}, seed {seed}: {line['final']:.4f}", flush=True)


def summary(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean final accuracies and their difference with a 95 % interval (normal quantile, Welch's error)."""
    finals = {loop: [line["final"] for line in lines if line["loop"] == loop] for loop in ("ours", "plain")}
    out: dict[str, Any] = {loop: {"mean": statistics.fmean(v), "runs": v} for loop, v in finals.items() if v}
    if all(len(values) > 1 for values in finals.values()):
        gap = out["ours"]["mean"] - out["plain"]["mean"]
        error = math.sqrt(sum(statistics.variance(values) / len(values) for values in finals.values()))
        out["difference"] = {"mean": gap, "interval": [gap - 1.96 * error, gap + 1.96 * error]}
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["speed", "accuracy"])
    parser.add_argument("--net", default=None)
    parser.add_argument("--images", type=int, default=None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    args = parser.parse_args()
    result = RESULTS / "victims.json"
    found = json.loads(result.read_text()) if result.exists() else {}
    if args.command == "speed":
        name = args.net or "small"
        found.setdefault("speed", {})[name] = speed(name, args.images or 4096, args.rounds) | about(torch.device("cpu"))
    else:
        out = RESULTS / "victims.jsonl"
        accuracy(args.net or "tiny", args.images or 10_000, args.epochs, args.seeds, args.minutes, out)
        found["accuracy"] = summary([json.loads(line) for line in out.read_text().splitlines()])
    result.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found[args.command], indent=1))


if __name__ == "__main__":
    main()
