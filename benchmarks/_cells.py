"""What tables of poisons under countermeasures share: a cell, slices of time, and the flowers as a second set of images."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow.parquet as pq
import torch
from _cifar import World
from PIL import Image
from torch import Tensor

from unlearnable import imageio, params, registry
from unlearnable.defences._job import Job
from unlearnable.train import Recipe

NONE = "none"
FLOWERS = Path(__file__).resolve().parents[2] / "shared" / "data" / "flowers"
KINDS = ("daisy", "dandelion", "roses", "sunflowers", "tulips")
_HELD_OUT = 294  # a tenth

Cell = TypeVar("Cell")


def measured(
    images: Tensor, against: str, net: str, recipe: Recipe, world: World, seed: int, **changed: int
) -> dict[str, Any]:
    """Peak, final and the rest of one victim of the images under one countermeasure, by preset, or "none".

    changed: parameters of the countermeasure over the preset's.
    """
    job = Job(
        images=images.to(world.device),
        labels=world.train[1].to(world.device),
        clean=world.train[0].to(world.device),
        test=(world.test[0].to(world.device), world.test[1].to(world.device)),
        classes=len(world.classes),
        victim=net,
        recipe=recipe,
        seed=seed,
    )
    if against == NONE:
        history = job.run()
    else:
        module, values = registry.find_preset("defences", against)
        history = registry.load("defences", module).victim(job, params.build("defences", module, values | changed))
    return {
        "peak": history.peak,
        "final": history.final,
        "half_loss_epoch": history.epochs_to(0.5),
        "figures": history.figures,
        "seconds": history.seconds,
        "accuracy": history.accuracy,
    }


def in_time(cells: Iterable[Cell], minutes: float, make: Callable[[Cell], None]) -> None:
    """Makes one cell after another; none is begun that would not end in time, judged by the longest so far."""
    begun, longest = time.monotonic(), 0.0
    for cell in cells:
        if time.monotonic() - begun + longest > minutes * 60:
            print(f"{cell}: left for another run", flush=True)
            continue
        started = time.monotonic()
        make(cell)
        longest = max(longest, time.monotonic() - started)


def flowers(folder: Path, size: int, device: torch.device) -> World:
    """The photos as a trainer sees them: short side `size`, centre crop. A tenth of the training images is held out."""

    def read(split: str) -> tuple[Tensor, Tensor]:
        rows = pq.read_table(next(folder.glob(f"{split}*.parquet"))).to_pylist()
        photos = (np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB")) for row in rows)
        pixels = np.stack([imageio.trainer_view(photo, size) for photo in photos])
        return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), torch.tensor([row["label"] for row in rows])

    x, y = read("train")
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    kept, held = order[_HELD_OUT:], order[:_HELD_OUT]
    return World((x[kept], y[kept]), read("test"), (x[held], y[held]), device, KINDS)
