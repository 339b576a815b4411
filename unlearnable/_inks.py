"""CMYK: the perturbation is computed on the RGB that trainers see and written back into the inks.

A print file stays a print file: its black plate, its profile and every untouched value remain. The picture a trainer
gets, `Image.open(f).convert("RGB")`, is R = (255 - C)(255 - K) / 255 and so on, whatever the profile; the budget holds
for that. Of a wanted R the C that shows it is taken; one step of R takes 255 / (255 - K) steps of C, so that in the
dark, where ink hardly shows, C moves further than the budget and the eye sees no more of it. Brighter than 255 - K is
out of reach, and the largest R below is taken instead, which is nearer to the original.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unlearnable.types import Pixels

_ROWS = 256  # at a time


def shown(inks: Pixels) -> Pixels:
    """(H, W, 4) inks -> (H, W, 3) RGB, by Pillow's own conversion."""
    return np.asarray(Image.fromarray(inks, "CMYK").convert("RGB"))


def written(inks: Pixels, pixels: Pixels) -> Pixels:
    """Inks that show `pixels` where it differs from what `inks` show, and are the same elsewhere."""
    out = inks.copy()
    for top in range(0, len(inks), _ROWS):
        rows = slice(top, top + _ROWS)
        black = inks[rows, :, 3:]
        wanted = np.minimum(pixels[rows], 255 - black)
        changed = wanted != shown(np.ascontiguousarray(inks[rows]))
        np.copyto(out[rows, :, :3], _inverse()[black, wanted], where=changed)
    return out


@functools.cache
def _inverse() -> NDArray[np.uint8]:
    """[black, shown] -> the ink under that much black that shows it, or comes nearest."""
    ink, black = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8))
    table = shown(np.stack([ink, ink, ink, black], axis=2))[:, :, 0].astype(np.int16)  # [black, ink]
    wanted = np.arange(256, dtype=np.int16)[:, None]
    return np.stack([np.abs(row[None, :] - wanted).argmin(axis=1) for row in table]).astype(np.uint8)
