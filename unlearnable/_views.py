"""What poisons and trainers look at, a picture at their own small size in RGB; and how pixels are counted."""

from __future__ import annotations

import math
import mmap
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unlearnable.errors import disk_error
from unlearnable.types import Pixels

IN_MEMORY = 120_000_000  # bytes of one picture's pixels; of larger ones only a few rows at a time
_ROWS = 64
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


def counts(values: Pixels) -> NDArray[np.int64]:
    """How often each of 0..255 occurs. Pillow counts four bytes side by side, several times as fast as `bincount`."""
    flat = values.reshape(-1)
    quads = len(flat) // 4
    found = np.bincount(flat[4 * quads :], minlength=256)
    if quads:
        image = Image.frombuffer("RGBA", (quads, 1), flat[: 4 * quads], "raw", "RGBA", 0, 1)
        found += np.asarray(image.histogram(), dtype=np.int64).reshape(4, 256).sum(axis=0)
    return found


def held(image: Image.Image) -> Pixels:
    """The numbers of a loaded image, read-only; `in_file` where they are many, and the image would be twice in memory."""
    if image.width * image.height * len(image.getbands()) <= IN_MEMORY:
        return np.asarray(image)
    tops = range(0, image.height, _ROWS)
    boxes = ((0, top, image.width, min(top + _ROWS, image.height)) for top in tops)
    return in_file(image.height, (np.asarray(image.crop(box)) for box in boxes))


def laid_out(shape: tuple[int, ...], strips: Iterable[Pixels]) -> Pixels:
    """One picture of that shape of strips of rows; `in_file` where it is large."""
    return in_file(shape[0], strips) if math.prod(shape) > IN_MEMORY else np.concatenate(list(strips))


def in_file(height: int, strips: Iterable[Pixels]) -> Pixels:
    """One picture of strips of rows, in a file without a name in the system's temporary folder (TMPDIR names another)."""
    try:
        with tempfile.TemporaryFile() as file:
            for strip in strips:
                file.write(np.ascontiguousarray(strip).data)
            file.flush()
            return np.memmap(file, np.uint8, "r", shape=(height, *strip.shape[1:]))
    except OSError as why:
        raise disk_error(why, Path(tempfile.gettempdir())) from why


def turned(view: Pixels) -> Pixels:
    """A mirrored or transposed view, laid out anew and read-only; in a file where it was in one."""
    if isinstance(view, np.memmap):
        return in_file(len(view), (view[top : top + _ROWS] for top in range(0, len(view), _ROWS)))
    found = np.ascontiguousarray(view)
    found.flags.writeable = False
    return found


def let_go(*pictures: Pixels) -> None:
    """Of pictures that lie in files, what was read need not stay in memory."""
    for pixels in pictures:
        opened = getattr(pixels, "_mmap", None)
        if opened is not None:
            opened.madvise(mmap.MADV_DONTNEED)


def _resized(pixels: Pixels, height: int, width: int, box: tuple[float, float, float, float] | None = None) -> Pixels:
    """RGB of that size; box: the part to take (left, top, right, bottom), the filter still sees what lies around it."""
    if box is None and pixels.shape == (height, width, 3):
        return pixels
    colour = pixels[:, :, :3] if pixels.shape[2] >= 3 else pixels[:, :, 0]
    if box is not None or pixels.shape[:2] != (height, width):
        image = _image(colour)
        colour = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR, box))
    if colour.ndim == 2:
        return np.repeat(colour[:, :, None], 3, axis=2)
    return np.ascontiguousarray(colour)


def _image(colour: Pixels) -> Image.Image:
    if not isinstance(colour, np.memmap):
        return Image.fromarray(np.ascontiguousarray(colour))
    whole = Image.new("L" if colour.ndim == 2 else "RGB", (colour.shape[1], colour.shape[0]), None)
    for top in range(0, len(colour), _ROWS):
        whole.paste(Image.fromarray(np.ascontiguousarray(colour[top : top + _ROWS])), (0, top))
        let_go(colour)
    return whole
