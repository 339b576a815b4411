"""ConvNeXt-T, convolutions in the manner of a transformer; small images get a 3x3 stem in place of 4x4 patches."""

from __future__ import annotations

from torch import nn

from unlearnable.nets import _torchvision

PAPER = "Liu et al. 2022, arXiv 2201.03545"
COST = "28 million weights, 1.5 G multiply-adds an image of 32 pixels"


def body(size: int, pretrained: bool) -> tuple[nn.Module, int, int]:
    return _torchvision.body("convnext_tiny", size, pretrained, full_size=())
