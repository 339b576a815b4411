"""Trainings on images that were mixed with others of their batch, and on labels with shares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from unlearnable.defences._job import Job
from unlearnable.nets import Network
from unlearnable.train import History, cross_entropy

# (images (N, 3, S, S), label shares (N, K), probability, draws) -> the same, mixed
Mix = Callable[[Tensor, Tensor, float, torch.Generator], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Params:
    probability: float = 0.5
    "share of the images that are mixed with another, each time"
    times: int = 2
    "how often, one after the other"

    def __post_init__(self) -> None:
        if not 0 < self.probability <= 1:
            raise ValueError(f"probability is above 0 and at most 1, not {self.probability}")
        if not 1 <= self.times <= 4:
            raise ValueError(f"times is 1 to 4, not {self.times}")


def victim(job: Job, params: Params, mix: Mix) -> History:
    generator = job.generator()

    def objective(net: Network, images: Tensor, labels: Tensor) -> Tensor:
        shares = F.one_hot(labels, job.classes).float()
        for _ in range(params.times):
            images, shares = mix(images, shares, params.probability, generator)
        return cross_entropy(net, images, shares)

    return job.run(objective=objective)
