"""Pastes boxes of other images of the batch, and mixes the labels by the pixels; twice, into half of the images.

Yun et al. 2019, arXiv 1905.04899, with Beta(1, 1), which is uniform, and the numbers of the unlearnable literature. A
label's share is that of the pixels that are really there: boxes at the border are cut. Draws are each image's own, as there;
the paper draws once a batch. Partners come from the batch, as in the paper, and not from the whole set.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unlearnable.defences import _mix
from unlearnable.defences._job import Job
from unlearnable.train import History

PAPER = "Yun et al. 2019, arXiv 1905.04899"
COST = 1.0
WORDS = "CutMix"
PRESETS: dict[str, dict[str, float]] = {"cutmix": {"probability": 0.5}}


@dataclass(frozen=True)
class Params(_mix.Params):
    """Those of every mixture."""


def victim(job: Job, params: Params) -> History:
    return _mix.victim(job, params, paste)


def paste(images: Tensor, shares: Tensor, probability: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Images (N, 3, S, S) and label shares (N, K), each with a box of a partner drawn from the batch."""
    count, _, side, _ = images.shape
    area = torch.rand(count, generator=generator)  # lambda and 1 - lambda are drawn alike
    area = torch.where(torch.rand(count, generator=generator) < probability, area, 0)
    width = (area.sqrt() * side).long()
    first = torch.randint(side, (2, count), generator=generator) - width // 2
    partner = torch.randperm(count, generator=generator).to(images.device)
    pixel = torch.arange(side)
    inside = (pixel >= first[:, :, None]) & (pixel < (first + width)[:, :, None])
    rows, columns = inside.to(images.device)
    box = (rows[:, :, None] & columns[:, None, :])[:, None]
    other = box.float().mean((1, 2, 3))[:, None]
    return torch.where(box, images[partner], images), (1 - other) * shares + other * shares[partner]
