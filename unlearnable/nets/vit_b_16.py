"""ViT-B/16, a vision transformer: patches of 16 pixels; images below 128 are enlarged to that."""

from __future__ import annotations

from torch import nn

from unlearnable.nets import _torchvision

PAPER = "Dosovitskiy et al. 2020, arXiv 2010.11929"
COST = "86 million weights, 3.7 G multiply-adds an image of 32 pixels"


def body(size: int, pretrained: bool) -> tuple[nn.Module, int, int]:
    return _torchvision.body("vit_b_16", size, pretrained, full_size=())
