"""RandAugment: two of fourteen operations an image and epoch, at one strength.

Cubuk et al. 2020, arXiv 1909.13719, with torchvision's ranges and its defaults (2 operations at 9 of 30).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unlearnable.defences import _ops
from unlearnable.defences._job import Job
from unlearnable.train import History

PAPER = "Cubuk et al. 2020, arXiv 1909.13719"
COST = 1.3
WORDS = "RandAugment"
PRESETS: dict[str, dict[str, int]] = {"rand_augment": {"operations": 2, "strength": 9}}
_RANGES = _ops.Ranges(shear=0.3, translate=150 / 331, rotate=30, blend=0.9, bits=4)


@dataclass(frozen=True)
class Params:
    operations: int = 2
    "operations an image, one after the other"
    strength: int = 9
    "how strong, of 30"

    def __post_init__(self) -> None:
        if not 1 <= self.operations <= 5:
            raise ValueError(f"operations is 1 to 5, not {self.operations}")
        if not 0 <= self.strength <= 30:
            raise ValueError(f"strength is 0 to 30, not {self.strength}")


def victim(job: Job, params: Params) -> History:
    def augment(images: Tensor, generator: torch.Generator) -> Tensor:
        levels = (job.plain(images, generator) * 255).round()
        for _ in range(params.operations):
            levels = _ops.draw_and_apply(levels, _RANGES, generator, params.strength / 30)
        return levels / 255

    return job.run(augment=augment)
