"""What the benchmarks on CIFAR-10 share: the images, a protected training set, and where it was measured.

The images are the public JPEG copy in ../shared/data/cifar10-jpeg (quality 75), not the original pixels: clean accuracy is
a point or two lower than published, and the JPEG's own traces are in every image, protected or not.
"""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from _notes import processor, today
from PIL import Image
from torch import Tensor

from unlearnable import budget, craft
from unlearnable.device import describe
from unlearnable.keys import Key
from unlearnable.surrogate import trainer
from unlearnable.types import Batch, Context

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "cifar10-jpeg"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclass(frozen=True)
class World:
    """Images (N, 3, 32, 32) uint8 and labels: to protect, to test victims on, to stop surrogates by; and the device."""

    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    held_out: tuple[Tensor, Tensor]
    device: torch.device
    classes: tuple[str, ...] = CLASSES

    @classmethod
    def open(cls, folder: Path, device: torch.device, train: int, test: int, held_out: int = 2000) -> World:
        """The first images of both splits. Held-out images follow the training ones where there are that many."""
        x, y = load(folder, "train", train + held_out)
        left = x[train:] if len(x) >= train + held_out // 2 else x[-max(1, len(x) // 20) :]
        return cls((x[:train], y[:train]), load(folder, "test", test), (left, y[-len(left) :]), device)


def load(folder: Path, split: str, count: int) -> tuple[Tensor, Tensor]:
    """(N, 3, 32, 32) uint8 images and (N,) labels."""
    rows = pq.read_table(next(folder.glob(f"{split}*.parquet"))).slice(0, count).to_pylist()
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB")) for row in rows])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), torch.tensor([row["label"] for row in rows])


def protected(
    method: craft.Method,
    world: World,
    seed: int,
    *,
    levels: int | None = None,
    fit: Callable[..., craft.Crafter] = craft.fit,
    tell: Callable[[str], None] = lambda message: None,
) -> tuple[Tensor, float]:
    """The training set as a lossless release would decode, (N, 3, 32, 32) uint8, and the seconds it took to craft."""
    begun = time.monotonic()
    images, labels = world.train
    levels = levels or budget.resolve(None, method.unbounded)
    surrogates = trainer(world.held_out, len(world.classes), device=world.device, tell=tell)
    key = Key(hashlib.sha256(f"benchmarks {seed}".encode()).digest())
    context = Context(key, world.classes, levels, images.shape[-1], str(world.device), surrogates, tell)
    ids = tuple(f"train/{i}" for i in range(len(images)))
    crafter = fit(method, Batch(ids, images, labels) if method.trains else None, context)
    parts = []
    for part in torch.arange(len(images)).split(2048):
        parts.append(shipped(images[part], crafter.on(tuple(ids[i] for i in part), images[part], labels[part]), levels))
    return torch.cat(parts), time.monotonic() - begun


def shipped(clean: Tensor, delta: Tensor, levels: int) -> Tensor:
    """`budget.protect` of many images at once: whole grey levels, inside the budget and 0..255."""
    steps = (delta * 255).round().clamp(-levels, levels)
    return (clean.float() + steps).clamp(0, 255).byte()


def about(device: torch.device) -> dict[str, Any]:
    """Date, hardware and versions, for every row of results."""
    versions = {package: metadata.version(package) for package in ("torch", "torchvision", "numpy")}
    return {"date": today(), "hardware": hardware(device), "versions": versions}


def hardware(device: torch.device) -> str:
    """The card, or the processor and how many threads compute on it."""
    if device.type != "cpu":
        return describe(device)
    return f"{processor()}, {torch.get_num_threads()} thread(s)"
