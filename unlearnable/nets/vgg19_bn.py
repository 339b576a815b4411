"""VGG-19 with batch normalisation; small images keep three max-pools of five, and go without the layers of 4096."""

from __future__ import annotations

from torch import nn

from unlearnable.nets import _torchvision

PAPER = "Simonyan and Zisserman 2014, arXiv 1409.1556"
COST = "20 million weights (139 over 64 pixels), 0.5 G multiply-adds an image of 32 pixels"


def body(size: int, pretrained: bool) -> tuple[nn.Module, int, int]:
    return _torchvision.body("vgg19_bn", size, pretrained, full_size=("features.39", "features.52"))
