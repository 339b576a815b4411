"""A sample of the source as networks see it: decoded once, by several workers, at one size, in memory or a file (`spill`).

Everything that learns something from the owner's images (clustering, fit, auto, victims) learns it from such a sample;
only writing the release touches every image.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from unlearnable import imageio, spill
from unlearnable.errors import ImageError, UsageError
from unlearnable.types import Pixels, Record, Source

SMALL = 64  # images up to this side are used as they are; larger ones are photos, seen resized and cropped
PHOTO_WORKING_SIZE = 224
_LARGE = 8 << 20  # bytes as stored: pictures that are decoded one at a time, for they take much memory
_alone = threading.Lock()


@dataclass(frozen=True)
class Looks:
    """Decodable records and their pictures. images: (N, 3, V, V) uint8."""

    records: tuple[Record, ...]
    images: Tensor

    def pick(self, chosen: Sequence[int]) -> Looks:
        where = torch.as_tensor(list(chosen), dtype=torch.long)
        return Looks(tuple(self.records[i] for i in chosen), spill.take(self.images, where))

    def __len__(self) -> int:
        return len(self.records)


def view_size(source: Source) -> tuple[int, int]:
    """(view, working) sizes for a source, from some twenty to forty images spread over it.

    Small images are viewed and perturbed at their own longest side, photos viewed at 64 and perturbed at 224. Raises
    UsageError when none of those can be read.
    """
    longest, seen, why = 0, 0, ""
    for record in source.records[:: max(1, len(source.records) // 20)]:
        try:
            picture = imageio.decode(source.read(record), record.id)
        except ImageError as error:
            why = str(error)
            continue
        longest, seen = max(longest, *picture.pixels.shape[:2]), seen + 1
    if not seen:
        raise UsageError(f"No image of {source.spec} could be read: {why}")
    return (longest, longest) if longest <= SMALL else (SMALL, PHOTO_WORKING_SIZE)


def look(
    source: Source,
    records: Sequence[Record],
    size: int,
    view: Callable[[Pixels, int], Pixels] | None = None,
    each: Callable[[], None] = lambda: None,
) -> Looks:
    """Decodes records to `size`. Unreadable ones are left out here; writing the release reports them."""
    view = view or imageio.trainer_view

    def seen(record: Record) -> Pixels | None:
        with admitted(record):
            try:
                return view(imageio.decode(source.read(record), record.id).pixels, size)
            except ImageError:
                return None

    kept: list[Record] = []
    images = spill.empty(len(records), 3, size, size)
    rows = images.numpy()
    for record, pixels in zip(records, spill.ahead(seen, records), strict=True):
        each()
        if pixels is not None:
            rows[len(kept)] = pixels.transpose(2, 0, 1)
            kept.append(record)
    return Looks(tuple(kept), images[: len(kept)])


def admitted(record: Record) -> AbstractContextManager[object]:
    """Who decodes this picture in a thread waits here until no other large one is being decoded."""
    return _alone if record.size > _LARGE else nullcontext()


def to_tensor(images: Sequence[Pixels], size: int) -> Tensor:
    """A list of (S, S, 3) uint8 arrays -> (N, 3, S, S) uint8."""
    stacked = np.stack(images) if images else np.zeros((0, size, size, 3), np.uint8)
    return torch.from_numpy(stacked).permute(0, 3, 1, 2).contiguous()


def evenly(indices: Sequence[int], most: int) -> Sequence[int]:
    """At most `most` of them, spread over the whole list: sources come class by class, and the first would be one class."""
    return indices if len(indices) <= most else [indices[i * len(indices) // most] for i in range(most)]


def draw(records: Sequence[Record], count: int, seed: int = 0) -> list[Record]:
    """At most `count` records in their order, drawn evenly at random."""
    if len(records) <= count:
        return list(records)
    chosen = np.random.default_rng(seed).choice(len(records), count, replace=False)
    return [records[i] for i in sorted(chosen.tolist())]
