"""Class patterns: one secret vector per class name, far from every other, and quick lookup by label."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unlearnable.errors import UsageError
from unlearnable.types import Batch, Context

Vectors = NDArray[np.float32]  # (number, D), every row with the same or unit length


def draw_apart(
    names: Iterable[str],
    taken: dict[str, Vectors],
    pool: Callable[[str], Vectors],
    mirror: Callable[[Vectors], Vectors],
    step: float,
    limit: float,
) -> dict[str, Vectors]:
    """Draws one vector for each name that has none yet, in the order of the names, and leaves `taken` as it is.

    pool(name): (P, D) candidates of a class. A candidate's closeness is its largest cosine with a vector that is taken
    or with its mirror image: trainers flip images, so a pattern and its mirror must not be two classes. The first
    candidate at or below 0 wins, else the first at or below `step`, then 2 `step` ... up to `limit`; past it ValueError
    is raised. For +-1 vectors of D bits cosine 0 is a Hamming distance of D/2, and a step of 2/D is one bit.
    """
    out = dict(taken)
    for name in sorted(set(names) - set(taken)):
        candidates = pool(name)
        chosen = 0
        if out:
            others = np.stack(list(out.values()))
            others = np.concatenate([others, mirror(others)])
            length = np.linalg.norm(candidates, axis=1) * np.linalg.norm(others[0])
            closeness = np.maximum((candidates @ others.T).max(1) / length, 0)
            chosen = int(np.argmin(np.ceil(closeness / step - 1e-4)))
            if closeness[chosen] > limit + 1e-4:
                raise ValueError(f"no pattern for class {name!r} differs enough from the {len(out)} drawn before it")
        out[name] = candidates[chosen]
    return out


def lookup(patterns: dict[str, Tensor], batch: Batch, context: Context, enlarge: Callable[[Tensor], Tensor]) -> Tensor:
    """(N, 3, S, S): the pattern of every image's class, where `enlarge` turns the stacked ones into (P, 3, S, S).

    Only classes in the batch are enlarged, so that a thousand classes of large images do not fill the memory. Images of a
    batch of one class share one pattern: nobody may write to it.
    """
    present, which = torch.unique(batch.labels, return_inverse=True)
    table = enlarge(torch.stack([find(patterns, context.classes[label]) for label in present.tolist()]))
    table = table.to(batch.images.device)
    if len(present) == 1:
        return table.expand(len(batch.labels), *table.shape[1:])
    return table.index_select(0, which.to(table.device))


def find(patterns: dict[str, Tensor], name: str) -> Tensor:
    if name not in patterns:
        raise UsageError(f"Class {name!r} has no pattern: it was not there when this protection was fitted.")
    return patterns[name]
