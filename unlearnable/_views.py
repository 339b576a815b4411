"""What poisons and trainers look at, a picture at their own small size in RGB; and pixels for both Pillow and numpy."""

from __future__ import annotations

import contextlib
import errno
import math
import mmap
import os
import tempfile
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray
from PIL import Image, ImageFile

from unlearnable.errors import disk_error
from unlearnable.types import Pixels

IN_MEMORY = 120_000_000  # bytes of one picture's pixels; of larger ones only a few rows at a time
REUSED = 64_000_000  # bytes of pixels, up to which memory that is needed for a moment is kept for the next
MODES = ("L", "LA", "RGB", "RGBA")  # by channels
_ROWS = 64
_ZEROS = 1 << 20  # bytes written at a time
_STRIP = 8  # sides further apart than this make a strip
_LANES = {"L": 1, "RGB": 4, "RGBA": 4}  # numbers a pixel, as Pillow has them in memory
_threads = threading.local()


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


def scratch(name: str, shape: tuple[int, int], kind: DTypeLike) -> NDArray[Any]:
    """Memory of this thread under that name, to be overwritten at its next use: to get new costs more than to fill it."""
    size = math.prod(shape) * np.dtype(kind).itemsize
    found = vars(_threads).get(name)
    if found is None or len(found) < size:
        found = vars(_threads)[name] = np.empty(size, np.uint8)
    return cast("NDArray[Any]", found[:size].view(kind).reshape(shape))


def lanes(pixels: Pixels) -> tuple[Pixels, int]:
    """The same memory as (H, W * n) numbers side by side, and n: 4 also of Pillow's RGB, where every fourth is padding."""
    height, width, channels = pixels.shape
    owner = pixels.base
    if channels == 3 and pixels.strides == (4 * width, 4, 1) and isinstance(owner, np.ndarray):
        wide = np.ndarray((height, 4 * width), np.uint8, owner, _address(pixels) - _address(owner))
        wide.flags.writeable = False
        return wide, 4
    return np.ascontiguousarray(pixels).reshape(height, -1), channels


def _address(array: NDArray[Any]) -> int:
    return int(array.__array_interface__["data"][0])


def decoded(image: ImageFile.ImageFile, brief: bool = False) -> Pixels:
    """Loads an image; its numbers, read-only. In a file where they are many: beside the bytes it is read from, the image
    would fill the memory.

    brief: where they are few, they stay until this thread decodes another so.

    JPEG and PNG are decoded right to where numpy can see them, RGB with padding: that saves a copy, and of photos of more
    than some megapixels half the time of decoding, because numpy asks for huge pages.
    """
    direct = image.format in ("JPEG", "MPO", "PNG") and not image.has_transparency_data
    lanes, many = _LANES.get(image.mode) if direct else None, _many(image)
    if many:
        vars(_threads).clear()  # all the room is needed
    if not lanes:
        image.load()
        return held(image)
    shape = (image.height, image.width * lanes)
    memory: Pixels
    if many:
        memory = _on_disk(shape)
        read = image.load_read  # type: ignore[attr-defined]  # what Pillow's loop asks for the next bytes

        def read_on(size: int) -> bytes:
            let_go(memory)
            return bytes(read(size))

        image.load_read = read_on  # type: ignore[attr-defined]
    elif brief and math.prod(shape) <= REUSED:
        memory = scratch("brief", shape, np.uint8)
    else:
        memory = np.zeros(shape, np.uint8)
    image.im = _laid(memory, image.mode, image.size).im
    try:
        image.load()
    finally:
        vars(image).pop("load_read", None)  # it holds the image that holds it
    memory.flags.writeable = False
    let_go(memory)
    return memory.reshape(*image.size[::-1], lanes)[:, :, : len(image.mode)]


def held(image: Image.Image) -> Pixels:
    """The numbers of a loaded image, read-only; `in_file` where they are many."""
    if not _many(image):
        return np.asarray(image)
    tops = range(0, image.height, _ROWS)
    boxes = ((0, top, image.width, min(top + _ROWS, image.height)) for top in tops)
    return in_file(image.height, (np.asarray(image.crop(box)) for box in boxes))


def _many(image: Image.Image) -> bool:
    return image.width * image.height * len(image.getbands()) > IN_MEMORY


def image_of(pixels: Pixels) -> Image.Image:
    """(H, W, 1 to 4) uint8 as Pillow's; without a copy where they lie as Pillow has them."""
    height, width, channels = pixels.shape
    (wide, beside), mode = lanes(pixels), MODES[channels - 1]
    if _LANES.get(mode) == beside:
        return _laid(wide, mode, (width, height))
    return Image.fromarray(wide.reshape(pixels.shape), mode)


def _laid(memory: Pixels, mode: str, size: tuple[int, int]) -> Image.Image:
    """An image whose pixels are that memory."""
    import pyarrow as pa  # here, because listing methods needs it not

    numbers = pa.Array.from_buffers(pa.uint8(), memory.size, [None, pa.py_buffer(memory)])
    if mode != "L":
        numbers = pa.FixedSizeListArray.from_arrays(numbers, 4)
    return Image.fromarrow(numbers, mode, size)


def laid_out(shape: tuple[int, ...], strips: Iterable[Pixels]) -> Pixels:
    """One picture of that shape of strips of rows; `in_file` where it is large."""
    return in_file(shape[0], strips) if math.prod(shape) > IN_MEMORY else together(strips)


def together(strips: Iterable[Pixels]) -> Pixels:
    """One picture of strips of rows."""
    whole = list(strips)
    return whole[0] if len(whole) == 1 else np.concatenate(whole)


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


def _on_disk(shape: tuple[int, int]) -> Pixels:
    """Memory to be written to, in a file without a name; its room on the disk is there before it is needed."""
    try:
        with tempfile.TemporaryFile() as file:
            _reserve(file, math.prod(shape))
            return np.memmap(file, np.uint8, "r+", shape=shape)
    except OSError as why:
        raise disk_error(why, Path(tempfile.gettempdir())) from why


def _reserve(file: IO[bytes], size: int) -> None:
    """Makes a file that long. A full disk is an OSError here, where it would kill who writes to mapped memory later."""
    with contextlib.suppress(AttributeError):  # Linux and its like have it
        try:
            return os.posix_fallocate(file.fileno(), 0, size)
        except OSError as why:
            if why.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
    for first in range(0, size, _ZEROS):
        file.write(bytes(min(_ZEROS, size - first)))
    file.flush()


def turned(view: Pixels) -> Pixels:
    """A mirrored or transposed view, laid out anew and read-only; in a file where it was in one."""
    if isinstance(view, np.memmap):
        return in_file(len(view), (view[top : top + _ROWS] for top in range(0, len(view), _ROWS)))
    if view.ndim == 3 and view.shape[2] == 3 and set(map(abs, view.strides[:2])) >= {4}:  # as Pillow has RGB
        whole = np.lib.stride_tricks.as_strided(view, (*view.shape[:2], 4), (*view.strides[:2], 1))
        found = np.ascontiguousarray(whole.view(np.uint32)).view(np.uint8)[:, :, :3]
    else:
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
    colour = pixels[:, :, :3] if pixels.shape[2] >= 3 else pixels[:, :, :1]
    if box is not None or pixels.shape[:2] != (height, width):
        resized = _image(colour).resize((width, height), Image.Resampling.BILINEAR, box)
        colour = np.asarray(resized).reshape(height, width, -1)
    return np.repeat(colour, 3, axis=2) if colour.shape[2] == 1 else np.ascontiguousarray(colour)


def _image(pixels: Pixels) -> Image.Image:
    if not isinstance(pixels, np.memmap):
        return image_of(pixels)
    whole = Image.new(MODES[pixels.shape[2] - 1], (pixels.shape[1], pixels.shape[0]), None)
    for top in range(0, len(pixels), _ROWS):
        whole.paste(image_of(pixels[top : top + _ROWS]), (0, top))
        let_go(pixels)
    return whole
