"""`victims`: networks that can be trained."""

from __future__ import annotations

from unlearnable.commands._listing import listing

_ANY_NETWORK = """\
Any other classification network of torchvision works by its name. NAME@WEIGHTS starts from weights: a file (.safetensors,
.pt, .pth), hf://OWNER/NAME/FILE, or a name of torchvision's such as DEFAULT (not for linear, small, tiny and vit_small);
frozen:NAME@WEIGHTS trains a last layer alone."""
command = listing("victims", "nets", "networks that can be trained", _ANY_NETWORK)
