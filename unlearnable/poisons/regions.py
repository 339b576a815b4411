"""Class-wise colour blocks: R1 to R128 and RN, no training.

Every class gets a grid of equal blocks, each colour channel of a block shifted by the whole budget up or down. Networks
learn the blocks in an epoch or two and nothing else. R4 and R16 have the lowest peak accuracy of all poisons that were
compared in "Poisons that are learned faster are more effective" (Sandoval-Segura et al. 2022, arXiv 2204.08615).

images: (N, 3, S, S) uint8, only their size is used; labels: (N,) int64; returns (N, 3, S, S) float, -eps or +eps.

What the paper leaves open is chosen here: blocks form the squarest grid with at least as many rows as columns, so R2 is
a top and a bottom half (a trainer's horizontal flip leaves them alone) and R128 is 16 rows of 8 blocks, 4 wide and 2
high on 32 pixels. RN is a 32 x 32 grid at every working size: one block per pixel of a 32-pixel image. Patterns are drawn
without replacement, half of the bits apart from each other and from each other's mirror images where that can be.

Does not hide: blocks of few regions can be seen, and whoever has the labels can average a pattern out of a release
(orthogonal projection). Weak against JPEG compression for fine grids and against adversarial training.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from unlearnable.errors import UsageError
from unlearnable.poisons import _patterns
from unlearnable.poisons._patterns import Vectors
from unlearnable.types import Batch, Context, State

PAPER = "Sandoval-Segura et al. 2022, arXiv 2204.08615"
COST = "none"
LEVEL = "class"
NEEDS_LABELS = True
TRAINS = False
BLIND = True
PRESETS: dict[str, dict[str, object]] = {
    "r1": {"count": 1},
    "r2": {"count": 2},
    "r4": {"count": 4},
    "r16": {"count": 16},
    "r64": {"count": 64},
    "r128": {"count": 128},
    "rn": {"count": 1024},
}

_ENUMERATED = 12  # up to this many bits every pattern is a candidate


@dataclass(frozen=True)
class Params:
    count: int = 16
    "number of blocks in the pattern: few are strong and visible, many are fine-grained"

    def __post_init__(self) -> None:
        if not 1 <= self.count <= 1024:
            raise ValueError(f"count is 1 to 1024, not {self.count}")


def fit(data: Batch | None, params: Params, context: Context) -> State:
    """Draws the pattern of every class: {"patterns": {class: (3, rows, columns) int8 of -1 and 1}}."""
    del data
    return extend({"patterns": {}}, params, context)


def extend(state: State, params: Params, context: Context) -> State:
    """The same state with patterns for classes that have none; patterns that exist stay. UsageError when it is full."""
    rows, columns = grid(params.count, context.size)
    bits = 3 * rows * columns

    def pool(name: str) -> Vectors:
        rng = context.key.rng("regions", params.count, name)
        if bits <= _ENUMERATED:
            drawn = rng.permutation(2**bits)[:, None] >> np.arange(bits) & 1
        else:  # random patterns of many bits are half of them apart by themselves: few candidates will do
            drawn = rng.integers(0, 2, (256 if bits <= 200 else 32, bits))
        return (2 * drawn - 1).astype(np.float32)

    def mirror(vectors: Vectors) -> Vectors:
        return vectors.reshape(-1, 3, rows, columns)[:, :, :, ::-1].reshape(-1, bits)

    taken = {name: pattern.numpy().astype(np.float32).ravel() for name, pattern in state["patterns"].items()}
    try:
        drawn = _patterns.draw_apart(context.classes, taken, pool, mirror, step=2 / bits, limit=1 - 2 / bits)
    except ValueError as why:
        raise UsageError(
            f"{params.count} region(s) are too few for {len(context.classes)} classes: {why}.",
            "Use more regions: --preset r4 or r16.",
        ) from why
    shape = (3, rows, columns)
    return {"patterns": {name: torch.from_numpy(v.reshape(shape).astype(np.int8)) for name, v in drawn.items()}}


def delta(batch: Batch, state: State, params: Params, context: Context) -> Tensor:
    """The block pattern of every image's class at the working size, nearest neighbour."""
    rows, columns = grid(params.count, context.size)
    pixel = torch.arange(context.size)
    row, column = pixel * rows // context.size, pixel * columns // context.size

    def enlarge(patterns: Tensor) -> Tensor:
        return (patterns.float() * context.eps)[:, :, row][:, :, :, column].contiguous()

    return _patterns.lookup(state["patterns"], batch, context, enlarge)


def grid(count: int, size: int) -> tuple[int, int]:
    """(rows, columns) of the squarest grid of `count` blocks, rows >= columns; none thinner than a pixel."""
    columns = max(c for c in range(1, int(count**0.5) + 1) if count % c == 0)
    return min(count // columns, size), min(columns, size)
