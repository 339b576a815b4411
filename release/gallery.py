"""Small pictures for the two reports: protected ones for everybody, originals and differences for the owner alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from release.build import Built, Row, read_back
from unlearnable import budget, imageio
from unlearnable.imageio import Picture
from unlearnable.types import Pixels, Source

_COUNT, _SIDE = 12, 256


def choose(source: Source, built: Built, root: Path, layout_name: str, gain: int) -> list[tuple[bytes, bytes, bytes]]:
    """Up to 12 images spread over the release: (original, difference, protected), each a PNG of at most 256 pixels.

    gain: how many times as strong as it is the difference is shown, around mid-grey.
    """
    rows = _spread(built.rows)
    records = {record.id: record for record in source.records}
    out = []
    for row, shipped in zip(rows, read_back(root, rows, layout_name), strict=True):
        original = imageio.decode(source.read(records[row.id]), row.id).pixels
        protected = imageio.decode(shipped, row.id).pixels
        colours = min(budget.colour_channels(original), budget.colour_channels(protected))
        difference = protected[:, :, :colours].astype(np.int16) - original[:, :, :colours].astype(np.int16)
        amplified = np.clip(128 + gain * difference, 0, 255).astype(np.uint8)
        out.append((_png(original), _png(amplified), _png(protected)))
    return out


def _spread(rows: tuple[Row, ...]) -> list[Row]:
    if len(rows) <= _COUNT:
        return list(rows)
    return [rows[(2 * i + 1) * len(rows) // (2 * _COUNT)] for i in range(_COUNT)]


def _png(pixels: Pixels) -> bytes:
    side = min(_SIDE, *pixels.shape[:2])
    view = imageio.trainer_view(pixels, side)
    return imageio.encode(view, Picture(view, "PNG", True, "picture"), "PNG")
