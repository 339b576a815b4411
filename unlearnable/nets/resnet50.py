"""ResNet-50, of bottleneck blocks; small images get a 3x3 stem and no max-pool."""

from __future__ import annotations

from torch import nn

from unlearnable.nets import _torchvision

PAPER = "He et al. 2015, arXiv 1512.03385"
COST = "24 million weights, 1.3 G multiply-adds an image of 32 pixels"


def body(size: int, pretrained: bool) -> tuple[nn.Module, int, int]:
    return _torchvision.body("resnet50", size, pretrained, full_size=("maxpool",))
