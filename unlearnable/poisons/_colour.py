"""Colours in CIELUV, and a grid over them that says how each colour moves.

CIELUV (CIE 1976, white D65, of sRGB) is scaled so that L* of 0 to 100 and u*, v* of -100 to 100 are 0 to 1; the most
saturated colours of sRGB lie a little outside that cube and move as the nearest colour inside it. Colour planes come first
here: (3, ...). All functions but `into_gamut` are differentiable, everywhere with finite gradients.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

NODES = (16, 32, 32)  # of the grid, along L, u and v

_TO_XYZ = torch.tensor(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]],
    dtype=torch.float64,
)
_X, _Y, _Z = _TO_XYZ.tolist()
_FROM_XYZ: list[list[float]] = torch.linalg.inv(_TO_XYZ).tolist()
_SUM = [x + 15 * y + 3 * z for x, y, z in zip(_X, _Y, _Z, strict=True)]  # the denominator of u' and v'
_WHITE_U, _WHITE_V = 4 * sum(_X) / sum(_SUM), 9 * sum(_Y) / sum(_SUM)


def from_rgb(rgb: Tensor) -> Tensor:
    """(3, ...) sRGB in [0, 1] -> (3, ...) scaled CIELUV."""
    curve = ((rgb.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4
    return _from_light(torch.where(rgb > 0.04045, curve, rgb / 12.92))


def to_rgb(luv: Tensor) -> Tensor:
    """(3, ...) scaled CIELUV -> (3, ...) sRGB in [0, 1]; a colour that no screen shows is clipped in linear light."""
    light = _to_light(luv).clamp(0, 1)
    curve = 1.055 * light.clamp(min=0.0031308) ** (1 / 2.4) - 0.055
    return torch.where(light > 0.0031308, curve, light * 12.92)


def into_gamut(luv: Tensor) -> Tensor:
    """The colours, clipped to the cube and to what sRGB has. Its transfer curve is monotone and is left out."""
    return _from_light(_to_light(luv.clamp(0, 1)).clamp_(0, 1))


def _from_light(light: Tensor) -> Tensor:
    x, y, total = (_mixed(row, light) for row in (_X, _Y, _SUM))
    linear = y * (29 / 3) ** 3
    lightness = torch.where(linear > 8, 116 * y.clamp(min=1e-3) ** (1 / 3) - 16, linear)
    scale = 13 * lightness / total.clamp(min=1e-9)
    u = scale * (4 * x - _WHITE_U * total)
    v = scale * (9 * y - _WHITE_V * total)
    return torch.stack([lightness / 100, u / 200 + 0.5, v / 200 + 0.5])


def _to_light(luv: Tensor) -> Tensor:
    lightness = luv[0] * 100
    y = torch.where(lightness > 8, ((lightness + 16) / 116) ** 3, lightness * (3 / 29) ** 3)
    # u' and v' times 13 L*: no division by the lightness, which is 0 in black
    u = (luv[1] - 0.5) * 200 + 13 * _WHITE_U * lightness
    v = ((luv[2] - 0.5) * 200 + 13 * _WHITE_V * lightness).clamp(min=1e-6)
    ratio = y / (4 * v)
    xyz = torch.stack([9 * u * ratio, y, (156 * lightness - 3 * u) * ratio - 5 * y])
    return torch.stack([_mixed(row, xyz) for row in _FROM_XYZ])


def _mixed(row: Sequence[float], planes: Tensor) -> Tensor:
    # in numbers: a matrix would have to be copied to the device each time
    return torch.add(row[0] * planes[0], planes[1], alpha=row[1]).add(planes[2], alpha=row[2])


class Grid:
    """Where the pixels of a batch lie among the nodes of their own grids: trilinear weights of eight corners each.

    The pixels do not move while nodes are learned, so that both directions are prepared once as weighted sums of rows:
    fast, and, unlike a scatter, on CUDA the same bytes every time.
    """

    def __init__(self, luv: Tensor) -> None:
        """luv: (3, N, S, S), the scaled CIELUV of the clean images."""
        _, count, *self.sides = luv.shape
        node = torch.arange(count, device=luv.device, dtype=torch.int32)[:, None, None, None]
        weights = torch.ones((1, 1, 1, 1), device=luv.device)
        for plane, nodes in zip(luv, NODES, strict=True):
            position = plane.clamp(0, 1)[..., None] * (nodes - 1)
            low = position.floor().clamp(max=nodes - 2)
            share = torch.cat([1 - (position - low), position - low], dim=-1)
            corner = torch.cat([low, low + 1], dim=-1).int()
            node = (node[..., :, None] * nodes + corner[..., None, :]).flatten(-2)
            weights = (weights[..., :, None] * share[..., None, :]).flatten(-2)
        self.corners, self.weights = node.flatten(0, -2), weights.flatten(0, -2)
        nodes_in_order, order = self.corners.flatten().sort(stable=True)
        self.pixels, self.shares = (order // 8).int(), self.weights.flatten()[order]
        every = torch.arange(count * NODES[0] * NODES[1] * NODES[2] + 1, device=luv.device, dtype=torch.int32)
        self.first = torch.searchsorted(nodes_in_order, every, out_int32=True)

    def read(self, nodes: Tensor) -> Tensor:
        """(3, N, 16, 32, 32) values at the nodes -> (3, N, S, S) at the pixels."""
        rows = nodes.flatten(1).t().contiguous()
        out = F.embedding_bag(self.corners, rows, per_sample_weights=self.weights, mode="sum")
        return out.t().view(3, -1, *self.sides)

    def spread(self, gradient: Tensor) -> Tensor:
        """The adjoint of `read`: (3, N, S, S) gradients at the pixels -> (3, N, 16, 32, 32) at the nodes."""
        rows = gradient.flatten(1).t().contiguous()
        out = F.embedding_bag(
            self.pixels, rows, self.first, per_sample_weights=self.shares, mode="sum", include_last_offset=True
        )
        return out.t().view(3, -1, *NODES)


def nodes(device: torch.device) -> Tensor:
    """(3, 1, 16, 32, 32): the colours of the nodes."""
    axes = [torch.linspace(0, 1, count, device=device) for count in NODES]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))[:, None]
