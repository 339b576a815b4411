"""Uniform numbers made where they are used: whatever the device or the batch, an image's depend on its own seed alone.

SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators", doi 10.1145/2660193.2660195) in
64-bit integers that wrap around, which are the same on every device. For numbers that a step loop needs and that would take
too much memory all at once; what is drawn once comes from the key's own generators.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_GOLDEN, _FIRST, _SECOND = (
    n - (1 << 64) for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)  # as signed numbers


class Draws:
    """Call it with a shape for (N, *shape) numbers in [0, 1), float32 in steps of 2^-24, each seed's next ones.

    seeds: (N,) int64, on the device where the numbers are wanted.
    """

    def __init__(self, seeds: Tensor) -> None:
        self.seeds, self.drawn = seeds[:, None], 0

    def __call__(self, *shape: int) -> Tensor:
        first, count = self.drawn + 1, math.prod(shape)
        self.drawn += count
        places = torch.arange(first, first + count, device=self.seeds.device)
        words = mixed(self.seeds + places * _GOLDEN)
        return (_right(words, 40).float() * 2**-24).view(-1, *shape)


def mixed(words: Tensor) -> Tensor:
    """The generator's output function, on int64 of any shape."""
    words = (words ^ _right(words, 30)) * _FIRST
    words = (words ^ _right(words, 27)) * _SECOND
    return words ^ _right(words, 31)


def _right(words: Tensor, by: int) -> Tensor:
    """Shifted right, zeros coming in: the numbers are signed for PyTorch alone."""
    return (words >> by) & ((1 << (64 - by)) - 1)
