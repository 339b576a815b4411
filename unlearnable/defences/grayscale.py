"""Trains on luma only (ITU-R 601, copied to three channels).

Liu et al. 2023, "Image Shortcut Squeezing", arXiv 2301.13838. Undoes perturbations that live in colour; costs a
clean trainer a few points. The test images stay in colour, as in the paper.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unlearnable.defences._job import Job, changed
from unlearnable.train import History

PAPER = "Liu et al. 2023, arXiv 2301.13838"
CHEAP = True
COST = 1.0
WORDS = "conversion to grey"
PRESETS: dict[str, dict[str, object]] = {"grayscale": {}}


@dataclass(frozen=True)
class Params:
    """No settings."""


def victim(job: Job, params: Params) -> History:
    del params
    return job.run(images=changed(luma, job.images))


def luma(images: Tensor) -> Tensor:
    """(N, 3, V, V) uint8 -> floats of the same shape, all channels alike."""
    weights = torch.tensor([0.299, 0.587, 0.114], device=images.device).view(1, 3, 1, 1)
    return (images.float() * weights).sum(1, True).expand(-1, 3, -1, -1)
