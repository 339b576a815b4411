"""The only place where float perturbations become pixels, and the only projection onto the budget.

The budget is a whole number of grey levels; 255, the whole range, is no bound at all, and the default of methods that
declare UNBOUNDED. A perturbation is made on a square working size, resampled to each image's own size in whole numbers
(`_resample`), and rounded there to whole levels inside the budget; then it is held inside 0..255 against the clean pixels.
So the bound is true of the decoded pixels of every lossless file by construction, not by luck of rounding, and the pixels
are the same on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from PIL import ImageChops

from unlearnable._resample import Rows, resampled
from unlearnable._views import IN_MEMORY, REUSED, image_of, lanes, let_go, scratch, together
from unlearnable.errors import UsageError
from unlearnable.types import Pixels

if TYPE_CHECKING:
    from torch import Tensor

DEFAULT_LEVELS = 8
MAX_LEVELS = 64  # a quarter of the range: past this nobody would call the copy a picture of the original
NO_BOUND = 255  # any pixel may become any other
_SAMPLES = 1 << 20  # at a time: with fewer, calling numpy takes longer than its work; with more, it leaves the cache
_SQUARES = np.arange(256) ** 2
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


def protect(delta: Tensor, clean: Pixels, levels: int) -> Pixels:
    """The pixels that ship. delta: (3, S, S) float at the working size; clean: (H, W, C) uint8 of any size.

    At the working size itself steps are rounded, half to even; else they are resampled as `_resample` says. Grey takes the
    green channel's: a mean of three independent signs would spend only part of the budget. Raises ValueError for what is
    not finite.
    """
    return together(strips(delta, clean, levels))


def strips(
    delta: Tensor, clean: Pixels, levels: int, moved: Moved | None = None, *, brief: bool = False
) -> Iterator[Pixels]:
    """What `protect` gives: whole, or of a picture that is kept in a file some rows at a time from the top.

    moved: counts the change of every strip as it goes by; brief: where the picture is small, its pixels stay until this
    thread asks for others.
    """
    height, width = clean.shape[:2]
    rows = resampled(delta.detach(), levels, height, width, lanes(clean)[1])
    return _strips(rows, clean, moved, brief and clean.nbytes <= REUSED)


def _strips(rows: Rows, clean: Pixels, moved: Moved | None, brief: bool) -> Iterator[Pixels]:
    height, width, channels = clean.shape
    wide, beside = lanes(clean)
    at_once = max(1, _SAMPLES // wide.shape[1])
    many = height if clean.nbytes <= IN_MEMORY else at_once
    for top in range(0, height, many):
        shape = wide[top : top + many].shape
        out = scratch("out", shape, np.uint8) if brief else np.empty(shape, np.uint8)
        for start in range(0, len(out), at_once):
            before, after = (whole[start : start + at_once] for whole in (wide[top : top + many], out))
            most, least, steps = rows(top + start, top + start + len(before))
            np.minimum(before, most, out=after)
            np.maximum(after, least, out=after)
            after += steps  # modulo 256, and so up or down
        part = out.reshape(-1, width, beside)[:, :, :channels]
        if moved is not None:
            moved.count(clean[top : top + many], part)
        let_go(clean)
        yield part


def colour_channels(pixels: Pixels) -> int:
    """Channels that hold colour: 1 of grey or grey and alpha, 3 of RGB or RGB and alpha."""
    return 1 if pixels.shape[2] < 3 else 3


class Moved:
    """How far pixels were moved, counted part by part."""

    def __init__(self) -> None:
        self._counts = np.zeros(256, dtype=np.int64)

    def count(self, clean: Pixels, shipped: Pixels) -> None:
        """Takes in the colour of one part, (rows, W, C) before and after."""
        channels = min(colour_channels(clean), colour_channels(shipped))
        at_once = max(1, _SAMPLES // (clean.shape[1] * channels))
        for top in range(0, len(clean), at_once):
            parts = (pixels[top : top + at_once, :, :channels] for pixels in (clean, shipped))
            apart = ImageChops.difference(*map(image_of, parts))
            self._counts += np.reshape(apart.histogram(), (channels, 256)).sum(axis=0)
            let_go(clean, shipped)

    def figures(self) -> tuple[int, float, float]:
        """Largest step, 99.9th percentile, PSNR in dB (inf when nothing moved)."""
        running = self._counts.cumsum()
        largest = int(self._counts.nonzero()[0][-1])
        percentile = float(running.searchsorted(0.999 * running[-1]))
        error = float(self._counts @ _SQUARES / running[-1])
        psnr = float("inf") if error == 0 else 10 * float(np.log10(255.0**2 / error))
        return largest, percentile, psnr


def realised(clean: Pixels, shipped: Pixels) -> tuple[int, float, float]:
    """The figures of `Moved` for shipped pixels against the clean ones."""
    moved = Moved()
    moved.count(clean, shipped)
    return moved.figures()
