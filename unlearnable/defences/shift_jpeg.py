"""Moves every training image by some pixels, and rescales it a little, before it is compressed with JPEG, and back after.

Against patterns that are laid out on JPEG's grid of 8x8 blocks, which its coarse steps then keep. Shift (0 to 7 pixels, the
image continued around its edges) and scale are drawn for every image; chroma is halved (4:2:0), as in `jpeg`. After Liu et
al. 2023, "Image Shortcut Squeezing", arXiv 2301.13838, who compress on the grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from unlearnable import spill
from unlearnable.defences import jpeg
from unlearnable.defences._job import Job
from unlearnable.train import History

PAPER = "after Liu et al. 2023, arXiv 2301.13838"
CHEAP = True
COST = 1.0
WORDS = "JPEG compression at quality {quality} after a random shift and a change of scale by up to {scale:.0%}"
PRESETS: dict[str, dict[str, float]] = {
    "shift_jpeg10": {"quality": 10, "scale": 0.0},
    "rescale_jpeg10": {"quality": 10, "scale": 0.25},
}


@dataclass(frozen=True)
class Params:
    quality: int = 10
    "JPEG quality, 1 to 95"
    scale: float = 0.0
    "how far an image is made larger or smaller before, as a share of its side: 0 to 0.5"

    def __post_init__(self) -> None:
        if not 1 <= self.quality <= 95:
            raise ValueError(f"quality is 1 to 95, not {self.quality}")
        if not 0 <= self.scale <= 0.5:
            raise ValueError(f"scale is 0 to 0.5, not {self.scale}")


def victim(job: Job, params: Params) -> History:
    return job.run(images=moved(job.images, params, job.generator()))


def moved(images: Tensor, params: Params, generator: torch.Generator) -> Tensor:
    """(N, 3, V, V) uint8 -> the same shape and type."""
    side = images.shape[-1]
    shifts = torch.randint(0, 8, (len(images), 2), generator=generator).tolist()
    factors = 1 + params.scale * (2 * torch.rand(len(images), generator=generator) - 1)
    out = spill.empty(*images.shape, device=images.device)
    for i, (down, across) in enumerate(shifts):
        rolled = images[i : i + 1].roll((down, across), (2, 3))
        between = _resized(rolled, max(8, round(side * factors[i].item())))
        back = _resized(jpeg.compressed(between, params.quality), side)
        out[i] = back[0].roll((-down, -across), (1, 2))
    return out


def _resized(images: Tensor, side: int) -> Tensor:
    if images.shape[-1] == side:
        return images
    out = F.interpolate(images.float(), size=(side, side), mode="bilinear", antialias=True)
    return out.round().clamp(0, 255).byte()
