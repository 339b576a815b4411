"""MobileNetV2, of depthwise convolutions; small images go through the first two strides at full size."""

from __future__ import annotations

from torch import nn

from unlearnable.nets import _torchvision

PAPER = "Sandler et al. 2018, arXiv 1801.04381"
COST = "2.2 million weights, 0.09 G multiply-adds an image of 32 pixels"


def body(size: int, pretrained: bool) -> tuple[nn.Module, int, int]:
    return _torchvision.body("mobilenet_v2", size, pretrained, full_size=("features.2.conv.1.0",))
