"""Class-wise textures: square waves whose frequency and direction name the class, with new phases for every image.

Every class owns a pair of low spatial frequencies (cycles across and down the image). Each image gets sign(cos) of the one
times sign(cos) of the other at the whole budget, with phases and sign of its own. As long as there are enough, one of the
two is zero: a wave straight across or down has all its power at one frequency, and JPEG's coarsest steps leave more of that
than of a product of two. A stationary texture is what a convolution learns first; and since phases are random,
a class's mean perturbation is near zero, so that averaging by label finds nothing. Our own design, after the rule of
Sandoval-Segura et al. 2022, arXiv 2204.08615, that what is learned faster protects better; its figures are in
benchmarks/results.

colour "grey" puts the same texture into red, green and blue, so that grayscale keeps all of it. "opponent" turns one channel
against the other two, another one in another class: that sign survives any crop and scale, where frequencies do not, but
grayscale leaves less of it. "any" has both, for photos, whose trainers crop at random. With several `waves` or `octaves` the
products are added before the cut, and each has less of the budget. With a `duty` below a half the raised part of a texture
is the smaller one, and a class may have the texture of another turned over: the two have the same spectrum, and nothing to
filter out. With `jitter` every image moves its class's frequencies by as much at most, up or down, each by a draw of its
own: a scraper who compares the spectra of classes finds a blurred line to filter out, at some cost in strength.

blue is the share of images whose blue channel has a wave of its own, another one than red and green have. Pictures hold
little power in blue against yellow, so that this second texture stands out and is learned at once. Blue is a ninth of luma:
grayscale leaves the wave of red and green nearly whole, but what JPEG's coarsest steps leave of it is less.

images: (N, 3, S, S) uint8, only their size is used; labels: (N,) int64; returns (N, 3, S, S) float, -eps or +eps, or in
between where the waves are soft.

Secrecy is not what it rests on: who has the labels can read a class's frequencies off a release's spectra, with `jitter` as
blurred lines, and undo most of it. Adversarial training undoes it too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from unlearnable.poisons import _bands
from unlearnable.types import Batch, Context, State

PAPER = "our own, after Sandoval-Segura et al. 2022, arXiv 2204.08615"
COST = "none"
LEVEL = "sample"
NEEDS_LABELS = True
TRAINS = False
BLIND = True
PRESETS: dict[str, dict[str, object]] = {
    "grating": {},
    "grating_blue": {"blue": 1.0},
    "grating_photo": {"low": 4.0, "high": 14.0, "colour": "any", "crops": True},
}


@dataclass(frozen=True)
class Params(_bands.Params):
    """Those of every texture with a band, and one more."""

    low: float = 3.0
    high: float = 9.0
    directions: Literal["axes", "all"] = "axes"

    blue: float = 0.0
    "share of the images, 0 to 1, whose blue channel has another wave than red and green; where colour is grey"

    jitter: float = 0.0
    "cycles an image by which each image's frequencies lie off its class's at most"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.jitter < self.low:
            raise ValueError(f"jitter is 0 or above, and below low ({self.low:g}), not {self.jitter}")
        if not 0 <= self.blue <= 1:
            raise ValueError(f"blue is 0 to 1, not {self.blue}")


def fit(data: Batch | None, params: Params, context: Context) -> State:
    """Gives every class its texture: {"textures": {class: cycles across and down, signs of red, green, blue}}.

    And {"blue": the same of blue} where it has waves of its own.
    """
    del data
    own: State = {"blue": {}} if params.blue and params.colour == "grey" else {}
    return extend({"textures": {}} | own, params, context)


def extend(state: State, params: Params, context: Context) -> State:
    """The same state with textures for classes that have none, as far as can be from all that are taken."""
    return _bands.extended(state, params, context, "grating")


def delta(batch: Batch, state: State, params: Params, context: Context) -> Tensor:
    """The texture of every image's class, in phases that follow from the key and the image's id."""
    made = _textures(batch, state["textures"], params, context, "")
    if "blue" in state:
        own = [rng.random() < params.blue for rng in context.key.rngs("grating", "blue", names=batch.ids)]
        made[own, 2] = _textures(batch, state["blue"], params, context, "blue ")[own, 2]
    return made.to(batch.images.device)


def _textures(batch: Batch, codes: _bands.ByClass, params: Params, context: Context, part: str) -> Tensor:
    """(N, 3, S, S): the waves of these codes, each image's moved and turned over by draws of its own."""
    pairs, colours = _bands.of(batch, codes, context)
    if params.jitter:
        rngs = context.key.rngs("grating", f"{part}jitter", names=batch.ids)
        moved = np.stack([rng.random(2 * pairs.shape[1]) for rng in rngs])
        shifts = params.jitter * (2 * torch.from_numpy(moved).view(pairs.shape) - 1)
        pairs = pairs + shifts * (pairs > 0)  # a wave along one axis stays on it
    pairs = torch.cat([pairs / 2**octave for octave in range(params.octaves + 1)], 1)
    count = pairs.shape[1]
    rngs = context.key.rngs("grating", f"{part}image", names=batch.ids)
    drawn = np.stack([rng.random(2 * count + 1) for rng in rngs])
    phases = torch.from_numpy(drawn[:, :-1]).reshape(-1, count, 2)
    waves = torch.zeros((len(batch), context.size, context.size), dtype=torch.float64)
    for pair, phase in zip(pairs.unbind(1), phases.unbind(1), strict=True):
        across, down = (_cosine(pair[:, axis], phase[:, axis], context.size) for axis in (0, 1))
        waves += down[:, :, None] * across[:, None, :]
    if params.duty == 0.5:
        colours = colours * torch.where(torch.from_numpy(drawn[:, -1:]) < 0.5, -1.0, 1.0)
    return _bands.painted(waves, colours, params, context.eps)


def _cosine(frequency: Tensor, phase: Tensor, size: int) -> Tensor:
    """(N,) cycles and phases in turns -> (N, size) in -1 to 1; frequency 0 is 1 everywhere."""
    turns = frequency[:, None] * (torch.arange(size) + 0.5) / size + phase[:, None]
    return torch.where(frequency[:, None] == 0, 1.0, torch.cos(2 * torch.pi * turns))
