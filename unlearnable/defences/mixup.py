"""Blends images of a batch, and their labels by the same share; twice, each time half of the images.

Zhang et al. 2018, arXiv 1710.09412, with Beta(1, 1), which is uniform, and the numbers of the unlearnable literature.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from unlearnable.defences._job import Job
from unlearnable.nets import Network
from unlearnable.train import History, cross_entropy

PAPER = "Zhang et al. 2018, arXiv 1710.09412"
COST = 1.0
PRESETS: dict[str, dict[str, float]] = {"mixup": {"probability": 0.5}}


@dataclass(frozen=True)
class Params:
    probability: float = 0.5
    "share of the images that are blended, each time"
    times: int = 2
    "blends one after the other"

    def __post_init__(self) -> None:
        if not 0 < self.probability <= 1:
            raise ValueError(f"probability is above 0 and at most 1, not {self.probability}")
        if not 1 <= self.times <= 4:
            raise ValueError(f"times is 1 to 4, not {self.times}")


def victim(job: Job, params: Params) -> History:
    generator = job.generator()

    def objective(net: Network, images: Tensor, labels: Tensor) -> Tensor:
        shares = F.one_hot(labels, job.classes).float()
        for _ in range(params.times):
            images, shares = blend(images, shares, params.probability, generator)
        return cross_entropy(net, images, shares)

    return job.run(objective=objective)


def blend(images: Tensor, shares: Tensor, probability: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Images (N, 3, S, S) and label shares (N, K), each mixed with those of a partner drawn from the batch."""
    count = len(images)
    keep = torch.rand(count, generator=generator)
    keep = torch.where(torch.rand(count, generator=generator) < probability, keep, 1).to(images.device)
    partner = torch.randperm(count, generator=generator).to(images.device)
    a, b = keep.view(-1, 1, 1, 1), keep.view(-1, 1)
    return a * images + (1 - a) * images[partner], b * shares + (1 - b) * shares[partner]
