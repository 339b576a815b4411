"""Replaces every pixel by the median of the 3x3 around it, channel by channel; single odd pixels vanish.

The filter is applied to the stored images, before cropping and flipping. Liu et al. 2023, arXiv 2301.13838, offer it;
their code feeds it tensors where it expects pictures, so no figures of theirs are to be compared with.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from unlearnable.defences._job import Job, changed
from unlearnable.train import History

PAPER = "Liu et al. 2023, arXiv 2301.13838"
CHEAP = True
COST = 1.0
WORDS = "a 3x3 median filter"
PRESETS: dict[str, dict[str, object]] = {"median3": {}}


@dataclass(frozen=True)
class Params:
    """No settings."""


def victim(job: Job, params: Params) -> History:
    del params
    return job.run(images=changed(median, job.images))


def median(images: Tensor) -> Tensor:
    """(N, 3, V, V) uint8 -> floats of the same shape; the border is continued outwards."""
    height, width = images.shape[2:]
    padded = F.pad(images.float(), (1, 1, 1, 1), mode="replicate")
    around = [padded[:, :, y : y + height, x : x + width] for y in range(3) for x in range(3)]
    return torch.stack(around).median(0).values
