"""The only place where float perturbations become pixels, and the only projection onto the budget.

The budget is a whole number of grey levels; 255, the whole range, is no bound at all, and the default of methods that
declare UNBOUNDED. A perturbation is made on a square working size, resampled to each image's
own size, and rounded there, once; then it is held inside the budget and inside 0..255 against the clean pixels. So the
bound is true of the decoded pixels of every lossless file by construction, not by luck of rounding.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from unlearnable._views import counts, let_go
from unlearnable.errors import UsageError
from unlearnable.types import Levels, Pixels

if TYPE_CHECKING:
    from torch import Tensor

DEFAULT_LEVELS = 8
MAX_LEVELS = 64  # a quarter of the range: past this nobody would call the copy a picture of the original
NO_BOUND = 255  # any pixel may become any other
_SAMPLES = 1 << 17  # at a time: what is made of them stays in the cache
VISIBLE_ABOVE = 16  # past this nobody should be told that people hardly see it


def resolve(eps: int | None, unbounded: bool) -> int:
    """The budget of a run: what was asked for, else 8, or 255 for a method that is unbounded by nature."""
    if eps is None:
        return NO_BOUND if unbounded else DEFAULT_LEVELS
    return check_levels(eps, NO_BOUND if unbounded else MAX_LEVELS)


def check_levels(levels: int, most: int = MAX_LEVELS) -> int:
    """The budget in whole grey levels, 1 to `most`. Raises UsageError outside that."""
    if not 1 <= levels <= most:
        hint = "Leave it out for no bound." if most == NO_BOUND else f"{DEFAULT_LEVELS} is usual."
        raise UsageError(f"--eps is a whole number of grey levels from 1 to {most}, not {levels}.", hint)
    return levels


def noise_like(rms: float) -> int:
    """The k in 1..64 for which noise uniform over the whole levels -k..k has the root mean square nearest to `rms`.

    Its variance is k(k + 1)/3; what is lost at black and white is not made up for.
    """
    return min(range(1, MAX_LEVELS + 1), key=lambda k: abs(math.sqrt(k * (k + 1) / 3) - rms))


def resample(delta: Tensor, height: int, width: int) -> Tensor:
    """(3, S, S) float at the working size -> (3, height, width). Bilinear; antialiased where it shrinks."""
    from torch.nn.functional import interpolate

    if delta.shape[-2:] == (height, width):
        return delta
    return interpolate(delta[None], size=(height, width), mode="bilinear", align_corners=False, antialias=True)[0]


def to_levels(delta: Tensor, clean: Pixels, levels: int) -> Levels:
    """Rounds a float perturbation to whole grey levels that are legal for this image.

    delta: (3, H, W) float in [0, 1] pixel units, already at the image's size; clean: (H, W, C) uint8.
    Returns (H, W, 1 or 3) int16 with |step| <= levels and clean + step in 0..255. Non-finite values raise ValueError.
    A grey image takes the green channel's perturbation, not the mean of three: a mean of independent signs would spend
    only part of the budget.
    """
    import torch  # here, because checking a release needs this module's limits and no torch

    if not delta.isfinite().all():
        raise ValueError("the perturbation is not finite")
    channels = colour_channels(clean)
    chosen = delta.detach()[1:2] if channels == 1 else delta.detach()
    steps = chosen.mul(255).round_().clamp_(-levels, levels).to(torch.int16).permute(1, 2, 0).cpu().numpy()
    colour = clean[:, :, :channels].astype(np.int16)
    moved: Levels = colour + steps
    np.clip(moved, 0, 255, out=moved)
    moved -= colour
    return moved


def protect(delta: Tensor, clean: Pixels, levels: int) -> Pixels:
    """`resample`, `to_levels` and `add` at once, the same pixels. delta: (3, S, S) float at the working size."""
    return np.concatenate(list(strips(delta, clean, levels)))


def strips(delta: Tensor, clean: Pixels, levels: int, moved: Moved | None = None) -> Iterator[Pixels]:
    """What `protect` gives, a few rows at a time from the top: floats of all colours would be four times the photo.

    moved: counts the change of every strip as it goes by.
    """
    if not delta.isfinite().all():
        raise ValueError("the perturbation is not finite")
    return _strips(delta.detach(), clean, levels, moved)


def _strips(delta: Tensor, clean: Pixels, levels: int, moved: Moved | None) -> Iterator[Pixels]:
    import torch

    height, width = clean.shape[:2]
    channels = colour_channels(clean)
    top = 0
    for rows in _resampled(delta[1:2] if channels == 1 else delta, height, width):
        steps = rows.mul_(255).round_().clamp_(-levels, levels).to(torch.int16).numpy().reshape(-1, width, channels)
        part = clean[top : top + len(steps)]
        steps += part[:, :, :channels]
        np.clip(steps, 0, 255, out=steps)
        if channels == part.shape[2]:
            out = steps.astype(np.uint8)
        else:
            out = part.copy()
            out[:, :, :channels] = steps
        if moved is not None:
            moved.count(part, out)
        let_go(clean)
        yield out
        top += len(steps)


def _resampled(delta: Tensor, height: int, width: int) -> Iterator[Tensor]:
    """The rows of `resample`, to the last bit, as (rows, width * channels) tensors that the caller may overwrite.

    Of an image that is higher than the working size every row is made of two rows of `across`, as torch makes it.
    """
    channels, size = delta.shape[:2]
    at_once = max(1, _SAMPLES // (width * channels))
    if height <= size:
        whole = resample(delta, height, width).permute(1, 2, 0).reshape(height, -1)
        yield from (whole[top : top + at_once].clone() for top in range(0, height, at_once))
        return
    across = resample(delta, size, width).permute(1, 2, 0).reshape(size, -1)
    above, below, weights = _weights(height, size)
    for top in range(0, height, at_once):
        run = slice(top, top + at_once)
        yield across[above[run]].mul_(weights[0, run, None]).addcmul_(across[below[run]], weights[1, run, None])


@functools.lru_cache(maxsize=64)
def _weights(height: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """The two rows of `size` that every one of `height` rows is made of, and (2, height) how much of them: torch's own."""
    import torch

    whole = resample(torch.eye(size)[None], height, size)[0]
    above = (whole != 0).byte().argmax(1)
    below = (above + 1).clamp_(max=size - 1)
    every = torch.arange(height)
    second = torch.where(below > above, whole[every, below], 0)
    return above, below, torch.stack([whole[every, above], second])


def colour_channels(pixels: Pixels) -> int:
    """Channels that hold colour: 1 of grey or grey and alpha, 3 of RGB or RGB and alpha."""
    return 1 if pixels.shape[2] < 3 else 3


def add(clean: Pixels, steps: Levels) -> Pixels:
    """clean + steps, alpha untouched. `steps` come from `to_levels` on the same pixels, so nothing can overflow."""
    out = clean.copy()
    channels = steps.shape[2]
    out[:, :, :channels] = (clean[:, :, :channels].astype(np.int16) + steps).astype(np.uint8)
    return out


class Moved:
    """How far pixels were moved, counted part by part."""

    def __init__(self) -> None:
        self._counts = np.zeros(256, dtype=np.int64)

    def count(self, clean: Pixels, shipped: Pixels) -> None:
        """Takes in the colour of one part, (rows, W, C) before and after."""
        channels = min(colour_channels(clean), colour_channels(shipped))
        before, after = clean[:, :, :channels], shipped[:, :, :channels]
        self._counts += counts(np.maximum(before, after) - np.minimum(before, after))

    def figures(self) -> tuple[int, float, float]:
        """Largest step, 99.9th percentile, PSNR in dB (inf when nothing moved)."""
        largest = int(self._counts.nonzero()[0].max())
        percentile = float(np.searchsorted(np.cumsum(self._counts), 0.999 * self._counts.sum()))
        error = float((self._counts * np.arange(256, dtype=np.float64) ** 2).sum() / self._counts.sum())
        psnr = float("inf") if error == 0 else 10 * float(np.log10(255.0**2 / error))
        return largest, percentile, psnr


def realised(clean: Pixels, shipped: Pixels) -> tuple[int, float, float]:
    """The figures of `Moved` for shipped pixels against the clean ones."""
    moved = Moved()
    at_once = max(1, _SAMPLES // (clean.shape[1] * clean.shape[2]))
    for top in range(0, len(clean), at_once):
        moved.count(clean[top : top + at_once], shipped[top : top + at_once])
        let_go(clean, shipped)
    return moved.figures()
