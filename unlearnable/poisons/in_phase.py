"""Class-wise waves in each picture's own phase: what a picture holds at its class's frequency is made stronger.

Like `grating`, every class owns a pair of low spatial frequencies, and each image gets a wave of them at the whole budget, cut
to its edges. Its phase is not drawn: it is that of the picture's own component at the frequency, so that the two add up in
every image, where a wave of random phase cancels as often. The texture stands out more from the pictures at the same
budget, and what JPEG's coarse steps, few bits or a smaller size leave of it is more. A pair of two frequencies stands for
the waves (x, y) and (x, -y), each in its own phase. Our own design, after the rule of Sandoval-Segura et al. 2022, arXiv
2204.08615, that what is learned faster protects better; figures are in benchmarks/results, tries in benchmarks/strength/LOG.md.

images: (N, 3, S, S) uint8; labels: (N,) int64; returns (N, 3, S, S) float, -eps or +eps, or in between where the waves are
soft. An image with nothing at a frequency (a single colour) gets a phase drawn by the key and its id; nothing else is random
after the codes of the classes. Phases are sums of floats: on another kind of processor, a pixel where the wave is next to
nothing may fall to its other side.

The phase is measured in luma, through the signs of the class's colours. The band is for images of about 32 pixels, where
pictures hide what is coarser, and half the size or JPEG at quality 10 take what is finer; that counts in pixels, so photos
want a higher one, and `crops` where trainers crop at random (low 7, high 14 and directions "axes" at 64 pixels). Images too
small for their frequencies get lower ones. With `blue`, the blue channel has a wave of its own, in the phase of blue against
yellow: pictures hold little there, so it is learned at once; but luma, and so JPEG's coarse steps, keep less of the other.

What a network learns from clean colours in its first steps it learns here too. Secrecy is not what it rests on. Who has the
labels can read a class's frequencies off a release's spectra, and **subtract the wave nearly exactly**: it has the phase that
the protected picture shows (countermeasure `subtract`). Pictures of a class may agree a little in their phases, so that a
class's mean perturbation need not be zero. Adversarial training was not measured; nothing suggests that it is withstood.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
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
PRESETS: dict[str, dict[str, object]] = {"in_phase": {}, "in_phase_blue": {"blue": True}}

_LUMA = (299, 587, 114)  # in whole numbers: their sums are exact in float32
_YELLOW = (-500, -500, 1000)  # blue against the mean of red and green
_FAINT = 1e-2  # grey levels: a component below it has no phase to go by


@dataclass(frozen=True)
class Params(_bands.Params):
    """Those of every texture with a band, on a ring of frequencies that pictures do not hide and JPEG does not take."""

    low: float = 5.2
    high: float = 7.5
    directions: Literal["axes", "ring", "all"] = "ring"

    blue: bool = False
    "whether the blue channel has another wave than red and green; where colour is grey"


def fit(data: Batch | None, params: Params, context: Context) -> State:
    """Gives every class its texture: {"textures": {class: cycles across and down, signs of red, green, blue}}.

    And {"blue": the same of blue} where it has waves of its own.
    """
    del data
    own: State = {"blue": {}} if params.blue and params.colour == "grey" else {}
    return extend({"textures": {}} | own, params, context)


def extend(state: State, params: Params, context: Context) -> State:
    """The same state with textures for classes that have none, as far as can be from all that are taken."""
    return _bands.extended(state, params, context, "in_phase")


def delta(batch: Batch, state: State, params: Params, context: Context) -> Tensor:
    """The texture of every image's class, in the image's phases."""
    pairs, colours = _bands.of(batch, state["textures"], context)
    made = _textures(batch, pairs, colours, colours * torch.tensor(_LUMA), params, context, "image")
    if "blue" in state:
        pairs, colours = _bands.of(batch, state["blue"], context)
        weights = torch.tensor(_YELLOW, dtype=torch.float64).expand(len(batch), 3)
        made[:, 2] = _textures(batch, pairs, colours, weights, params, context, "blue image")[:, 2]
    return made.to(batch.images.device)


def _textures(
    batch: Batch, pairs: Tensor, colours: Tensor, weights: Tensor, params: Params, context: Context, part: str
) -> Tensor:
    """(N, 3, S, S): the waves of these pairs (N, W, 2), in the phases that they have in the channels so weighted (N, 3)."""
    pairs = torch.cat([pairs / 2**octave for octave in range(params.octaves + 1)], 1)
    pairs = pairs * min(1.0, context.size / (2 * params.high))  # no finer than the pixels of a very small image
    seen = torch.einsum("nc,nchw->nhw", weights.float(), batch.images.cpu().float()).double() / 1000
    seen = seen - seen.mean((1, 2), keepdim=True)
    waves = torch.zeros_like(seen)
    for number, pair in enumerate(pairs.unbind(1)):
        waves += in_phase(seen, pair, partial(_drawn, batch, context, part, number))
    return _bands.painted(waves, colours, params, context.eps)


def _drawn(batch: Batch, context: Context, part: str, number: int, rows: list[int]) -> Tensor:
    """(R, 2) turns for wave `number` of these images, by the key and their ids."""
    rngs = context.key.rngs("in_phase", part, names=[batch.ids[row] for row in rows])
    return torch.from_numpy(np.stack([rng.random((number + 1, 2))[number] for rng in rngs]))


def in_phase(seen: Tensor, pair: Tensor, spare: Callable[[list[int]], Tensor]) -> Tensor:
    """(N, S, S) pictures and (N, 2) cycles -> (N, S, S) waves from -1 to 1.

    The mean of the waves (x, y) and (x, -y), each in its phase p and q: cos(x + y + p) and cos(x - y + q) are together
    2 cos(x + (p + q) / 2) cos(y + (p - q) / 2), one wave across and one down. spare: (R, 2) turns for the images that hold
    too little to have a phase.
    """
    across, down = (_turns(pair[:, axis], seen.shape[-1]) for axis in (0, 1))
    columns = torch.einsum("nyx,nxc->cny", seen, torch.stack([across.cos(), -across.sin()], 2) / seen.shape[-1])
    # what a picture holds of both waves, from its products with the cosines and sines down
    (cc, cs), (sc, ss) = ([(part * wave).mean(1) for wave in (down.cos(), down.sin())] for part in columns)
    held = torch.stack([torch.complex(cc + ss, sc - cs), torch.complex(cc - ss, sc + cs)], 1)
    phases = held.angle()
    faint = held.abs() < _FAINT
    if faint.any():
        rows = faint.any(1).nonzero()[:, 0].tolist()
        phases[rows] = torch.where(faint[rows], 2 * torch.pi * spare(rows), phases[rows])
    first, second = phases.unbind(1)
    # a wave straight across or down is one and not two
    second = torch.where(pair[:, 1] == 0, first, torch.where(pair[:, 0] == 0, -first, second))
    wide = torch.cos(across + ((first + second) / 2)[:, None])
    high = torch.cos(down + ((first - second) / 2)[:, None])
    return high[:, :, None] * wide[:, None, :]


def _turns(frequency: Tensor, size: int) -> Tensor:
    """(N,) cycles -> (N, size) radians in the middles of the pixels."""
    return 2 * torch.pi * frequency[:, None] * (torch.arange(size) + 0.5) / size
