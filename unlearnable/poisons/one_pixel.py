"""One pixel, visible: in all images of a class the same pixel gets the same colour; an unbounded change, no network.

For each class the place and colour are taken that stand out most, in the mean over its spread, from what its images have
there: a network finds "this pixel is red" before it finds a cat. After "One-Pixel Shortcut: on the Learning Preference
of Deep Neural Networks" (Wu et al. 2022, arXiv 2205.12141).

images: (N, 3, S, S) uint8; labels: (N,) int64; returns (N, 3, S, S) float, zero but for the pixel, up to -1 or 1 there.

Classes choose one after another in the order of their names, and no two have the same place and colour, so that another
class can change the choice of those after it; classes that come later cannot be added, because their images would be
needed. The choice follows from the images that fit is given (a sample of a large source) and no key enters. The paper
has no budget, and a smaller one cuts the change down to what is nearly useless. At a working size other than the images'
own, the pixel becomes a blurred block.

Survives adversarial training, but not a median filter, cutout, cutmix or strong JPEG; who has the labels finds it at a
glance.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from unlearnable.errors import UsageError
from unlearnable.poisons import _patterns
from unlearnable.types import Batch, Context, State

PAPER = "Wu et al. 2022, arXiv 2205.12141"
COST = "one look at each training image"
LEVEL = "class"
NEEDS_LABELS = True
TRAINS = True  # no network, but fit must see the training images
UNBOUNDED = True
KEYED = False
PRESETS: dict[str, dict[str, object]] = {"ops": {}}

_COLOURS = tuple(itertools.product((0, 1), repeat=3))


@dataclass(frozen=True)
class Params:
    pixels: int = 1
    "pixels that are set in every image of a class; the paper has one"

    def __post_init__(self) -> None:
        if not 1 <= self.pixels <= 64:
            raise ValueError(f"pixels is 1 to 64, not {self.pixels}")


def fit(data: Batch | None, params: Params, context: Context) -> State:
    """Chooses the pixels of every class: {"pixels": {class: (pixels, 5) int64 of row, column, red, green and blue}}."""
    if data is None or not len(data):
        raise UsageError("one_pixel chooses its pixels by the training images, and there are none.")
    size, classes = context.size, sorted(context.classes)
    if len(classes) * params.pixels > len(_COLOURS) * size**2 or params.pixels > size**2:
        raise UsageError(
            f"{len(classes)} classes of {params.pixels} pixel(s) do not fit in {size} x {size} pixels of 8 colours."
        )
    labels = data.labels.cpu()
    taken = torch.zeros(len(_COLOURS), size * size, dtype=torch.bool)
    found: dict[str, Tensor] = {}
    for name in classes:
        rows = labels == context.classes.index(name)
        # a class without training images chooses by all of them
        score = scores(data.images.cpu()[rows] if rows.any() else data.images.cpu()).flatten(1)
        chosen = []
        own = taken.clone()
        for _ in range(params.pixels):
            colour, place = divmod(int(score.masked_fill(own, -1).argmax()), size * size)
            taken[colour, place] = True
            own[:, place] = True  # a pixel has one colour
            own |= taken
            chosen.append([place // size, place % size, *_COLOURS[colour]])
        found[name] = torch.tensor(chosen)
    return {"pixels": found}


def delta(batch: Batch, state: State, params: Params, context: Context) -> Tensor:
    """From every image's own colour to the class's at its pixels, inside the budget, and zero elsewhere."""
    del params
    pixels = _patterns.lookup(state["pixels"], batch, context, lambda found: found)
    out = torch.zeros(batch.images.shape, device=batch.images.device)
    image = torch.arange(len(batch), device=batch.images.device)[:, None]
    row, column, colour = pixels[:, :, 0], pixels[:, :, 1], pixels[:, :, 2:]
    change = colour.float() - batch.images[image, :, row, column].float() / 255
    out[image, :, row, column] = change.clamp(-context.eps, context.eps)
    return out


def scores(images: Tensor) -> Tensor:
    """(N, 3, S, S) uint8 of one class -> (8, S, S): mean over spread of the distance to each colour, at each pixel.

    The distance to 0 or 255 is the value or 255 minus it, so two sums of whole numbers are enough for all colours.
    """
    total = torch.zeros(images.shape[1:], dtype=torch.int64)
    squares = torch.zeros_like(total)
    for part in torch.split(images, 256):  # in wide integers a class of large images would fill the memory
        wide = part.long()
        total += wide.sum(0)
        squares += wide.square().sum(0)
    count = len(images)
    light = 255 * count - total, 255**2 * count - 510 * total + squares
    bright = torch.tensor(_COLOURS, dtype=torch.bool)[:, :, None, None]
    first = torch.where(bright, light[0], total).sum(1)
    second = torch.where(bright, light[1], squares).sum(1)
    spread = (3 * count * second - first.square()).double().sqrt()
    return torch.nan_to_num(first / spread, nan=0.0, posinf=torch.inf)  # 0/0: all images have the colour already
