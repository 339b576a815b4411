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
_Both = tuple[Pixels, Pixels]
Rows = Callable[[int, int], _Both]
_SMALL = 1 << 19  # pixels; many photos of a class have the same size, and resampling takes as long as a codec
_ROWS = 64
_KEPT = 48_000_000  # bytes
_recent: dict[tuple[object, ...], tuple[NDArray[Any], Pixels]] = {}
_NARROW = 8  # of larger budgets, 16 bits would leave too little for parts of a level


def resampled(delta: Tensor, levels: int, height: int, width: int, lanes: int) -> Rows:
    """One perturbation at one picture's size: a function (top, bottom) -> (rows, width * lanes) up, and as much down.

    delta: (3, S, S) float in [0, 1] pixel units; lanes: numbers that lie side by side for a pixel, as `_views.lanes` has
    them. One or two lanes take the green channel; what is no colour takes nought. Both are whole grey levels as uint8, one
    of them nought, not to be written to; one row stands for all where they are the same. Raises ValueError for what is
    not finite.
    """
    numbers = delta.numpy()
    key = (levels, height, width, lanes, numbers[:, ::31, ::31].tobytes())
    if (found := _recent.get(key)) and np.array_equal(numbers, found[0]):
        return _rows_of(found[1])
    if not math.isfinite(delta.sum()):  # `isfinite` of them all takes as long as a small photo
        raise ValueError("the perturbation is not finite")
    if delta.shape[-2:] == (height, width):  # nothing to resample: rounded once, half to even
        return _rows_of(np.stack(_both(_parts(delta, levels, 0, lanes, np.int16).swapaxes(0, 1).reshape(height, -1))))
    kind, fine, shares = _precision(levels)
    columns = _parts(delta, levels, fine, lanes, kind)
    across, which = _Mixed(columns.reshape(len(columns), -1), width, shares, shares, lanes).rows(0, width)
    pixel = np.dtype(f"V{lanes * across.itemsize}")  # moved as one, in a fifth of the time
    turned = np.ascontiguousarray(across.view(pixel).T.take(which, axis=1)).view(across.dtype)
    mixed = _Mixed(turned, height, shares, shares + fine, lanes)

    def rows(top: int, bottom: int) -> _Both:
        steps, which = mixed.rows(top, bottom)
        both = _both(steps)
        return both if len(steps) in (1, len(which)) else (both[0].take(which, axis=0), both[1].take(which, axis=0))

    if height * width > _SMALL:
        return rows
    whole = np.empty((2, height, width * lanes), np.uint8)
    for top in range(0, height, _ROWS):
        whole[:, top : top + _ROWS] = rows(top, min(top + _ROWS, height))
    _recent[key] = (numbers.copy(), whole)
    while sum(kept.nbytes for pair in _recent.values() for kept in pair) > _KEPT and len(_recent) > 1:
        del _recent[next(iter(_recent))]
    return _rows_of(whole)


def _rows_of(whole: Pixels) -> Rows:
    return lambda top, bottom: (whole[0][top:bottom], whole[1][top:bottom])


def _both(steps: _Whole) -> _Both:
    """How far up, and how far down, until the next call. Overwrites `steps`."""
    up, down = (scratch(name, steps.shape, np.uint8) for name in ("up", "down"))
    part = scratch("part", steps.shape, steps.dtype)
    up[:] = np.clip(steps, 0, 255, out=part)
    down[:] = np.clip(np.negative(steps, out=steps), 0, 255, out=part)
    return up, down


class _Mixed:
    """Rows made of the rows of `values`, in 2**-shift of their unit.

    One row and what the next are more than it take one multiplication less than two rows and their weights; and rows
    of which nothing differs from the row before, as in patterns of blocks, need not be made at all.
    """

    def __init__(self, values: _Whole, length: int, shares: int, shift: int, lanes: int) -> None:
        self._first, self._beyond = _places(length, len(values), shares)
        self._shift = shift
        self._rise = np.zeros_like(values)
        np.subtract(values[1:], values[:-1], out=self._rise[:-1])
        self._base = values << values.dtype.type(shares)
        self._base += (1 << shift - 1) - (np.arange(values.shape[1]) // lanes & 1).astype(values.dtype)
        alike = np.concatenate([[0], self._rise[:-1].any(axis=1).cumsum()])  # a number for every run of equal rows
        here = alike[self._first]
        last = np.minimum(self._first + len(self._beyond), len(values) - 1)
        flat = here == alike[last]
        self._new = np.ones(length, dtype=bool)
        self._new[1:] = ~(flat[1:] & flat[:-1] & (here[1:] == here[:-1]))

    def rows(self, top: int, bottom: int) -> tuple[_Whole, NDArray[np.intp]]:
        """Rows top to bottom, those that are the same as the one before left out; and which of them each is."""
        which = np.concatenate([[0], self._new[top + 1 : bottom].cumsum()])
        made = np.concatenate([[top], np.flatnonzero(self._new[top + 1 : bottom]) + (top + 1)])
        first = self._first[made]
        shape = (len(made), self._base.shape[1])
        found, rise = (scratch(name, shape, self._base.dtype) for name in ("found", "part"))
        self._base.take(first, axis=0, out=found, mode="clip")
        for number, beyond in enumerate(self._beyond):
            self._rise.take(first + number, axis=0, out=rise, mode="clip")
            rise *= beyond[made, None].astype(rise.dtype)
            found += rise
        found >>= self._shift
        return found, which


def _precision(levels: int) -> tuple[DTypeLike, int, int]:
    """A type of whole numbers, and how many bits of it hold the parts of a level and the parts of one in weights."""
    kind = np.int16 if levels <= _NARROW else np.int32
    bits = int(math.log2(np.iinfo(kind).max / (levels + 0.5)))
    fine = (bits + 1 - levels.bit_length()) // 2  # the more levels, the more a part of a weight is worth
    return kind, fine, bits - fine


def _parts(delta: Tensor, levels: int, fine: int, lanes: int, kind: DTypeLike) -> _Whole:
    """(S, S, lanes) by columns, in 2**-fine of a level, inside the budget."""
    most = levels << fine
    colours = delta[1:2] if lanes < 3 else delta
    whole = colours.mul(255 << fine).round_().clamp_(-most, most).numpy().astype(kind)
    found = np.zeros((*whole.shape[:0:-1], lanes), kind)
    for number, colour in enumerate(whole):
        found[:, :, number] = colour.T
    return found


@functools.lru_cache(maxsize=64)
def _places(length: int, size: int, shares: int) -> tuple[NDArray[np.intp], _Whole]:
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
