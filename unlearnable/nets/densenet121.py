"""DenseNet-121, every layer of which sees all before it; small images get a 3x3 stem and no max-pool."""

from __future__ import annotations

from torch import nn

from unlearnable.nets import _torchvision

PAPER = "Huang et al. 2016, arXiv 1608.06993"
COST = "7.0 million weights, 0.9 G multiply-adds an image of 32 pixels"


def body(size: int, pretrained: bool) -> tuple[nn.Module, int, int]:
    return _torchvision.body("densenet121", size, pretrained, full_size=("features.pool0",))
