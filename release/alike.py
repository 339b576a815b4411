"""Fingerprints of pictures, kept as numbers, and which of two sets are equal or nearly so. 24 bytes a picture.

content: of the file's bytes; pixels: of the upright pixels; look: 64 bits that say where the picture gets darker to the
right (a difference hash on 9 x 8 fields), which survive coding and scaling, and a perturbation of a few grey levels.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from unlearnable.types import Pixels

NEAR = 3  # bits of 64 in which two looks may differ
_MOST = 4  # near ones that are named for each picture
_FINEST = 256  # a side; of larger pictures every n-th pixel tells the same
_GREY = np.array([299, 587, 114])


def content(data: bytes) -> int:
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "big")


def pixels(of: Pixels) -> int:
    """Equal for equal pixels in whatever container. Grey is not taken for colour."""
    digest = hashlib.sha256(repr(of.shape).encode())
    digest.update(np.ascontiguousarray(of).data)
    return int.from_bytes(digest.digest()[:8], "big")


def look(of: Pixels) -> int:
    step = max(1, min(of.shape[:2]) // _FINEST)
    small = of[::step, ::step]
    grey = small[:, :, 0].astype(np.int64) if small.shape[2] < 3 else small[:, :, :3].astype(np.int64) @ _GREY
    rows, columns = (np.linspace(0, s, n, endpoint=False).astype(int) for s, n in zip(grey.shape, (8, 9), strict=True))
    sums = np.add.reduceat(np.add.reduceat(grey, rows, axis=0), columns, axis=1)
    areas = np.diff([*rows, grey.shape[0]])[:, None] * np.diff([*columns, grey.shape[1]])
    fields = sums / np.maximum(areas, 1)
    bits = np.packbits((fields[:, 1:] > fields[:, :-1]).ravel())
    return int.from_bytes(bits.tobytes(), "big")


@dataclass
class Prints:
    """Fingerprints of many pictures, numbered as they come. of: which file each picture is of."""

    of: array[int] = field(default_factory=lambda: array("q"))
    contents: array[int] = field(default_factory=lambda: array("Q"))
    looks: array[int] = field(default_factory=lambda: array("Q"))
    images: array[int] = field(default_factory=lambda: array("Q"))

    def add(self, of: int, data: bytes, frames: Sequence[Pixels]) -> None:
        """One file and every picture in it."""
        for frame in frames:
            self.of.append(of)
            self.contents.append(content(data))
            self.images.append(pixels(frame))
            self.looks.append(look(frame))


def equal(ours: array[int], theirs: array[int]) -> Iterator[tuple[int, int]]:
    """(number among ours, first number among theirs) of equal fingerprints."""
    a, b = _numbers(ours), _numbers(theirs)
    order = np.argsort(b, kind="stable")
    at = np.searchsorted(b[order], a)
    there = at < len(b)
    found = np.flatnonzero(there & (b[order][np.where(there, at, 0)] == a)) if len(b) else np.array([], int)
    for number in found:
        yield int(number), int(order[at[number]])


def near(ours: array[int], theirs: array[int], wanted: list[int]) -> Iterator[tuple[int, list[int]]]:
    """For the wanted ones of ours: which of theirs look alike within NEAR bits, the nearest first, at most a few.

    Two looks that differ in 3 bits are equal in one of four quarters, so only those that share a quarter are compared.
    """
    b = _numbers(theirs)
    quarters = [(b >> np.uint64(16 * q)) & np.uint64(0xFFFF) for q in range(4)]
    orders = [np.argsort(quarter, kind="stable") for quarter in quarters]
    ordered = [quarter[order] for quarter, order in zip(quarters, orders, strict=True)]
    for number in wanted:
        mine = np.uint64(ours[number])
        some = [np.array([], dtype=np.int64)]
        for q in range(4):
            part = (mine >> np.uint64(16 * q)) & np.uint64(0xFFFF)
            low, high = np.searchsorted(ordered[q], [part, part + np.uint64(1)])
            some.append(orders[q][low:high])
        candidates = np.unique(np.concatenate(some))
        distance = np.bitwise_count(b[candidates] ^ mine)
        close = np.argsort(distance, kind="stable")[: int((distance <= NEAR).sum())][:_MOST]
        yield number, [int(c) for c in candidates[close]]


def _numbers(of: array[int]) -> NDArray[np.uint64]:
    return np.frombuffer(of, dtype=np.uint64) if len(of) else np.array([], dtype=np.uint64)
