"""Our training loop beside a plain one: images a second, and whether speed costs accuracy.

    python benchmarks/victims.py speed [--net small] [--images 4096] [--rounds 3] [--device cpu] [--data DATA] [--out OUT]
    python benchmarks/victims.py accuracy [--net tiny] [--images 10000] [--epochs 10] [--seeds 8] [--minutes M]
                                          [--loops ours,plain,float32] ...

The plain loop is what a tutorial has: a Dataset of PIL images, torchvision's RandomCrop(32, padding 4), flip, ToTensor and
Normalize, a DataLoader with 2 workers, float32 as torch has it (a GPU's convolutions in TF32). Both train the same network from
the same weights with the same batch, SGD and schedule. `speed` runs them in turn for one epoch each, after one that is not
counted, on all cores, and gives the ratio of each round; on a GPU, for ResNet-18, beside the GPU's own matrix rate. `accuracy`
writes a line of OUT/victims.jsonl for every loop and seed and makes none twice; the summary, with intervals of the differences
of their final accuracies, goes to victims.json. Its third loop, `float32`, is ours without bfloat16, and tells which part of a
difference that is. All are tested alike, in bfloat16. `speed` wants an idle machine. OUT is benchmarks/results. On a GPU the
defaults are ResNet-18 and all 50,000 images, and what is found has names of its own.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import statistics
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from _cifar import DATA, about, load
from _notes import RESULTS
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from unlearnable import nets
from unlearnable.device import pick
from unlearnable.train import Recipe, train

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
BATCH = 128
CPU = torch.device("cpu")
LOOPS = ("ours", "plain", "float32")


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


def plain(net: nn.Module, images: Tensor, labels: Tensor, epochs: int, seed: int, device: torch.device = CPU) -> float:
    """Trains in place as a tutorial would; the seconds it took. Normalisation is in the data, so the network's own is off."""
    net.to(device)
    loader = DataLoader(
        Pictures(images, labels),
        BATCH,
        shuffle=True,
        num_workers=2,
        persistent_workers=True,
        drop_last=True,
        pin_memory=device.type == "cuda",
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
            x, y = x.to(device, non_blocking=True), y.to(device, non_blocking=True)
            optimiser.zero_grad()
            loss = loss_of(net(x), y)
            loss.backward()
            optimiser.step()
            schedule.step()
    loss.item()  # a GPU is done with all of it
    return time.perf_counter() - begun


def bare(name: str, seed: int) -> nets.Network:
    """The network without normalisation of its own, for data that comes normalised; plain memory layout."""
    net = nets.create(name, 10, 32, seed)
    net.mean.zero_()
    net.std.fill_(1)
    return net


def speed(name: str, data: Path, images: int, rounds: int, device: torch.device) -> dict[str, Any]:
    """Images a second of both loops, round by round, after one round of each that is not counted."""
    torch.set_num_threads(os.cpu_count() or 1)
    x, y = load(data, "train", images)
    there = (x.to(device), y.to(device))
    recipe = Recipe(epochs=1, batch=BATCH, schedule="cosine")
    rates: dict[str, list[float]] = {"ours": [], "plain": []}
    for number in range(rounds + 1):
        found = {
            "ours": len(x) / train(nets.create(name, 10, 32, 0), *there, recipe, seed=number).seconds,
            "plain": len(x) // BATCH * BATCH / plain(bare(name, 0), x, y, 1, number, device),
        }
        for loop, rate in found.items():
            if number:
                rates[loop].append(rate)
                print(f"{loop}: {rate:.0f} images/s", flush=True)
    ratios = [a / b for a, b in zip(rates["ours"], rates["plain"], strict=True)]
    middle = {loop: statistics.median(values) for loop, values in rates.items()}
    found = {"net": name, "images": images, "images_per_s": rates, "median": middle, "ratios": ratios}
    return found | (of_the_matrix_rate(middle, device) if name == "resnet18" and device.type == "cuda" else {})


def of_the_matrix_rate(rates: dict[str, float], device: torch.device) -> dict[str, Any]:
    """Useful floating-point operations of training as a share of the device's own bfloat16 matrix product."""
    from _gpu_rates import RESNET18_FLOPS, matmul_rate

    rate = matmul_rate(device)
    shares = {loop: 3 * RESNET18_FLOPS * images / rate for loop, images in rates.items()}
    return {"matmul_tflops": rate / 1e12, "share": shares}


def accuracy(
    run: dict[str, Any], data: Path, loops: list[str], seeds: int, minutes: float, out: Path, device: torch.device
) -> None:
    """A line for every loop and seed of a run {net, images, epochs}: final accuracy on 2,000 test images."""
    from unlearnable.train import accuracy as share

    x, y = load(data, "train", run["images"])
    test = load(data, "test", 2000)
    recipe = Recipe(epochs=run["epochs"], batch=BATCH, schedule="cosine")
    done = {(line["loop"], line["seed"]) for line in lines_of(out, run)}
    begun = time.monotonic()
    for seed, loop in itertools.product(range(seeds), loops):
        if (loop, seed) in done or time.monotonic() - begun > minutes * 60:
            continue
        if loop == "plain":
            net = bare(run["net"], seed)
            plain(net, x, y, run["epochs"], seed, device)
            net.mean.copy_(torch.tensor(MEAN).view(1, 3, 1, 1))
            net.std.copy_(torch.tensor(STD).view(1, 3, 1, 1))
        else:
            net = nets.create(run["net"], 10, 32, seed)
            with full_precision() if loop == "float32" else nullcontext():
                train(net, x.to(device), y, recipe, seed=seed)
        line = {"loop": loop, "seed": seed, **run, "final": share(net, *test), **about(device)}
        with out.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(f"{loop}, seed {seed}: {line['final']:.4f}", flush=True)


def full_precision() -> AbstractContextManager[object]:
    """Our loop without bfloat16, and nothing else about it changed."""
    return mock.patch("unlearnable.train.autocast", lambda device: torch.autocast(device.type, enabled=False))


def lines_of(file: Path, run: dict[str, Any]) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return [line for line in lines if {key: line.get(key) for key in (*run, "device")} == {"device": None, **run}]


def summary(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean final accuracies, and differences with 95 % intervals (normal quantile, Welch's error)."""
    finals = {loop: [line["final"] for line in lines if line["loop"] == loop] for loop in LOOPS}
    out: dict[str, Any] = {loop: {"mean": statistics.fmean(v), "runs": v} for loop, v in finals.items() if v}
    pairs = {"difference": ("ours", "plain"), "of_bfloat16": ("ours", "float32"), "of_the_rest": ("float32", "plain")}
    for name, pair in pairs.items():
        one, other = (finals[loop] for loop in pair)
        if min(len(one), len(other)) > 1:
            gap = statistics.fmean(one) - statistics.fmean(other)
            error = math.sqrt(sum(statistics.variance(values) / len(values) for values in (one, other)))
            out[name] = {"mean": gap, "interval": [gap - 1.96 * error, gap + 1.96 * error]}
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
    parser.add_argument("--loops", default="ours,plain")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    device = pick(args.device)
    other, loops = device.type != "cpu", args.loops.split(",")
    if set(loops) - set(LOOPS):
        parser.error(f"--loops are of {', '.join(LOOPS)}")
    args.out.mkdir(parents=True, exist_ok=True)
    result, on = args.out / "victims.json", f" on {device.type}" if other else ""
    found = json.loads(result.read_text()) if result.exists() else {}
    if args.command == "speed":
        name = args.net or ("resnet18" if other else "small")
        made = speed(name, args.data, args.images or (50_000 if other else 4096), args.rounds, device)
        found.setdefault("speed", {})[name + on] = made | about(device)
    else:
        name, file = args.net or ("resnet18" if other else "tiny"), args.out / "victims.jsonl"
        run = {"net": name, "images": args.images or (50_000 if other else 10_000), "epochs": args.epochs}
        run |= {"device": device.type} if other else {}
        accuracy(run, args.data, loops, args.seeds, args.minutes, file, device)
        found["accuracy" + on] = summary(lines_of(file, run))
    result.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found["speed"] if args.command == "speed" else found["accuracy" + on], indent=1))


if __name__ == "__main__":
    main()
