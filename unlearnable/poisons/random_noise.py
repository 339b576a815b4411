"""Uniform random noise: the control arm, which protects nothing unless it is the same for a whole class.

A release whose victims fare no worse under a poison than under this noise is not protected. Noise of its own for every
image leaves accuracy near the clean one; one noise per class ("class") is the random class-wise noise of "Unlearnable
Examples" (Huang et al. 2021, arXiv 2101.04898), which a network learns as a shortcut.

images: (N, 3, S, S) uint8, only their size is used; returns (N, 3, S, S) float, whole grey levels uniform in -eps..eps.

Noise is keyed by the record's id (or by the class name), not by its place in the batch. Does not need labels at its
default level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unlearnable.poisons import _patterns
from unlearnable.types import Batch, Context, State

PAPER = "control arm; class-wise in Huang et al. 2021, arXiv 2101.04898"
COST = "none"
LEVEL = "sample"
NEEDS_LABELS = False
TRAINS = False
BLIND = True
PRESETS: dict[str, dict[str, object]] = {}


@dataclass(frozen=True)
class Params:
    level: Literal["sample", "class"] = "sample"
    "sample: new noise for every image (control); class: one noise for each class"

    def __post_init__(self) -> None:
        if self.level not in ("sample", "class"):
            raise ValueError(f"level is sample or class, not {self.level!r}")


def fit(data: Batch | None, params: Params, context: Context) -> State:
    """Nothing to find: every draw follows from the key."""
    del data, params, context
    return {}


def extend(state: State, params: Params, context: Context) -> State:
    """Nothing to add: a new class or image has its draw already."""
    del params, context
    return state


def delta(batch: Batch, state: State, params: Params, context: Context) -> Tensor:
    """Whole grey levels, uniform in -levels..levels, for every image or every class."""
    del state
    if params.level == "class":
        present = [context.classes[label] for label in torch.unique(batch.labels).tolist()]
        noises = dict(zip(present, torch.from_numpy(_draw("class", present, context)), strict=True))
        return _patterns.lookup(noises, batch, context, lambda noise: noise.float() / 255)
    return torch.from_numpy(_draw("image", batch.ids, context)).to(batch.images.device).float().div_(255)


def _draw(kind: str, names: Sequence[str], context: Context) -> NDArray[np.int8]:
    """(N, 3, S, S) int8: noise that depends on the key and on each name alone."""
    shape = (3, context.size, context.size)
    out = np.empty((len(names), *shape), np.int8)
    for place, rng in enumerate(context.key.rngs("random_noise", kind, names=names)):
        out[place] = rng.integers(-context.levels, context.levels, shape, np.int8, endpoint=True)
    return out
