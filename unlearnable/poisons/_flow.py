"""Pictures bent by a flow: each pixel takes the colour from a place nearby, in between by bilinear interpolation.

Flows are (2, N, S, S), rightward then downward, in units in which the picture reaches from -1 to 1 between the centres of
its outermost pixels; (S - 1) / 2 of them are a pixel.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def places(side: int, device: torch.device) -> Tensor:
    """(2, 1, S, S): where the pixels are."""
    axis = torch.linspace(-1, 1, side, device=device)
    return torch.stack(torch.meshgrid(axis, axis, indexing="xy"))[:, None]


def bounds(side: int, reach: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Lowest and highest flow of each pixel: `reach`, and nowhere outside the picture."""
    here = places(side, device)
    return (-1 - here).clamp(min=-reach), (1 - here).clamp(max=reach)


def warp(images: Tensor, source: Tensor) -> Tensor:
    """(N, 3, S, S) whose pixels are those of `images` at `source`, (2, N, S, S) places inside; differentiable in both."""
    if images.is_cuda:  # the gradient of its sampling grid adds in another order every time
        return lookup(images, source)
    return F.grid_sample(images, source.permute(1, 2, 3, 0), mode="bilinear", align_corners=True)


def lookup(images: Tensor, source: Tensor) -> Tensor:
    """The same as `warp`, as weighted sums of four rows: the same bytes every time on every device."""
    count, side = len(images), images.shape[-1]
    position = (source.flatten(2) + 1) * ((side - 1) / 2)
    low = position.detach().floor().clamp(0, side - 2)
    share = position - low
    column, row = low.long()
    (right, down), (left, up) = share, 1 - share
    first = torch.arange(count, device=images.device)[:, None] * side**2 + row * side + column
    corners = torch.stack([first, first + 1, first + side, first + side + 1], dim=-1)
    weights = torch.stack([left * up, right * up, left * down, right * down], dim=-1)
    rows = images.flatten(2).transpose(1, 2).flatten(0, 1)
    found = F.embedding_bag(corners.flatten(0, 1), rows, per_sample_weights=weights.flatten(0, 1), mode="sum")
    return found.view(count, side, side, 3).permute(0, 3, 1, 2)
