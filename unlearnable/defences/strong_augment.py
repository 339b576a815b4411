"""Turns, shears, scales and recolours every image on top of the usual crop and flip.

The "strong" augmentation of Sandoval-Segura et al. 2023, arXiv 2305.19254: rotation by up to 10 degrees, shear by up to 10
degrees, scale 0.8 to 1.2, brightness, contrast and saturation 0.8 to 1.2. The usual crop and flip, and stopping early, are in
every training anyway. Bilinear, black outside; the colours are changed in a fixed order, each image by draws of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from unlearnable.defences._job import Job
from unlearnable.train import History

PAPER = "Sandoval-Segura et al. 2023, arXiv 2305.19254"
COST = 1.1
WORDS = "strong augmentation"
PRESETS: dict[str, dict[str, object]] = {"strong_augment": {}}


@dataclass(frozen=True)
class Params:
    degrees: float = 10.0
    "rotation and shear, at most"
    scale: float = 0.2
    "how much larger or smaller, at most"
    colour: float = 0.2
    "how much brightness, contrast and saturation are raised or lowered, at most"

    def __post_init__(self) -> None:
        if not 0 <= self.degrees <= 45:
            raise ValueError(f"degrees is 0 to 45, not {self.degrees}")
        for name in ("scale", "colour"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is 0 to 1, not {getattr(self, name)}")


def victim(job: Job, params: Params) -> History:
    def augment(images: Tensor, generator: torch.Generator) -> Tensor:
        return strengthened(job.plain(images, generator), params, generator)

    return job.run(augment=augment)


def strengthened(images: Tensor, params: Params, generator: torch.Generator) -> Tensor:
    """(N, 3, S, S) floats in [0, 1] -> the same."""
    draw = (torch.rand((6, len(images)), generator=generator) * 2 - 1).to(images.device)
    turn, shear = draw[:2] * math.radians(params.degrees)
    size = 1 / (1 + draw[2] * params.scale)
    cos, sin, tan, none = turn.cos() * size, turn.sin() * size, shear.tan(), torch.zeros_like(turn)
    theta = torch.stack([cos, cos * tan - sin, none, sin, sin * tan + cos, none], 1).view(-1, 2, 3)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    x = F.grid_sample(images, grid, align_corners=False)
    brightness, contrast, saturation = (1 + draw[3:] * params.colour).view(3, -1, 1, 1, 1)
    x = x * brightness
    x = _toward(x, x.mean((1, 2, 3), True), contrast)
    return _toward(x, x.mean(1, True), saturation).clamp(0, 1)


def _toward(x: Tensor, other: Tensor, ratio: Tensor) -> Tensor:
    return other + ratio * (x - other)
