"""The only place where float perturbations become pixels, and the only projection onto the budget.

The budget is a whole number of grey levels; 255, the whole range, is no bound at all, and the default of methods that
declare UNBOUNDED. A perturbation is made on a square working size, resampled to each image's
own size, and rounded there, once; then it is held inside the budget and inside 0..255 against the clean pixels. So the
bound is true of the decoded pixels of every lossless file by construction, not by luck of rounding.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from unlearnable.errors import UsageError
from unlearnable.types import Levels, Pixels

if TYPE_CHECKING:
    from torch import Tensor

DEFAULT_LEVELS = 8
MAX_LEVELS = 64  # a quarter of the range: past this nobody would call the copy a picture of the original
NO_BOUND = 255  # any pixel may become any other
_ROWS = 128  # at a time: what is made of them stays in the cache
_LARGE = 32_000_000  # pixels
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
    """`resample`, `to_levels` and `add` at once, the same pixels in a quarter of the memory.

    delta: (3, S, S) float at the working size. Floats of all colours at full size would be four times the photo, so
    large photos take one colour at a time; whole levels are made a few rows at a time.
    """
    height, width = clean.shape[:2]
    channels = colour_channels(clean)
    at_once = channels if height * width <= _LARGE else 1
    out = clean.copy()
    for first in range(0, channels, at_once):
        some = slice(first, first + at_once)
        wide = resample(delta[1:2] if channels == 1 else delta[some], height, width)
        for top in range(0, height, _ROWS):
            part = clean[top : top + _ROWS, :, some]
            rows = wide[:, top : top + _ROWS].expand(3, -1, -1) if at_once == 1 else wide[:, top : top + _ROWS]
            out[top : top + _ROWS, :, some] = add(part, to_levels(rows, part, levels))
    return out


def colour_channels(pixels: Pixels) -> int:
    """Channels that hold colour: 1 of grey or grey and alpha, 3 of RGB or RGB and alpha."""
    return 1 if pixels.shape[2] < 3 else 3


def add(clean: Pixels, steps: Levels) -> Pixels:
    """clean + steps, alpha untouched. `steps` come from `to_levels` on the same pixels, so nothing can overflow."""
    out = clean.copy()
    channels = steps.shape[2]
    out[:, :, :channels] = (clean[:, :, :channels].astype(np.int16) + steps).astype(np.uint8)
    return out


def realised(clean: Pixels, shipped: Pixels) -> tuple[int, float, float]:
    """How far shipped pixels are from the clean ones: largest step, 99.9th percentile, PSNR in dB (inf when equal)."""
    channels = min(colour_channels(clean), colour_channels(shipped))
    counts = np.zeros(256, dtype=np.int64)
    for top in range(0, len(clean), _ROWS):
        rows = slice(top, top + _ROWS)
        difference = np.abs(shipped[rows, :, :channels].astype(np.int16) - clean[rows, :, :channels].astype(np.int16))
        counts += np.bincount(difference.ravel(), minlength=256)
    largest = int(counts.nonzero()[0].max())
    percentile = float(np.searchsorted(np.cumsum(counts), 0.999 * counts.sum()))
    error = float((counts * np.arange(len(counts), dtype=np.float64) ** 2).sum() / counts.sum())
    psnr = float("inf") if error == 0 else 10 * float(np.log10(255.0**2 / error))
    return largest, percentile, psnr
