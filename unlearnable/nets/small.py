"""Four convolutions with batch normalisation (0.24 million weights): quick to train on a CPU."""

from __future__ import annotations

from torch import nn

COST = "0.24 million weights, 0.05 G multiply-adds an image of 32 pixels"
WEIGHTS = False  # published by nobody: files alone


def body(size: int, pretrained: bool, width: int = 32) -> tuple[nn.Module, int, int]:
    """Layers of 32, 64, 128 and 128 channels, each but the first halving the side; images over 48 pixels are halved first."""
    layers: list[nn.Module] = [] if size <= 48 else [nn.AvgPool2d(2)]
    layers += [block(3, width, pool=False), block(width, 2 * width), block(2 * width, 4 * width)]
    layers += [block(4 * width, 4 * width), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers), 4 * width, size


def block(inputs: int, outputs: int, pool: bool = True) -> nn.Module:
    # pooling before normalisation: a quarter of the work for the same network
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return nn.Sequential(
        convolution, nn.MaxPool2d(2) if pool else nn.Identity(), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )
