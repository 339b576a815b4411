"""What poisons and trainers look at: a picture at their own small size, in RGB."""

from __future__ import annotations

import numpy as np
from PIL import Image

from unlearnable.types import Pixels

_STRIP = 8  # sides further apart than this make a strip


def square(pixels: Pixels, size: int) -> Pixels:
    """(size, size, 3) uint8 RGB: the whole image squashed to the poison's working size, antialiased; grey replicated.

    Transparency is ignored and not composited, because trainers' `convert("RGB")` ignores it.
    The same array comes back when there is nothing to do.
    """
    return _resized(pixels, size, size)


def trainer_view(pixels: Pixels, size: int) -> Pixels:
    """(size, size, 3) uint8 RGB as a trainer makes it: short side to `size` (bilinear, antialiased), centre crop."""
    height, width = pixels.shape[:2]
    short = min(height, width)
    height, width = (size * height // short, size * width // short)
    top, left = round((height - size) / 2), round((width - size) / 2)
    if max(height, width) > _STRIP * size:  # only the part that is kept: all of a long strip could take gigabytes
        across, down = pixels.shape[1] / width, pixels.shape[0] / height
        right, bottom = min((left + size) * across, pixels.shape[1]), min((top + size) * down, pixels.shape[0])
        return _resized(pixels, size, size, (left * across, top * down, right, bottom))
    view = _resized(pixels, height, width)
    return view if height == width else np.ascontiguousarray(view[top : top + size, left : left + size])


def _resized(pixels: Pixels, height: int, width: int, box: tuple[float, float, float, float] | None = None) -> Pixels:
    """RGB of that size; box: the part to take (left, top, right, bottom), the filter still sees what lies around it."""
    if box is None and pixels.shape == (height, width, 3):
        return pixels
    colour = pixels[:, :, :3] if pixels.shape[2] >= 3 else pixels[:, :, 0]
    if box is not None or pixels.shape[:2] != (height, width):
        image = Image.fromarray(np.ascontiguousarray(colour))
        colour = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR, box))
    if colour.ndim == 2:
        return np.repeat(colour[:, :, None], 3, axis=2)
    return np.ascontiguousarray(colour)
