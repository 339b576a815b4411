"""A perturbation from its square working size to a picture's own, in whole numbers: the same on every machine.

Bilinear with half-pixel centres, antialiased where it shrinks: the places and weights of torch's `interpolate` with
`antialias`, whose floats differ in the last bit between processors. Values are whole parts of a grey level, weights whole
parts of one that add up to it. So what is constant stays what it was, and nothing leaves the budget. Up to a budget of 8
levels all fits 16 bits, and about one sample in forty of noise comes out one level beside the nearest; above it 32 bits are
taken, and fewer than one in a hundred does. Ties go up and down by turns.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from unlearnable._views import scratch
from unlearnable.types import Pixels

if TYPE_CHECKING:
    from torch import Tensor

_Whole = NDArray[np.signedinteger[Any]]
_Places = NDArray[np.intp]
_Bounds = tuple[Pixels, Pixels, Pixels]
Rows = Callable[[int, int], _Bounds]
_SMALL = 1 << 21  # numbers; many photos of a class have the same size, and resampling takes as long as a codec
_AT_ONCE = 1 << 17  # numbers: with fewer, calling numpy takes longer than its work; with more, they leave the cache
_KEPT = 48_000_000  # bytes
_recent: dict[tuple[object, ...], _Pattern] = {}
_NARROW = 8  # of larger budgets, 16 bits would leave too little for parts of a level


def resampled(delta: Tensor, levels: int, height: int, width: int, lanes: int) -> Rows:
    """One perturbation at one picture's size: a function (top, bottom) -> most, least, steps of (rows, width * lanes).

    delta: (3, S, S) float in [0, 1] pixel units; lanes: numbers that lie side by side for a pixel, as `_views.lanes` has
    them. One or two lanes take the green channel; what is no colour takes nought. steps are whole grey levels modulo 256,
    most and least what a number may be before it is moved by them; all are uint8, not to be written to, and stay until this
    thread asks for others; one row stands for all where they are the same. Raises ValueError for what is not finite.
    """
    numbers = delta.numpy()
    key = (levels, lanes, numbers[:, ::31, ::31].tobytes())
    found = _recent.get(key)
    if found is not None and not np.array_equal(numbers, found.numbers):
        found = None
    if found is None and not math.isfinite(delta.sum()):  # `isfinite` of them all takes as long as a small photo
        raise ValueError("the perturbation is not finite")
    if numbers.shape[1:] == (height, width):  # nothing to resample: rounded once, half to even
        steps = _side_by_side(_levels(delta, levels, 0, lanes, np.int16), lanes)
        return _rows_of(np.stack(_bounds(steps.reshape(height, -1))), np.arange(height))
    if found is None:
        found = _recent[key] = _Pattern(delta, levels, lanes)
    elif found.knows(height, width):
        return found.rows(height, width)
    rows = found.rows(height, width)
    _forget()
    return rows


def _forget() -> None:
    """Gives up the oldest patterns where all take too much memory."""
    for oldest in [*_recent]:  # lists, as other threads may add to it and take from it
        if sum(kept.nbytes() for kept in [*_recent.values()]) <= _KEPT:
            break
        _recent.pop(oldest, None)


class _Pattern:
    """A perturbation in whole parts of a level, rows and columns that are the same once; and what small pictures' rows are."""

    def __init__(self, delta: Tensor, levels: int, lanes: int) -> None:
        self.numbers = delta.numpy().copy()
        self._levels, self._lanes = levels, lanes
        kind, self._fine, self._shares = _precision(levels)
        parts = _levels(delta, levels, self._fine, lanes, kind)
        columns, self._column = _different(parts.swapaxes(0, 2))
        self._lines, self._line = _different(parts.swapaxes(0, 1), apart=True)
        parts = _side_by_side(parts[:, self._lines][:, :, columns].swapaxes(1, 2), lanes)
        self._parts = parts.reshape(len(parts), -1)
        self._sizes: dict[tuple[int, int], tuple[Pixels, _Places]] = {}

    def nbytes(self) -> int:
        return self.numbers.nbytes + self._parts.nbytes + sum(whole.nbytes for whole, _ in [*self._sizes.values()])

    def knows(self, height: int, width: int) -> bool:
        """Whether the rows of such pictures are at hand."""
        return (height, width) in self._sizes

    def rows(self, height: int, width: int) -> Rows:
        """What `resampled` gives, for pictures of that size."""
        if found := self._sizes.get((height, width)):
            return _rows_of(*found)
        lanes, shares = self._lanes, self._shares
        wide = _Mixed(self._parts, self._column, width, shares, shares, self._lines, lanes)
        across = wide.made(0, wide.count)
        pixel = np.dtype(f"V{lanes * across.itemsize}")  # moved as one, in a fifth of the time
        turned = np.ascontiguousarray(across.view(pixel).T.take(wide.which, axis=1)).view(across.dtype)
        mixed = _Mixed(turned, self._line, height, shares, shares + self._fine, np.arange(width), lanes)
        if mixed.count * width * lanes > _SMALL:
            return lambda top, bottom: _repeated(
                lambda first, beyond: _bounds(mixed.made(first, beyond)), mixed.which[top:bottom]
            )
        whole = np.empty((3, mixed.count, width * lanes), np.uint8)
        many = max(1, _AT_ONCE // (width * lanes))
        for first in range(0, mixed.count, many):
            whole[:, first : first + many] = _bounds(mixed.made(first, first + many))
        self._sizes[height, width] = whole, mixed.which
        return _rows_of(whole, mixed.which)


def _rows_of(whole: Pixels, which: _Places) -> Rows:
    return lambda top, bottom: _repeated(
        lambda first, beyond: (whole[0][first:beyond], whole[1][first:beyond], whole[2][first:beyond]),
        which[top:bottom],
    )


def _repeated(made: Rows, which: _Places) -> _Bounds:
    """The rows `which` of those that `made` gives, which come in order; one where they are all the same."""
    found = made(which[0], which[-1] + 1)
    if len(found[0]) in (1, len(which)):
        return found
    shape = (len(which), found[0].shape[1])
    most, least, moved = (
        each.take(which - which[0], axis=0, out=scratch(f"repeated {number}", shape, np.uint8), mode="clip")
        for number, each in enumerate(found)
    )
    return most, least, moved


def _bounds(steps: _Whole) -> _Bounds:
    """The most and the least that a number may be before it is moved, and its steps, until the next call."""
    most, least, moved = (scratch(name, steps.shape, np.uint8) for name in ("most", "least", "moved"))
    np.copyto(moved, steps, casting="unsafe")
    np.multiply(np.negative(moved, out=least), np.less(steps, 0, out=most.view(np.bool_)).view(np.uint8), out=least)
    np.invert(np.add(moved, least, out=most), out=most)
    return most, least, moved


class _Mixed:
    """Rows made of the rows `which` of `values`, in 2**-shift of their unit; ties go as the numbers `turns` of columns are
    even or odd.

    One row and what the next are more than it take one multiplication less than two rows and their weights; and rows
    of which nothing differs from the row before, as in patterns of blocks, need not be made at all.
    """

    def __init__(
        self, values: _Whole, which: _Places, length: int, shares: int, shift: int, turns: _Places, lanes: int
    ) -> None:
        self._first, self._beyond = _places(length, len(which), shares)
        self._shift, self._row = shift, which
        _, pairs, pair = np.unique(which[:-1] * len(which) + which[1:], return_index=True, return_inverse=True)
        self._rise = np.zeros((len(pairs) + 1, values.shape[1]), values.dtype)  # the last has none beyond it
        np.subtract(values[which[1:][pairs]], values[which[:-1][pairs]], out=self._rise[:-1])
        self._pair = np.append(pair, len(pairs))
        self._base = values << values.dtype.type(shares)
        self._base += np.repeat((1 << shift - 1) - (turns & 1), lanes).astype(values.dtype)
        differs = np.take(self._rise.any(axis=1), pair)
        alike = np.concatenate([[0], differs.cumsum()])  # a number for every run of equal rows
        here = alike[self._first]
        last = np.minimum(self._first + len(self._beyond), len(which) - 1)
        flat = here == alike[last]
        new = np.ones(length, dtype=bool)
        new[1:] = ~(flat[1:] & flat[:-1] & (here[1:] == here[:-1]))
        self._made = new.nonzero()[0]
        self.count = len(self._made)
        self.which = new.cumsum() - 1  # of the rows that are made, which every row is

    def made(self, start: int, stop: int) -> _Whole:
        """Of the rows that are not the same as the one before, those from number `start` on."""
        made = self._made[start:stop]
        first = self._first[made]
        shape = (len(made), self._base.shape[1])
        found, rise = (scratch(name, shape, self._base.dtype) for name in ("found", "rise"))
        self._base.take(self._row[first], axis=0, out=found, mode="clip")
        for number, beyond in enumerate(self._beyond):
            self._rise.take(self._pair.take(first + number, mode="clip"), axis=0, out=rise, mode="clip")
            rise *= beyond[made, None].astype(rise.dtype)  # may leave the type's range, and the sum comes back into it
            found += rise
        found >>= self._shift
        return found


def _different(values: _Whole, apart: bool = False) -> tuple[_Places, _Places]:
    """Indices of rows that stand for all, and which of them every row equals. apart: even rows do not stand for odd ones."""
    number = np.concatenate([[0], (values[1:] != values[:-1]).any(axis=(1, 2)).cumsum()])
    if apart:
        number = 2 * number + np.arange(len(values)) % 2
    _, first, which = np.unique(number, return_index=True, return_inverse=True)
    return first, which


def _precision(levels: int) -> tuple[DTypeLike, int, int]:
    """A type of whole numbers, and how many bits of it hold the parts of a level and the parts of one in weights."""
    kind = np.int16 if levels <= _NARROW else np.int32
    bits = int(math.log2(np.iinfo(kind).max / (levels + 0.5)))
    fine = (bits + 1 - levels.bit_length()) // 2  # the more levels, the more a part of a weight is worth
    return kind, fine, bits - fine


def _levels(delta: Tensor, levels: int, fine: int, lanes: int, kind: DTypeLike) -> _Whole:
    """(1 or 3, S, S) in 2**-fine of a level, inside the budget."""
    most = levels << fine
    colours = delta[1:2] if lanes < 3 else delta
    found: _Whole = colours.mul(255 << fine).round_().clamp_(-most, most).numpy().astype(kind)
    return found


def _side_by_side(colours: _Whole, lanes: int) -> _Whole:
    """(1 or 3, A, B) -> (A, B, lanes)."""
    found = np.zeros((*colours.shape[1:], lanes), colours.dtype)
    for number, colour in enumerate(colours):
        found[:, :, number] = colour
    return found


@functools.lru_cache(maxsize=64)
def _places(length: int, size: int, shares: int) -> tuple[_Places, _Whole]:
    """Of each of `length` places among `size`: the first that it is made of, and how much of it comes from beyond the
    first, from beyond the second ..., (places, length) in 2**-shares.

    In units of half a part of length * size, a triangle of half width 2 * max(length, size) around each place.
    """
    wide = 2 * max(length, size)
    centre = (2 * np.arange(length) + 1) * size
    first = np.maximum((centre - wide - length) // (2 * length) + 1, 0)
    last = np.minimum(-((length - wide - centre) // (2 * length)) - 1, size - 1)
    places = first + np.arange((last - first).max() + 1)[:, None]
    weights = np.maximum(wide - np.abs((2 * places + 1) * length - centre), 0) * (places < size)
    total = weights.sum(axis=0)
    beyond = weights[::-1].cumsum(axis=0)[::-1][1:]
    return first, ((beyond << shares + 1) + total) // (2 * total)
