"""Logistic regression on pixels: what it learns of a protected copy is the shortcut that lies there in plain sight.

Its weights are a last layer alone, so that a file fits as many classes only. A linear probe on features is another thing, such
as frozen:resnet18@FILE.
"""

from __future__ import annotations

from torch import Tensor, nn

COST = "0.03 million weights, as many multiply-adds an image of 32 pixels"
WEIGHTS = False  # published by nobody: files alone
_LENGTH = 4.0


def body(size: int, pretrained: bool) -> tuple[nn.Module, int, int]:
    return _Flat(3 * size * size), 3 * size * size, size


class _Flat(nn.Module):
    """Pixels of unit variance as vectors of length 4: at their own, SGD at the networks' learning rate would diverge."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.scale = _LENGTH / features**0.5

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x.flatten(1) * self.scale
        return out
