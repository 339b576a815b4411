"""Blends images of a batch, and their labels by the same share; twice, each time half of the images.

Zhang et al. 2018, arXiv 1710.09412, with Beta(1, 1), which is uniform, and the numbers of the unlearnable literature. Draws
are each image's own, where the paper draws once a batch; partners come from the batch, as in the paper.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unlearnable.defences import _mix
from unlearnable.defences._job import Job
from unlearnable.train import History

PAPER = "Zhang et al. 2018, arXiv 1710.09412"
COST = 1.0
WORDS = "Mixup"
PRESETS: dict[str, dict[str, float]] = {"mixup": {"probability": 0.5}}


@dataclass(frozen=True)
class Params(_mix.Params):
    """Those of every mixture."""


def victim(job: Job, params: Params) -> History:
    return _mix.victim(job, params, blend)


def blend(images: Tensor, shares: Tensor, probability: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Images (N, 3, S, S) and label shares (N, K), each mixed with those of a partner drawn from the batch."""
    count = len(images)
    keep = torch.rand(count, generator=generator)
    keep = torch.where(torch.rand(count, generator=generator) < probability, keep, 1).to(images.device)
    partner = torch.randperm(count, generator=generator).to(images.device)
    a, b = keep.view(-1, 1, 1, 1), keep.view(-1, 1)
    return a * images + (1 - a) * images[partner], b * shares + (1 - b) * shares[partner]
