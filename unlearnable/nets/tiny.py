"""The small network with a pooling more (0.24 million weights): a third of its cost, for benchmarks in miniature."""

from __future__ import annotations

from torch import nn

from unlearnable.nets.small import block

COST = "0.24 million weights, 0.013 G multiply-adds an image of 32 pixels"
WEIGHTS = False  # published by nobody: files alone


def body(size: int, pretrained: bool, width: int = 32) -> tuple[nn.Module, int, int]:
    """Layers of 32, 64, 128 and 128 channels, each but the last halving the side; images over 48 pixels are halved first."""
    del pretrained
    layers: list[nn.Module] = [] if size <= 48 else [nn.AvgPool2d(2)]
    layers += [block(3, width), block(width, 2 * width), block(2 * width, 4 * width)]
    layers += [block(4 * width, 4 * width, pool=False), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers), 4 * width, size
