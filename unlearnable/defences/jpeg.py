"""Compresses every training image once with JPEG, chroma halved (4:2:0), before any other augmentation.

Liu et al. 2023, "Image Shortcut Squeezing", arXiv 2301.13838. Quality 10 alone restores most of the accuracy that
published poisons take away.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from unlearnable.defences._job import Job, changed
from unlearnable.train import History

PAPER = "Liu et al. 2023, arXiv 2301.13838"
CHEAP = True
COST = 1.0
WORDS = "JPEG compression at quality {quality}"
PRESETS: dict[str, dict[str, int]] = {
    "jpeg10": {"quality": 10},
    "jpeg30": {"quality": 30},
    "jpeg50": {"quality": 50},
    "jpeg75": {"quality": 75},
}


@dataclass(frozen=True)
class Params:
    quality: int = 10
    "JPEG quality, 1 to 95"

    def __post_init__(self) -> None:
        if not 1 <= self.quality <= 95:
            raise ValueError(f"quality is 1 to 95, not {self.quality}")


def victim(job: Job, params: Params) -> History:
    return job.run(images=changed(lambda part: compressed(part, params.quality), job.images))


def compressed(images: Tensor, quality: int) -> Tensor:
    """(N, 3, V, V) uint8 -> the same shape and type."""
    out = np.empty((len(images), *images.shape[2:], 3), np.uint8)
    for i, pixels in enumerate(images.permute(0, 2, 3, 1).cpu().numpy()):
        file = io.BytesIO()  # a codec in memory, as a trainer runs it: this is no image of the release
        Image.fromarray(pixels).save(file, "JPEG", quality=quality)
        out[i] = np.asarray(Image.open(file))
    return torch.from_numpy(out).permute(0, 3, 1, 2).contiguous().to(images.device)
