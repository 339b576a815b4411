"""Class-wise textures on the grid of JPEG: the sign of a low cosine of 8x8 blocks, tiled. The baseline of `grating`.

Class k owns one of the lowest functions of the cosine transform that JPEG uses; its sign, at the whole budget and alike in
all colours, fills every block of 8 pixels of the working size. signs "image" or "block" turn it around at random for every
image or block, so that a class's mean is near zero. Our own, after the rule of Sandoval-Segura et al. 2022, arXiv
2204.08615, that what is learned faster protects better.

images: (N, 3, S, S) uint8, only their size is used; labels: (N,) int64; returns (N, 3, S, S) float, -eps or +eps.

Kept to compare with: two of its functions may be one texture shifted, JPEG off the grid halves it, and who knows of it
removes block means (signs "image") or correlates each block with its class's function (signs "block"). Where the working
size is not the size of the files, the blocks are not JPEG's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from unlearnable.errors import UsageError
from unlearnable.poisons import _patterns
from unlearnable.types import Batch, Context, State

PAPER = "our own, after Sandoval-Segura et al. 2022, arXiv 2204.08615"
COST = "none"
LEVEL = "sample"
NEEDS_LABELS = True
TRAINS = False
PRESETS: dict[str, dict[str, object]] = {"texture": {}, "texture_block": {"signs": "block"}}

_BLOCK = 8
# lowest first, as JPEG's zigzag has them; mirrored, each is itself or its negative
_ORDER = sorted(((u, v) for u in range(_BLOCK) for v in range(_BLOCK) if u + v), key=lambda pair: (sum(pair), pair))


@dataclass(frozen=True)
class Params:
    signs: Literal["fixed", "image", "block"] = "image"
    "fixed: the same for a whole class; image, block: turned around at random for every image, or every block of it"

    def __post_init__(self) -> None:
        if self.signs not in ("fixed", "image", "block"):
            raise ValueError(f"signs is fixed, image or block, not {self.signs!r}")


def fit(data: Batch | None, params: Params, context: Context) -> State:
    """Gives every class its cosine: {"functions": {class: (2,) frequencies across and down, 0 to 7}}."""
    del data
    return extend({"functions": {}}, params, context)


def extend(state: State, params: Params, context: Context) -> State:
    """The same state with functions for classes that have none: the lowest that are free, dealt by the key."""
    del params
    taken: dict[str, Tensor] = dict(state["functions"])
    new = sorted(set(context.classes) - set(taken))
    used = {tuple(pair.tolist()) for pair in taken.values()}
    free = [pair for pair in _ORDER if pair not in used][: len(new)]
    if len(free) < len(new):
        raise UsageError(
            f"texture has {len(_ORDER)} functions, too few for {len(context.classes)} classes.",
            "Use --method grating with --set waves=2.",
        )
    dealt = context.key.rng("texture", "classes", len(taken)).permutation(len(new))
    return {"functions": taken | {name: torch.tensor(free[at]) for name, at in zip(new, dealt, strict=True)}}


def delta(batch: Batch, state: State, params: Params, context: Context) -> Tensor:
    """The tiled function of every image's class, with the signs that follow from the key and the image's id."""
    tiles = -(-context.size // _BLOCK)

    def tiled(functions: Tensor) -> Tensor:
        blocks = torch.stack([_signs(u, v) for u, v in functions.tolist()]) * context.eps
        return blocks.repeat(1, tiles, tiles)[:, None, : context.size, : context.size].expand(-1, 3, -1, -1)

    textures = _patterns.lookup(state["functions"], batch, context, tiled)
    side = {"fixed": 0, "image": 1, "block": tiles}[params.signs]
    if not side:
        return textures
    rngs = context.key.rngs("texture", "image", names=batch.ids)
    drawn = torch.from_numpy(np.stack([rng.integers(0, 2, (1, side, side)) for rng in rngs])) * 2.0 - 1
    wide = drawn.repeat_interleave(_BLOCK * tiles // side, 2).repeat_interleave(_BLOCK * tiles // side, 3)
    return textures * wide[:, :, : context.size, : context.size].to(textures)


def _signs(u: int, v: int) -> Tensor:
    """(8, 8) of -1 and 1: the cosine transform's function with frequencies u across and v down."""
    turns = (2 * torch.arange(_BLOCK) + 1) * math.pi / (2 * _BLOCK)
    return torch.where(torch.cos(v * turns)[:, None] * torch.cos(u * turns)[None] < 0, -1.0, 1.0)
