"""Bands of spatial frequencies as the codes of classes: what `grating` and `spectral` share.

A code is one pair of frequencies or more (cycles across and down the image) and a sign for each colour channel. A pair
stands for the waves (x, y) and (x, -y) alike, so that a mirrored image has the code it had.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unlearnable.errors import UsageError
from unlearnable.poisons import _patterns
from unlearnable.types import Batch, Context, State

ByClass = dict[str, Tensor]
Codes = NDArray[np.float64]  # (number, 2 W + 3): W pairs of frequencies, then the signs of red, green and blue

_CLOSEST = 0.5  # cycles an image; nearer frequencies look the same to a network that crops
_CLOSEST_ON_AXES = 1.25  # before textures of both directions are better
_ON_RING = (2.0, 1.75, 1.5, 1.0, 0.5)  # cycles between neighbours, the widest that have a code for every class
_CANDIDATES = 1024
_GREY, _OPPONENT = (1.0, 1.0, 1.0), ((-1.0, 1.0, 1.0), (1.0, -1.0, 1.0), (1.0, 1.0, -1.0))
_SIGNS = {"grey": (_GREY,), "opponent": _OPPONENT, "any": (_GREY, *_OPPONENT)}
# what a random resized crop (area 0.35 to 1, ratio 3/4 to 4/3) makes of frequencies across and down, beside another such crop
_CROPS = np.array([(s * q**0.5, s / q**0.5) for s in (1, 0.85, 0.72, 0.6) for q in (9 / 16, 0.75, 1, 4 / 3, 16 / 9)])


@dataclass(frozen=True)
class Params:
    low: float = 4.0
    "lowest frequency other than zero, in cycles an image"

    high: float = 8.0
    "highest frequency, in cycles an image"

    colour: Literal["grey", "opponent", "any"] = "grey"
    "grey: the same in every channel; opponent: one channel against the others, which one names the class too; any: all four"

    waves: int = 1
    "pairs of frequencies that a class has, one on top of the other: 2 and more give codes to hundreds of classes"

    octaves: int = 0
    "octaves below its frequencies that a texture holds as well, so that a part of it made larger looks like the whole"

    crops: bool = False
    "keep classes apart where trainers crop at random, as many as can be: by direction and octave, which a crop leaves"

    duty: float = 0.5
    "share of a texture that is raised; off a half, raised and lowered differ, and their order in each colour names the class"

    directions: Literal["axes", "ring", "all"] = "all"
    "while there are enough, axes: waves straight across or down; ring: pairs as long as the band says; all: every product"

    softness: float = 0.0
    "0: hard edges, every pixel at the budget; up to 1: waves as smooth as sines, less visible and weaker"

    def __post_init__(self) -> None:
        if not 1 <= self.low < self.high <= 64:
            raise ValueError(f"low and high are 1 to 64 cycles and low is below high, not {self.low} and {self.high}")
        if self.colour not in _SIGNS:
            raise ValueError(f"colour is grey, opponent or any, not {self.colour!r}")
        if self.directions not in ("axes", "ring", "all"):
            raise ValueError(f"directions is axes, ring or all, not {self.directions!r}")
        if not 1 <= self.waves <= 4:
            raise ValueError(f"waves is 1 to 4, not {self.waves}")
        if not 0 <= self.octaves <= 3:
            raise ValueError(f"octaves is 0 to 3, not {self.octaves}")
        if not 0.2 <= self.duty <= 0.5:
            raise ValueError(f"duty is 0.2 to 0.5, not {self.duty}")
        if not 0 <= self.softness <= 1:
            raise ValueError(f"softness is 0 to 1, not {self.softness}")

    @property
    def reach(self) -> float:
        """How far two codes of one colour can be apart at the coarsest, in cycles."""
        return max(1.0, self.high - self.low)


def extend(taken: ByClass, params: Params, context: Context, method: str, other: ByClass | None = None) -> ByClass:
    """The same codes and some for classes that have none: class -> (2 W + 3,) frequencies and signs.

    other: codes that the same classes have elsewhere, which theirs here are not to be.
    """
    taken = dict(taken)
    missing = sorted(set(context.classes) - set(taken))
    grids: Sequence[_Grid] = _grids(params, len(taken) + len(missing))
    for name in missing:
        used = [*taken.values(), *([other[name]] if other else [])]
        codes = torch.stack(used).numpy() if used else np.zeros((0, 2 * params.waves + 3))
        code, grids = _farthest(codes, params, context.key.rng(method, "class", name), grids)
        taken[name] = torch.from_numpy(code)
    return taken


def extended(state: State, params: Params, context: Context, method: str) -> State:
    """The same state with textures for classes that have none, and where it has "blue" with others for the blue channel."""
    textures = extend(state["textures"], params, context, method)
    if "blue" not in state:
        return {"textures": textures}
    return {"textures": textures, "blue": extend(state["blue"], params, context, f"{method} blue", textures)}


def of(batch: Batch, by_class: ByClass, context: Context) -> tuple[Tensor, Tensor]:
    """(N, W, 2) frequencies across and down, and (N, 3) signs of the colours, of every image's class."""
    present, which = torch.unique(batch.labels.cpu(), return_inverse=True)
    codes = torch.stack([_patterns.find(by_class, context.classes[label]) for label in present.tolist()])
    return codes[which, :-3].view(len(batch), -1, 2), codes[which, -3:]


def painted(waves: Tensor, colours: Tensor, params: Params, eps: float) -> Tensor:
    """(N, S, S) waves about 0, signs (N, 3) -> (N, 3, S, S): cut off at the budget, at once or on a slope."""
    if params.duty < 0.5:
        waves = waves - waves.flatten(1).quantile(1 - params.duty, 1)[:, None, None]
    cut = (waves / params.softness).clamp(-1, 1) if params.softness else torch.where(waves < 0, -1.0, 1.0)
    return (eps * cut.float())[:, None] * colours.float()[:, :, None, None]


@dataclass(frozen=True)
class _Grid:
    """Frequencies to find codes on, `spacing` apart from `low` to the end of the band; or the waves along the axes alone.

    crops: whether the codes have to stay apart when they are cropped. ring: the frequencies whose length, across and down
    together, is in the band.
    """

    low: float
    spacing: float
    crops: bool
    on_axes: bool = False
    ring: bool = False


def _grids(params: Params, classes: int) -> list[_Grid]:
    """The best first, for that many classes.

    A wave along one axis has all its power at one frequency, where a product has it at two, and JPEG's coarse steps leave more
    of it. A crop makes one wave along an axis of another: with `crops` there is one an axis and colour, then what else crops
    leave apart, and when that is full what they do not. A ring has what is neither so coarse that pictures hide it nor so
    fine that JPEG takes it, in all directions; one that has fewer codes than there are classes is passed over for a finer one,
    so that the last classes are no nearer than the first.
    """
    spacings = [params.reach / 2**n for n in range(8)]
    cropped = [True, False] if params.crops else [False]
    everywhere = [_Grid(params.low, space, crops) for crops in cropped for space in spacings if space >= _CLOSEST]
    if params.directions == "ring":
        signs = len(_SIGNS[params.colour]) * (1 if params.duty == 0.5 else 2)

        def room(ring: _Grid) -> int:
            return signs * math.comb(len(_frequencies(params, ring)), params.waves)

        rings = [_Grid(space, space, crops, ring=True) for crops in cropped for space in _ON_RING]
        return [*(ring for ring in rings if room(ring) >= classes), *everywhere]
    if params.crops:
        on_axes = [_Grid(params.high, params.reach, True, True)]
    else:
        on_axes = [_Grid(params.low, space, False, True) for space in spacings if space >= _CLOSEST_ON_AXES]
    return [*on_axes, *everywhere] if params.directions == "axes" else everywhere


def _farthest(
    used: Codes, params: Params, rng: np.random.Generator, grids: Sequence[_Grid]
) -> tuple[Codes, Sequence[_Grid]]:
    """The candidate farthest from all used, and the grids from the one that it was found on.

    The first grid that has one far enough is taken; what was too coarse for one class is for all that follow.
    """
    for number, grid in enumerate(grids):
        candidates = _candidates(params, rng, grid)
        if not len(candidates):
            continue
        if not len(used):
            return np.asarray(candidates[0]), grids[number:]
        distance = apart(candidates, used, replace(params, crops=grid.crops)).min(1)
        if distance.max() >= grid.spacing - 1e-6:
            return np.asarray(candidates[int(distance.argmax())]), grids[number:]
    raise UsageError(
        f"{len(used) + 1} classes cannot have textures of their own between {params.low:g} and {params.high:g} cycles.",
        "Widen the band, such as --set high=16, give each two of them (--set waves=2), or use --preset r16.",
    )


def _frequencies(params: Params, grid: _Grid) -> list[tuple[float, float]]:
    """Cycles across and down."""
    steps = [0.0, *np.arange(grid.low, params.high + 1e-9, grid.spacing)]
    # a texture fine in both directions is what JPEG at quality 10 throws away
    found = [(float(x), float(y)) for x in steps for y in steps if 0 < x + y <= 1.5 * params.high]
    if grid.ring:
        return [(x, y) for x, y in found if params.low <= math.hypot(x, y) <= params.high]
    return [(x, y) for x, y in found if not grid.on_axes or x * y == 0]


def _candidates(params: Params, rng: np.random.Generator, grid: _Grid) -> Codes:
    """Codes on a grid, shuffled; where there are very many, some of them; none where it has fewer frequencies than a code."""
    pairs = np.array(_frequencies(params, grid))
    if len(pairs) < params.waves:
        return np.zeros((0, 2 * params.waves + 3))
    signs = np.array(_SIGNS[params.colour])
    if params.duty < 0.5:
        signs = np.vstack([signs, -signs])
    if params.waves == 1:
        drawn = rng.permutation(len(pairs) * len(signs))[:_CANDIDATES]
        return np.hstack([pairs[drawn // len(signs)], signs[drawn % len(signs)]])
    chosen = rng.random((_CANDIDATES, len(pairs))).argsort(1)[:, : params.waves]
    return np.hstack([pairs[chosen].reshape(_CANDIDATES, -1), signs[rng.integers(len(signs), size=_CANDIDATES)]])


def apart(some: Codes, others: Codes, params: Params) -> Codes:
    """(P, U) distances in cycles, the waves of one class against those of another in the order that fits best.

    Colours that differ count like frequencies a whole band apart. With `crops`, one of the two is cropped as fits best.
    """
    least: Codes = np.full((len(some), len(others)), np.inf)
    for order in itertools.permutations(range(params.waves)):
        a = some[:, :-3].reshape(len(some), -1, 2)[:, list(order)].reshape(len(some), -1)
        b = others[:, :-3]
        for zoom in _CROPS if params.crops else np.ones((1, 2)):
            factors = np.tile(zoom, params.waves)
            for x, y in ((a * factors, b), (a, b * factors)) if params.crops else ((a, b),):
                squared = (x**2).sum(1)[:, None] + (y**2).sum(1) - 2 * x @ y.T
                least = np.minimum(least, np.maximum(squared, 0))
    agreement = some[:, -3:] @ others[:, -3:].T
    # an even texture is as often raised as lowered, so colours turned all together are the same
    recoloured = (np.abs(agreement) if params.duty == 0.5 else agreement) < 3
    return np.asarray(np.sqrt(least + recoloured * params.reach**2))
