"""TrivialAugment: one of fourteen operations an image and epoch, at a strength drawn at random.

Müller and Hutter 2021, arXiv 2103.10158 (the wide ranges): nothing to tune, and nothing chosen by knowing the poison.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unlearnable.defences import _ops
from unlearnable.defences._job import Job
from unlearnable.train import History

PAPER = "Müller and Hutter 2021, arXiv 2103.10158"
COST = 1.2
WORDS = "TrivialAugment"
PRESETS: dict[str, dict[str, object]] = {"trivial_augment": {}}
_WIDE = _ops.Ranges(shear=0.99, translate=1.0, rotate=135, blend=0.99, bits=6)


@dataclass(frozen=True)
class Params:
    """No settings."""


def victim(job: Job, params: Params) -> History:
    del params

    def augment(images: Tensor, generator: torch.Generator) -> Tensor:
        return trivial(job.plain(images, generator), generator)

    return job.run(augment=augment)


def trivial(images: Tensor, generator: torch.Generator) -> Tensor:
    """(N, 3, S, S) floats in [0, 1] -> the same. Translations go up to the whole side: 32 pixels at the paper's size."""
    return _ops.draw_and_apply((images * 255).round(), _WIDE, generator) / 255
