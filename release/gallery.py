"""A sample of the release beside its originals: small pictures for the reports, and how alike the two look.

Protected pictures are for everybody; originals, differences and the spectrum are the owner's alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from release.facts import Quality
from release.quality import Sample
from release.reading import ReadBack
from release.rows import Row
from unlearnable import budget, imageio
from unlearnable.imageio import Picture
from unlearnable.types import Pixels, Source

_COUNT, _SIDE = 12, 256
_ROWS = 64  # at a time

Triple = tuple[bytes, bytes, bytes]


@dataclass(frozen=True)
class Seen:
    """triples: (original, difference, protected), each a PNG of at most 256 pixels a side."""

    triples: list[Triple]
    quality: Quality
    spectrum: dict[str, Any] | None


def look(source: Source, protected: Sequence[Row], read_back: ReadBack, gain: int) -> Seen:
    """Measures and shows 12 images spread over the protected ones, or all where there are fewer.

    Each is decoded once for both: decoding is what a sample costs.
    gain: how many times as strong as it is the difference is shown, around mid-grey.
    """
    rows = _spread(protected)
    records = {record.id: record for record in source.records}
    sample, triples = Sample(), []
    copies = iter(read_back(rows))
    for row in rows:  # one file at a time in memory: that of a large picture is as much as its pixels
        original = imageio.decode(source.read(records[row.id]), row.id).pixels
        copy = imageio.decode(next(copies), row.id).pixels
        sample.add(original, copy)
        triples.append(_triple(original, copy, gain))
    if next(copies, None) is not None:
        raise ValueError("more copies were read back than rows asked for")
    return Seen(triples, sample.quality(), sample.spectrum())


def _triple(original: Pixels, protected: Pixels, gain: int) -> Triple:
    colours = min(budget.colour_channels(original), budget.colour_channels(protected))

    def strips() -> Iterator[Pixels]:  # of a large photo the wider numbers would not fit
        for top in range(0, len(original), _ROWS):
            rows = slice(top, top + _ROWS)
            difference = protected[rows, :, :colours].astype(np.int16) - original[rows, :, :colours].astype(np.int16)
            yield np.clip(128 + gain * difference, 0, 255).astype(np.uint8)
            imageio.let_go(original, protected)

    amplified = imageio.laid_out((*original.shape[:2], colours), strips())
    return _png(original), _png(amplified), _png(protected)


def _spread(rows: Sequence[Row]) -> list[Row]:
    if len(rows) <= _COUNT:
        return list(rows)
    return [rows[(2 * i + 1) * len(rows) // (2 * _COUNT)] for i in range(_COUNT)]


def _png(pixels: Pixels) -> bytes:
    side = min(_SIDE, *pixels.shape[:2])
    view = imageio.trainer_view(pixels, side)
    return imageio.encode(view, Picture(view, "PNG", True, "picture"), "PNG")
