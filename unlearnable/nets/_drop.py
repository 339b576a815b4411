"""Dropout and stochastic depth that draw from a generator of their own.

torchvision's draw from torch's one global generator: two victims trained side by side would disturb each other, and the
same seed would not train the same network twice.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Drop(nn.Module):
    """Sets a share of the values to zero in training, or with `whole` of the images (a residual branch's stochastic depth)."""

    def __init__(self, share: float, seed: int, whole: bool) -> None:
        super().__init__()
        self.share, self.whole = share, whole
        self.generator = torch.Generator().manual_seed(seed)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.share:
            return x
        shape = (len(x),) + (1,) * (x.dim() - 1) if self.whole else x.shape
        kept = torch.rand(shape, generator=self.generator) >= self.share
        return x * (kept.to(x.device, x.dtype) / (1 - self.share))


def keyed(net: nn.Module) -> None:
    """Puts a `Drop` in place of everything in `net` that draws; seeded by torch's generator as it now stands."""
    from torchvision.ops import StochasticDepth

    for name, part in list(net.named_modules()):
        if isinstance(part, nn.Dropout | StochasticDepth) and part.p:
            seed = int(torch.randint(2**62, ()))
            net.set_submodule(name, Drop(part.p, seed, whole=isinstance(part, StochasticDepth)))
