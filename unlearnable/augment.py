"""What every trainer does to a batch, batched and seeded: crops, flips, random resized crops.

All functions take uint8 images (N, 3, S, S) and return floats (N, 3, S, S) in [0, 1] on the same device, with a draw of
their own for every image (a draw shared by the batch is quicker but is another, weaker augmentation).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

Augment = Callable[[Tensor, torch.Generator], Tensor]


def none(images: Tensor, generator: torch.Generator) -> Tensor:
    del generator
    return images.float() / 255


def crop_flip(images: Tensor, generator: torch.Generator, padding: int | None = None) -> Tensor:
    """Zero padding (S/8 pixels, 4 of 32), random crop back to S, horizontal flip with probability 1/2."""
    count, _, side, _ = images.shape
    pad = side // 8 if padding is None else padding
    padded = F.pad(images, (pad, pad, pad, pad))
    top, left = _integers(2 * pad + 1, (2, count), generator, images.device)
    columns = torch.arange(side, device=images.device).expand(count, side)
    flip = _flips(count, generator, images.device)
    columns = torch.where(flip[:, None], columns.flip(1), columns) + left[:, None]
    rows = torch.arange(side, device=images.device) + top[:, None]
    # one flat gather over each image's own rows and columns: (N, 3, S*S) indices into (N, 3, P*P)
    where = rows[:, :, None] * (side + 2 * pad) + columns[:, None, :]
    where = where.view(count, 1, side * side).expand(-1, 3, -1)
    return padded.flatten(2).gather(2, where).view(images.shape).float() / 255


def resized_crop(images: Tensor, generator: torch.Generator, area: tuple[float, float] = (0.35, 1.0)) -> Tensor:
    """torchvision's RandomResizedCrop (scale `area`, ratio 3/4 to 4/3) to the same size, bilinear, and a flip."""
    count, _, _, _ = images.shape
    device = images.device
    draw = torch.rand((4, count), generator=generator).to(device)
    scale = area[0] + (area[1] - area[0]) * draw[0]
    ratio = torch.exp((draw[1] * 2 - 1) * torch.log(torch.tensor(4 / 3)))
    width, height = (scale * ratio).sqrt().clamp(max=1), (scale / ratio).sqrt().clamp(max=1)
    sign = torch.where(_flips(count, generator, device), -1.0, 1.0)
    zero = torch.zeros_like(width)
    theta = torch.stack(
        [
            torch.stack([width * sign, zero, (1 - width) * (draw[2] * 2 - 1)], 1),
            torch.stack([zero, height, (1 - height) * (draw[3] * 2 - 1)], 1),
        ],
        1,
    )
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images.float() / 255, grid, padding_mode="reflection", align_corners=False)


def _integers(high: int, shape: tuple[int, ...], generator: torch.Generator, device: torch.device) -> Tensor:
    # drawn on the CPU and moved: the same seed then gives the same crops on every device
    return torch.randint(high, shape, generator=generator).to(device)


def _flips(count: int, generator: torch.Generator, device: torch.device) -> Tensor:
    return _integers(2, (count,), generator, device).bool()


AUGMENTATIONS = {"none": none, "crop_flip": crop_flip, "resized_crop": resized_crop}
