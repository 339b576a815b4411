"""GoogLeNet without its auxiliary classifiers; small images get a 3x3 stem and no max-pool before the first module."""

from __future__ import annotations

from torch import nn

from unlearnable.nets import _torchvision

PAPER = "Szegedy et al. 2014, arXiv 1409.4842"
COST = "5.6 million weights, 1.5 G multiply-adds an image of 32 pixels"


def body(size: int, pretrained: bool) -> tuple[nn.Module, int, int]:
    return _torchvision.body("googlenet", size, pretrained, full_size=("maxpool1", "maxpool2"))
