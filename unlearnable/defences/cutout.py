"""Blacks out one square of every image of a batch, half as wide as the image, at a random place.

DeVries and Taylor 2017, arXiv 1708.04552: the centre is drawn over the whole image, so that squares at the border are cut.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unlearnable.defences._job import Job
from unlearnable.train import History

PAPER = "DeVries and Taylor 2017, arXiv 1708.04552"
COST = 1.0
WORDS = "Cutout"
PRESETS: dict[str, dict[str, float]] = {"cutout": {"width": 0.5}}


@dataclass(frozen=True)
class Params:
    width: float = 0.5
    "side of the square as a share of the image's: 16 of 32 pixels"

    def __post_init__(self) -> None:
        if not 0 < self.width <= 1:
            raise ValueError(f"width is above 0 and at most 1, not {self.width}")


def victim(job: Job, params: Params) -> History:
    def augment(images: Tensor, generator: torch.Generator) -> Tensor:
        return cut(job.plain(images, generator), params.width, generator)

    return job.run(augment=augment)


def cut(images: Tensor, width: float, generator: torch.Generator) -> Tensor:
    """(N, 3, S, S) floats -> the same with zeros in a square of round(width * S) pixels."""
    count, _, side, _ = images.shape
    length = max(1, round(width * side))
    first = (torch.randint(side, (2, count, 1), generator=generator) - length // 2).to(images.device)
    pixel = torch.arange(side, device=images.device)
    rows, columns = (pixel >= first) & (pixel < first + length)
    return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0)
