"""The fourteen operations of AutoAugment on a whole batch, each image with an operation and a strength of its own.

Pixel for pixel what torchvision's AutoAugment family does to one tensor (nearest neighbour, black outside), but for
rounding; some fifty times faster on small images. Levels are floats of whole numbers from 0 to 255.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

OPERATIONS = (
    *("shear_x", "shear_y", "translate_x", "translate_y", "rotate"),
    *("brightness", "color", "contrast", "sharpness", "posterize", "solarize", "auto_contrast", "equalize", "identity"),
)
_MOVES = 5  # the first ones move pixels


@dataclass(frozen=True)
class Ranges:
    """The greatest strengths: shear (tangent), translation (share of the side), degrees, blending, bits taken away."""

    shear: float
    translate: float
    rotate: float
    blend: float
    bits: int


def draw_and_apply(
    levels: Tensor, ranges: Ranges, generator: torch.Generator, strength: float | None = None, steps: int = 30
) -> Tensor:
    """One operation an image, drawn evenly, at `strength` (0 to 1) or at one drawn from `steps` + 1; signs are drawn."""
    count = len(levels)
    operation = torch.randint(len(OPERATIONS), (count,), generator=generator)
    drawn = torch.randint(steps + 1, (count,), generator=generator) / steps
    if strength is not None:
        drawn = torch.full((count,), strength)
    sign = torch.randint(2, (count,), generator=generator) * 2.0 - 1
    return apply(levels, operation, drawn, sign, ranges)


def apply(levels: Tensor, operation: Tensor, strength: Tensor, sign: Tensor, ranges: Ranges) -> Tensor:
    """(N, 3, S, S) levels -> the same. operation, strength (0 to 1) and sign (-1 or 1) are (N,), on the CPU."""
    out = levels.clone()
    moved = (operation < _MOVES).nonzero()[:, 0]
    if len(moved):
        grids = _moves(operation[moved], strength[moved] * sign[moved], levels.shape[-1], ranges)
        here = moved.to(levels.device)
        grid = F.affine_grid(grids.to(levels.device), [len(moved), *levels.shape[1:]], align_corners=False)
        out[here] = F.grid_sample(levels[here], grid, mode="nearest", align_corners=False)
    for number in range(_MOVES, len(OPERATIONS) - 1):
        chosen = (operation == number).nonzero()[:, 0]
        if len(chosen):
            here = chosen.to(levels.device)
            size, way = (t[chosen].to(levels.device).view(-1, 1, 1, 1) for t in (strength, sign))
            out[here] = _recolour(OPERATIONS[number], levels[here], size, way, ranges)
    return out


def _moves(operation: Tensor, size: Tensor, side: int, ranges: Ranges) -> Tensor:
    """(N, 2, 3) affine matrices for F.affine_grid; shears hold the upper left corner."""
    theta = torch.eye(2, 3).repeat(len(operation), 1, 1)
    shear, shift = size * ranges.shear, 2 * (size * ranges.translate * side).trunc() / side
    for axis in (0, 1):
        sheared, shifted = operation == axis, operation == 2 + axis
        theta[sheared, axis, 1 - axis] = theta[sheared, axis, 2] = shear[sheared]
        theta[shifted, axis, 2] = -shift[shifted]
    turned = operation == 4
    angle = size[turned] * math.radians(ranges.rotate)
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    theta[turned] = torch.stack([cos, -sin, zero, sin, cos, zero], 1).view(-1, 2, 3)
    return theta


def _recolour(name: str, x: Tensor, size: Tensor, sign: Tensor, ranges: Ranges) -> Tensor:
    if name == "posterize":
        step = 2 ** (size * ranges.bits).round()
        return (x / step).floor() * step
    if name == "solarize":
        return torch.where(x >= 255 * (1 - size), 255 - x, x)
    if name == "auto_contrast":
        low, high = x.amin((2, 3), True), x.amax((2, 3), True)
        return torch.where(high > low, ((x - low) * 255 / (high - low).clamp(min=1)).floor(), x)
    if name == "equalize":
        return _equalized(x)
    if name == "sharpness":
        kernel = torch.tensor([[1.0, 1, 1], [1, 5, 1], [1, 1, 1]], device=x.device).expand(3, 1, 3, 3) / 13
        other = x.clone()
        other[:, :, 1:-1, 1:-1] = F.conv2d(x, kernel, groups=3).round()
    else:
        grey = (x * torch.tensor([0.2989, 0.587, 0.114], device=x.device).view(1, 3, 1, 1)).sum(1, True).floor()
        other = {"brightness": torch.zeros_like(grey), "color": grey, "contrast": grey.mean((1, 2, 3), True)}[name]
    ratio = 1 + sign * size * ranges.blend
    return (ratio * x + (1 - ratio) * other).clamp(0, 255).floor()


def _equalized(x: Tensor) -> Tensor:
    """Every channel's histogram made even."""
    flat = x.flatten(2).long()
    counts = torch.zeros((*flat.shape[:2], 256), dtype=torch.long, device=x.device)
    counts.scatter_add_(2, flat, torch.ones_like(flat))
    step = (flat.shape[2] - counts.gather(2, flat.amax(2, True))) // 255
    below = counts.cumsum(2) - counts
    table = ((below + step // 2) // step.clamp(min=1)).clamp(0, 255)
    return torch.where(step > 0, table.gather(2, flat), flat).view(x.shape).to(x.dtype)
