"""Takes out of every training image what its blocks of 8x8 pixels have in common, its own mean kept.

A scraper who knows `texture` averages all blocks of an image: the picture evens out, the tiled texture stays, and is
subtracted. It undoes any pattern that repeats every 8 pixels, with a sign of its own in each image or not, and hardly
touches a clean picture. Blocks turned around one by one average out and stay.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unlearnable.defences._job import Job, changed
from unlearnable.train import History

COST = 1.0
WORDS = "subtracting what all {side}x{side} blocks of an image have in common"
PRESETS: dict[str, dict[str, int]] = {"block_means": {"side": 8}}


@dataclass(frozen=True)
class Params:
    side: int = 8
    "side of a block in pixels"

    def __post_init__(self) -> None:
        if not 2 <= self.side <= 64:
            raise ValueError(f"side is 2 to 64 pixels, not {self.side}")


def victim(job: Job, params: Params) -> History:
    return job.run(images=changed(lambda part: without(part, params.side), job.images))


def without(images: Tensor, side: int) -> Tensor:
    """(N, 3, V, V) uint8 -> floats; pixels at one place of their blocks lose what they have more than the image."""
    out = images.float()
    mean = out.mean((2, 3), keepdim=True)
    place = torch.arange(images.shape[-1], device=images.device) % side
    return out - _averages(_averages(out, place, 2), place, 3) + mean


def _averages(images: Tensor, place: Tensor, axis: int) -> Tensor:
    """Every row (axis 2) or column (3) replaced by the mean of those with the same place."""
    same = (place[:, None] == place).float()
    same = same / same.sum(1, keepdim=True)
    return same @ images if axis == 2 else images @ same.T
