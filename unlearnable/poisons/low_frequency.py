"""Class-wise smooth patterns of the lowest spatial frequencies: LF2 to LF8, no training.

Every class gets Gaussian coefficients for the n x n lowest frequencies of a cosine transform in each colour channel,
the rest zero. Less visible than blocks, but weaker than regions: peak accuracies of 43 % (n = 3) to 76 % (n = 8) in
"Poisons that are learned faster are more effective" (Sandoval-Segura et al. 2022, arXiv 2204.08615).

images: (N, 3, S, S) uint8, only their size is used; labels: (N,) int64; returns (N, 3, S, S) float, largest entry eps.

The paper does not say how patterns are scaled to the budget. "sign" saturates every pixel at -eps or +eps (no longer purely
low-frequency, and more visible); "shape" multiplies by eps / max, which leaves a root mean square of 2 to 3 levels out of 8
and next to no protection. The share of a clean victim's accuracy that survives is the published one with sign, and nearly
all with shape (benchmarks/results/reproduction.md): so sign is the default. Coefficients of two classes, mirrored or not,
are orthogonal or opposite where that can be.

Does not hide from whoever has the labels: class means reveal the pattern. Weak against colour removal for small n.
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
from unlearnable.poisons._patterns import Vectors
from unlearnable.types import Batch, Context, State

PAPER = "Sandoval-Segura et al. 2022, arXiv 2204.08615"
COST = "none"
LEVEL = "class"
NEEDS_LABELS = True
TRAINS = False
BLIND = True
PRESETS: dict[str, dict[str, object]] = {
    "lf2": {"n": 2},
    "lf3": {"n": 3},
    "lf4": {"n": 4},
    "lf5": {"n": 5},
    "lf6": {"n": 6},
    "lf7": {"n": 7},
    "lf8": {"n": 8},
}

_CANDIDATES = 64


@dataclass(frozen=True)
class Params:
    n: int = 4
    "frequencies per axis that are not zero"

    scaling: Literal["shape", "sign"] = "sign"
    "to the budget: sign saturates every pixel, shape keeps the waves and is far weaker"

    def __post_init__(self) -> None:
        if not 2 <= self.n <= 16:
            raise ValueError(f"n is 2 to 16, not {self.n}")
        if self.scaling not in ("shape", "sign"):
            raise ValueError(f"scaling is shape or sign, not {self.scaling!r}")


def fit(data: Batch | None, params: Params, context: Context) -> State:
    """Draws the coefficients of every class: {"patterns": {class: (3, n, n) float}}."""
    del data
    return extend({"patterns": {}}, params, context)


def extend(state: State, params: Params, context: Context) -> State:
    """The same state with patterns for classes that have none; patterns that exist stay."""
    if params.n > context.size:
        raise UsageError(f"{params.n} frequencies do not fit in {context.size} pixels.", "Use a smaller n.")
    shape = (3, params.n, params.n)
    # a mirrored image has the odd horizontal frequencies with the other sign
    signs = np.broadcast_to((-1.0) ** np.arange(params.n), shape).astype(np.float32).ravel()

    def pool(name: str) -> Vectors:
        rng = context.key.rng("low_frequency", params.n, name)
        drawn = rng.standard_normal((_CANDIDATES, signs.size))
        vectors: Vectors = (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)
        return vectors

    taken = {name: pattern.numpy().ravel() for name, pattern in state["patterns"].items()}
    try:
        drawn = _patterns.draw_apart(context.classes, taken, pool, lambda v: v * signs, step=0.05, limit=0.95)
    except ValueError as why:
        raise UsageError(f"{params.n} frequencies are too few for {len(context.classes)} classes: {why}.") from why
    return {"patterns": {name: torch.from_numpy(vector.reshape(shape)) for name, vector in drawn.items()}}


def delta(batch: Batch, state: State, params: Params, context: Context) -> Tensor:
    """The wave pattern of every image's class: an orthonormal inverse cosine transform of its coefficients."""
    basis = cosines(params.n, context.size)

    def enlarge(coefficients: Tensor) -> Tensor:
        waves = basis.T @ coefficients @ basis
        if params.scaling == "sign":
            return torch.where(waves < 0, -context.eps, context.eps)
        return waves * (context.eps / waves.abs().amax((1, 2, 3), keepdim=True))

    return _patterns.lookup(state["patterns"], batch, context, enlarge)


def cosines(n: int, size: int) -> Tensor:
    """(n, size): the n lowest rows of the orthonormal DCT-II matrix."""
    position = (torch.arange(size, dtype=torch.float64) + 0.5) * math.pi / size
    rows = torch.cos(torch.arange(n)[:, None] * position) * math.sqrt(2 / size)
    rows[0] *= math.sqrt(0.5)
    return rows.float()
