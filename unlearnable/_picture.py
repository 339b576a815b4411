"""One decoded image, and what encoding it again needs. `imageio` makes these and hands them out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ImageFile, TiffImagePlugin

from unlearnable import _exif, _icc, _views, _xmp
from unlearnable.types import Pixels


@dataclass(frozen=True)
class Motion:
    """How long each frame is shown, in milliseconds, and how often all are played (0: without end).

    apart: the first picture is what programs without animation show, and no frame of it.
    """

    durations: tuple[float, ...]
    loop: int
    apart: bool = False


@dataclass(frozen=True, eq=False)
class Picture:
    """One decoded image and what encoding it again needs.

    pixels: (H, W, C) uint8, upright, read-only; C is 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha.
    container: "JPEG", "PNG", "WEBP", "TIFF" ..., by content; lossless: whether the source's pixels were stored so.
    exif has no thumbnail and no maker note, and says that the picture is upright; xmp likewise, and holds no picture.
    dpi: horizontal, vertical.
    deep: (H, W, C) uint16 where the file has 16 bits a channel; `pixels` are then deep // 257.
    inks: (H, W, 4) uint8 cyan, magenta, yellow, black of a CMYK file; `pixels` are then what `convert("RGB")` shows.
    more: further frames (with `motion`) or pages (without), each a picture of its own.
    """

    pixels: Pixels
    container: str
    lossless: bool
    name: str
    icc: bytes | None = None
    exif: bytes | None = None
    dpi: tuple[float, float] | None = None
    xmp: bytes | None = None
    deep: NDArray[np.uint16] | None = None
    inks: Pixels | None = None
    more: tuple[Picture, ...] = ()
    motion: Motion | None = None

    def nbytes(self) -> int:
        """Of all that is held, further frames included."""
        held = [array for array in (self.pixels, self.deep, self.inks) if array is not None]
        return sum(array.nbytes for array in held) + sum(page.nbytes() for page in self.more)


def described(image: ImageFile.ImageFile, pixels: Pixels, container: str, lossless: bool, name: str) -> Picture:
    """Upright pixels with what `encode` needs beside them."""
    info = image.info
    height, width = pixels.shape[:2]
    dpi = info.get("dpi")
    # 1 is what Pillow reports of a TIFF that says nothing.
    sane = isinstance(dpi, tuple) and len(dpi) == 2 and all(1 < float(v) <= 30_000 for v in dpi)
    xmp = info.get("xmp")
    return Picture(
        pixels=pixels,
        container=container,
        lossless=lossless,
        name=name,
        icc=_icc.cleaned(info.get("icc_profile")),
        exif=_exif.rebuilt(image, width, height) if _has_exif(image) else None,
        dpi=(float(dpi[0]), float(dpi[1])) if dpi is not None and sane else None,
        xmp=_xmp.cleaned(xmp, width, height) if isinstance(xmp, bytes) else None,
    )


def _has_exif(image: ImageFile.ImageFile) -> bool:
    keys = ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif")
    return isinstance(image, TiffImagePlugin.TiffImageFile) or any(key in image.info for key in keys)


def turn(image: ImageFile.ImageFile) -> int:
    """Orientation 1 to 8; Pillow also honours the one that XMP gives."""
    return _exif.orientation(image) if _has_exif(image) else 1


def upright(pixels: Any, orientation: int) -> Any:
    """Turns and mirrors so that EXIF orientation 1 is true."""
    if orientation == 1:
        return pixels
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    # After the transposition (5 to 8), what remains is a mirroring of rows, of columns, or of both.
    down = orientation in (3, 4, 7, 8)
    across = orientation in (2, 3, 6, 7)
    return _views.turned(pixels[:: -1 if down else 1, :: -1 if across else 1])
