"""16 bits a channel, in PNG and TIFF: a step of one grey level is 257 of the stored numbers, and the low bits are kept.

Pillow opens 16-bit colour as 8-bit without a word, and cannot hold it. But each of its two unpackers of 16-bit colour
takes one byte of the two, so decoding twice with one and the other gives the high and the low bytes. Written are grey
TIFF by Pillow, and the rest here: only the pixels' own part, all other parts come from Pillow.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ImageFile, TiffImagePlugin

from unlearnable.types import Pixels

STEP = 257  # stored numbers a grey level: 255 * 257 = 65535
_HALVES = {f"{mode};16{a}": f"{mode};16{b}" for mode in ("RGB", "RGBA") for a, b in ("BL", "LB", "NB")}
_ROWS = 256  # at a time
_PLANAR, _PHOTOMETRIC, _WHITE_IS_ZERO = 284, 262, 0


def readable(image: ImageFile.ImageFile) -> bool:
    """Whether all 16 bits of an opened, not yet loaded image can be had."""
    if "transparency" in image.info:  # a colour that is transparent, in 16 bits
        return False
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tags = image.tag_v2
        if tags.get(_PLANAR, 1) != 1 or tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
            return False
    return image.mode.startswith("I;16") or (bool(image.tile) and all(_raw(t) in _HALVES for t in image.tile))


def read(reopen: Callable[[], ImageFile.ImageFile]) -> NDArray[np.uint16]:
    """(H, W) or (H, W, C) numbers of an image that is `readable`; reopen: gives it opened and not loaded."""
    image = reopen()
    if image.mode.startswith("I;16"):
        image.load()
        return np.asarray(image).astype(np.uint16)
    image.load()
    both: NDArray[np.uint16] = np.asarray(image).astype(np.uint16)
    both <<= 8
    again = reopen()
    again.tile = [t._replace(args=_with_raw(t.args, _HALVES[_raw(t)])) for t in again.tile]
    again.load()
    both |= np.asarray(again)
    return both


def grey_levels(deep: NDArray[np.uint16]) -> Pixels:
    return (deep // STEP).astype(np.uint8)


def moved(deep: NDArray[np.uint16], pixels: Pixels) -> NDArray[np.uint16]:
    """`deep` moved by as many steps as `pixels` differ from its grey levels, inside 0..65535.

    The grey levels of the result are `pixels`, and no number moved by more than its steps.
    """
    out = np.empty_like(deep)
    for top in range(0, len(deep), _ROWS):
        rows = slice(top, top + _ROWS)
        low = deep[rows].astype(np.int32) % STEP
        out[rows] = np.minimum(pixels[rows].astype(np.int32) * STEP + low, 65535)
    return out


def png(deep: NDArray[np.uint16], shell: bytes) -> bytes:
    """A PNG of (H, W, C) numbers; shell: an 8-bit PNG of any size whose other parts are taken over."""
    height, width, channels = deep.shape
    colour = (0, 4, 2, 6)[channels - 1]
    header = struct.pack(">LLBBBBB", width, height, 16, colour, 0, 0, 0)
    out = io.BytesIO()
    out.write(shell[:8])
    at = 8
    while at < len(shell):
        length = int.from_bytes(shell[at : at + 4], "big")
        kind = shell[at + 4 : at + 8]
        if kind == b"IHDR":
            out.write(_chunk(kind, header))
        elif kind == b"IDAT":
            for part in _compressed(deep):
                out.write(_chunk(kind, part))
        else:
            out.write(shell[at : at + 12 + length])
        at += 12 + length
    return out.getvalue()


def tiff(deep: NDArray[np.uint16], tags: Any, icc: bytes | None, dpi: tuple[float, float] | None, fp: Any) -> None:
    """Writes a page of (H, W, 3 or 4) numbers, uncompressed; tags: an `Image.Exif` of what else to say."""
    height, width, channels = deep.shape
    page = TiffImagePlugin.ImageFileDirectory_v2(prefix=b"II")
    for tag in tags:
        page[tag] = tags.get_ifd(tag) if tag in (0x8769, 0x8825) else tags[tag]
    page[256], page[257], page[258], page[259], page[262] = width, height, (16,) * channels, 1, 2
    page[273], page[277], page[278], page[279] = 0, channels, height, deep.nbytes
    page[_PLANAR] = 1
    if channels == 4:
        page[338] = 2  # alpha that the colours are not multiplied with
    if icc:
        page[34675] = icc
        page.tagtype[34675] = 7
    if dpi:
        page[296], page[282], page[283] = 2, dpi[0], dpi[1]
    fp.seek(fp.tell())
    page.save(fp)
    for top in range(0, height, _ROWS):
        fp.write(np.ascontiguousarray(deep[top : top + _ROWS], dtype="<u2").tobytes())


def _raw(tile: Any) -> str:
    return tile.args if isinstance(tile.args, str) else tile.args[0]


def _with_raw(args: Any, raw: str) -> Any:
    return raw if isinstance(args, str) else (raw, *args[1:])


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">L", len(body)) + kind + body + struct.pack(">L", zlib.crc32(kind + body))


def _compressed(deep: NDArray[np.uint16]) -> Iterator[bytes]:
    """The image's bytes, each row as its difference from the row above (PNG filter 2), in parts."""
    packer = zlib.compressobj(6, zlib.DEFLATED, 15, 9, zlib.Z_FILTERED)
    width = deep.shape[1] * deep.shape[2] * 2
    above = np.zeros((1, width), dtype=np.uint8)
    for top in range(0, len(deep), _ROWS):
        rows = np.ascontiguousarray(deep[top : top + _ROWS], dtype=">u2").view(np.uint8).reshape(-1, width)
        lines = np.full((len(rows), width + 1), 2, dtype=np.uint8)
        lines[:, 1:] = rows - np.concatenate([above, rows[:-1]])
        above = rows[-1:].copy()
        if part := packer.compress(lines.tobytes()):
            yield part
    yield packer.flush()
