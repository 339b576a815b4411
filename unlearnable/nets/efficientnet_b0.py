"""EfficientNet-B0; small images go through the first two strides at full size."""

from __future__ import annotations

from torch import nn

from unlearnable.nets import _torchvision

PAPER = "Tan and Le 2019, arXiv 1905.11946"
COST = "4.0 million weights, 0.12 G multiply-adds an image of 32 pixels"


def body(size: int, pretrained: bool) -> tuple[nn.Module, int, int]:
    return _torchvision.body("efficientnet_b0", size, pretrained, full_size=("features.2.0.block.1.0",))
