"""A small vision transformer for small images: patches of 4 pixels (16 over 64 pixels), six layers of width 192.

torchvision's VisionTransformer with the width of ViT-Ti (Touvron et al. 2020, arXiv 2012.12877) and half its depth. Sides
that patches do not divide are resized to the next that they do. It learns slowly from few images, as transformers do.
"""

from __future__ import annotations

from torch import nn

PAPER = "Dosovitskiy et al. 2020, arXiv 2010.11929"
COST = "2.7 million weights, 0.18 G multiply-adds an image of 32 pixels"
WEIGHTS = False  # published by nobody: files alone


def body(size: int, pretrained: bool) -> tuple[nn.Module, int, int]:
    from torchvision.models import VisionTransformer

    patch = 4 if size <= 64 else 16
    side = -(-size // patch) * patch
    net = VisionTransformer(side, patch, num_layers=6, num_heads=3, hidden_dim=192, mlp_dim=768)
    net.heads = nn.Identity()
    return net, 192, side
