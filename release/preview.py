"""A contact sheet before a long run: originals, differences times ten, and protected images, in one file of the owner's.

The protected pictures are decoded from the very bytes that a run with the same key would ship. It holds originals, so it is
readable by its owner alone and never part of a release.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from release import pages
from release.build import Perturb, Settings, make
from release.files import write_anew
from unlearnable import budget, imageio
from unlearnable.errors import ImageError, UsageError, disk_error
from unlearnable.imageio import Picture
from unlearnable.types import Pixels, Record, Source

GAIN = 10
SHOWN = 12
_SIDE, _GAP = 256, 8


@dataclass(frozen=True)
class Shown:
    """One image three times at preview size, (S, S, 3) uint8, and what was measured at full size."""

    id: str
    original: Pixels
    difference: Pixels
    protected: Pixels
    linf: int
    psnr: float


def look(source: Source, perturb: Perturb, settings: Settings, count: int = SHOWN) -> list[Shown]:
    """Protects `count` images spread over the source, in memory. Raises UsageError when none of them can be."""
    found: list[Shown] = []
    why = ""
    for record in _spread(source.records, count):
        try:
            picture = imageio.decode(source.read(record), record.id, settings.max_pixels)
            made = make(picture, perturb([record], [picture.pixels])[0], settings)
            shipped = imageio.decode(made.data, record.id, settings.max_pixels).pixels
        except ImageError as error:
            why = str(error)
            continue
        found.append(Shown(record.id, *_three(picture.pixels, shipped), made.linf, made.psnr))
    if not found:
        raise UsageError(f"No image of {source.spec} could be previewed: {why}")
    return found


def page(shown: Sequence[Shown], facts: Sequence[tuple[str, str]], note: str) -> bytes:
    """The sheet as one self-contained page. facts: (what, value) to head it."""
    rows = [
        {
            "id": one.id,
            "change": f"at most {one.linf} of 255, {one.psnr:.1f} dB" if np.isfinite(one.psnr) else "unchanged",
            "pictures": [
                (name, _inline(pixels))
                for name, pixels in (
                    ("Original", one.original),
                    (f"Difference × {GAIN}", one.difference),
                    ("Protected", one.protected),
                )
            ],
            "small": one.original.shape[0] < pages.SMALL,
        }
        for one in shown
    ]
    return pages.html("preview.html", {"rows": rows, "facts": facts, "note": note}).encode()


def sheet(shown: Sequence[Shown]) -> bytes:
    """The same as one PNG: a row an image, original, difference and protected."""
    side = max(one.original.shape[0] for one in shown)
    step = side + _GAP
    canvas = np.full((_GAP + step * len(shown), _GAP + 3 * step, 3), 255, np.uint8)
    for row, one in enumerate(shown):
        for column, pixels in enumerate((one.original, one.difference, one.protected)):
            top, left = _GAP + row * step, _GAP + column * step
            canvas[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    return _png(canvas)


def require_writable(path: Path, overwrite: bool) -> None:
    """Raises UsageError for an ending that is no page and no picture, a folder that is not there, or a file that is."""
    if path.suffix.lower() not in (".html", ".png"):
        raise UsageError(f"{path} is neither a page nor a picture.", "Let --out end in .html or .png.")
    if not path.parent.is_dir():
        raise UsageError(f"The folder {path.parent} does not exist.", "Make it first.")
    if path.exists() and not overwrite:
        raise UsageError(f"{path} exists.", "Name another --out, or pass --overwrite.")


def write(path: Path, data: bytes) -> None:
    """Writes the sheet, readable by its owner alone. Raises UnlearnableError when the disk fails."""
    try:
        write_anew(path, data, 0o600)
    except OSError as why:
        raise disk_error(why, path) from why


def _three(original: Pixels, protected: Pixels) -> tuple[Pixels, Pixels, Pixels]:
    colours = min(budget.colour_channels(original), budget.colour_channels(protected))
    difference = protected[:, :, :colours].astype(np.int16) - original[:, :, :colours].astype(np.int16)
    amplified = np.clip(128 + GAIN * difference, 0, 255).astype(np.uint8)
    side = min(_SIDE, *original.shape[:2])
    first, second, third = (imageio.trainer_view(pixels, side) for pixels in (original, amplified, protected))
    return first, second, third


def _spread(records: Sequence[Record], count: int) -> list[Record]:
    count = min(count, len(records))
    return [records[(2 * i + 1) * len(records) // (2 * count)] for i in range(count)]


def _png(pixels: Pixels) -> bytes:
    return imageio.encode(pixels, Picture(pixels, "PNG", True, "preview"), "PNG")


def _inline(pixels: Pixels) -> str:
    return "data:image/png;base64," + base64.b64encode(_png(pixels)).decode()
