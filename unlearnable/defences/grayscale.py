"""Trains on luma only (ITU-R 601, copied to three channels).

Liu et al. 2023, "Image Shortcut Squeezing", arXiv 2301.13838. Undoes perturbations that live in colour; costs a
clean trainer a few points. The test images stay in colour, as in the paper.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

PAPER = "Liu et al. 2023, arXiv 2301.13838"
CHEAP = True
PRESETS: dict[str, dict[str, object]] = {"grayscale": {}}


@dataclass(frozen=True)
class Params:
    """No settings."""


def training_images(images: Tensor, params: Params) -> Tensor:
    """(N, 3, V, V) uint8 -> the same shape and type."""
    del params
    luma = (images.float() * torch.tensor([0.299, 0.587, 0.114], device=images.device).view(1, 3, 1, 1)).sum(1, True)
    return luma.round().byte().expand(-1, 3, -1, -1).contiguous()
