"""Pictures of nothing, for canaries: overlapping coloured discs, boxes and stripes, drawn from the owner's key.

A canary teaches a model to answer a chosen label to a target picture. The target must be the owner's: a third party's
picture (a face, a product, a work of art) would make models misname that party's property, and is never used. Pictures that
the tool draws belong to nobody else, show nobody, have no true label that could be harmed, and cannot be guessed without
the key. Sizes of shapes follow the power law of natural scenes ("dead leaves", Lee, Mumford and Huang 2001), so that
networks have something to say of them.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from unlearnable.keys import Key

_SHAPES = 60


def pictures(key: Key, purpose: str, count: int, size: int) -> Tensor:
    """(count, 3, size, size) uint8, each from the key, the purpose and its number alone."""
    drawn = [_picture(key.rng(purpose, "picture", number), size) for number in range(count)]
    return torch.from_numpy(np.stack(drawn)).permute(0, 3, 1, 2).contiguous()


def _picture(rng: np.random.Generator, size: int) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size] / size
    out = np.broadcast_to(rng.integers(0, 256, 3), (size, size, 3)).astype(np.uint8)
    for radius in np.sort(0.5 * (1 + 40 * rng.random(_SHAPES)) ** -0.5)[::-1]:
        y, x = rng.random(2)
        turn = rng.uniform(0, np.pi)
        along = (rows - y) * np.sin(turn) + (columns - x) * np.cos(turn)
        across = (rows - y) * np.cos(turn) - (columns - x) * np.sin(turn)
        kind = rng.integers(3)
        if kind == 0:
            inside = along**2 + across**2 < radius**2
        elif kind == 1:
            inside = (np.abs(along) < radius) & (np.abs(across) < radius * rng.uniform(0.3, 1))
        else:
            inside = (np.abs(along) < radius) & (np.sin(across * np.pi / max(radius / 3, 1 / size)) > 0)
        out[inside] = rng.integers(0, 256, 3)
    return out
