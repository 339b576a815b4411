"""Class-wise textures: a product of two square waves whose frequencies name the class, with new phases for every image.

Every class owns a pair of low spatial frequencies (cycles across and down the image). Each image gets sign(cos) of the one
times sign(cos) of the other at the whole budget, with phases and sign of its own. A stationary texture is what a
convolution learns first; its energy lies where JPEG's coarsest steps leave it; and since phases are random, a class's mean
perturbation is near zero, so that averaging by label finds nothing. Our own design, after the rule of Sandoval-Segura et al.
2022, arXiv 2204.08615, that what is learned faster protects better; its figures are in benchmarks/results.

colour "grey" puts the same texture into red, green and blue, so that grayscale keeps all of it. "opponent" turns one channel
against the other two, another one in another class: that sign survives any crop and scale, where frequencies do not, so it
is for photos, whose trainers crop at random; grayscale leaves less of it.

images: (N, 3, S, S) uint8, only their size is used; labels: (N,) int64; returns (N, 3, S, S) float, -eps or +eps.

Secrecy is not what it rests on: who has the labels can read a class's frequencies off a release's spectra and filter them
out. Adversarial training undoes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unlearnable.errors import UsageError
from unlearnable.poisons import _patterns
from unlearnable.types import Batch, Context, State

PAPER = "our own, after Sandoval-Segura et al. 2022, arXiv 2204.08615"
COST = "none"
LEVEL = "sample"
NEEDS_LABELS = True
TRAINS = False
PRESETS: dict[str, dict[str, object]] = {
    "grating": {},
    "grating_photo": {"low": 8.0, "high": 16.0, "colour": "opponent"},
}

_CLOSEST = 0.5  # cycles an image; nearer frequencies look the same to a network that crops
_SIGNS = {
    "grey": ((1.0, 1.0, 1.0),),
    "opponent": ((-1.0, 1.0, 1.0), (1.0, -1.0, 1.0), (1.0, 1.0, -1.0)),
}


@dataclass(frozen=True)
class Params:
    low: float = 4.0
    "lowest frequency other than zero, in cycles an image"

    high: float = 8.0
    "highest frequency, in cycles an image"

    colour: Literal["grey", "opponent"] = "grey"
    "grey: the same in every channel; opponent: one channel against the others, which one names the class too"

    def __post_init__(self) -> None:
        if not 1 <= self.low < self.high <= 64:
            raise ValueError(f"low and high are 1 to 64 cycles and low is below high, not {self.low} and {self.high}")
        if self.colour not in _SIGNS:
            raise ValueError(f"colour is grey or opponent, not {self.colour!r}")


def fit(data: Batch | None, params: Params, context: Context) -> State:
    """Gives every class its texture: {"textures": {class: (5,) cycles across and down, signs of red, green, blue}}."""
    del data
    return extend({"textures": {}}, params, context)


def extend(state: State, params: Params, context: Context) -> State:
    """The same state with textures for classes that have none, as far as can be from all that are taken."""
    taken: dict[str, Tensor] = dict(state["textures"])
    for name in sorted(set(context.classes) - set(taken)):
        used = torch.stack(list(taken.values())).numpy() if taken else np.zeros((0, 5))
        taken[name] = torch.from_numpy(_farthest(used, params, context.key.rng("grating", "class", name)))
    return {"textures": taken}


def delta(batch: Batch, state: State, params: Params, context: Context) -> Tensor:
    """The texture of every image's class, in phases that follow from the key and the image's id."""
    del params
    present, which = torch.unique(batch.labels.cpu(), return_inverse=True)
    codes = torch.stack([_patterns.find(state["textures"], context.classes[label]) for label in present.tolist()])[
        which
    ]
    drawn = [rng.random(3) for rng in context.key.rngs("grating", "image", names=batch.ids)]
    phases = torch.from_numpy(np.stack(drawn))
    across = _wave(codes[:, 0], phases[:, 0], context.size)
    down = _wave(codes[:, 1], phases[:, 1], context.size)
    sign = torch.where(phases[:, 2] < 0.5, -context.eps, context.eps)
    texture = (sign[:, None] * down).float()[:, :, None] * across.float()[:, None, :]
    return (codes[:, 2:].float()[:, :, None, None] * texture[:, None]).to(batch.images.device)


def _wave(frequency: Tensor, phase: Tensor, size: int) -> Tensor:
    """(N,) cycles and phases in turns -> (N, size) of -1 and 1; frequency 0 is 1 everywhere."""
    turns = frequency[:, None] * (torch.arange(size) + 0.5) / size + phase[:, None]
    wave = torch.where(torch.cos(2 * torch.pi * turns) < 0, -1.0, 1.0)
    return torch.where(frequency[:, None] == 0, 1.0, wave)


def _farthest(used: NDArray[np.float64], params: Params, rng: np.random.Generator) -> NDArray[np.float64]:
    """The candidate farthest from all used; the grid of frequencies gets finer until one is far enough to take.

    Colours that differ count like frequencies a whole band apart.
    """
    band = spacing = params.high - params.low
    weights = np.array([1, 1, band / 2, band / 2, band / 2])  # two of three signs differ, by 2 each
    while spacing >= _CLOSEST:
        steps = [0.0, *np.arange(params.low, params.high + 1e-9, spacing)]
        # a texture fine in both directions is what JPEG at quality 10 throws away
        pairs = [(x, y) for x in steps for y in steps if 0 < x + y <= 1.5 * params.high]
        candidates: NDArray[np.float64] = rng.permutation(
            [(*pair, *signs) for pair in pairs for signs in _SIGNS[params.colour]]
        )
        if not len(used):
            return np.asarray(candidates[0])
        distance = np.linalg.norm((candidates[:, None] - used[None]) * weights, axis=2).min(1)
        if distance.max() >= spacing - 1e-9:
            return np.asarray(candidates[int(distance.argmax())])
        spacing /= 2
    raise UsageError(
        f"{len(used) + 1} classes cannot have textures of their own between {params.low:g} and {params.high:g} cycles.",
        "Widen the band, such as --set high=16, or use --preset r16.",
    )
