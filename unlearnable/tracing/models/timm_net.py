"""A timm network and its weights: timm:resnet18@weights.safetensors. Needs timm, which is not a dependency of this program."""

from __future__ import annotations

import importlib
from importlib import util
from pathlib import Path

from torch import nn

from unlearnable.errors import UsageError
from unlearnable.nets import _weights
from unlearnable.tracing.answers import Names
from unlearnable.tracing.models import Seen, checkpoint
from unlearnable.tracing.models.checkpoint import Checkpoint


def matches(spec: str) -> bool:
    return spec.startswith("timm:")


def open_model(spec: str, names: Names, seen: Seen) -> Checkpoint:
    name, _, file = spec.removeprefix("timm:").partition("@")
    if not file:
        raise UsageError(f"{spec} names no weights.", "Write timm:NETWORK@FILE.")
    if util.find_spec("timm") is None:
        raise UsageError("timm is not installed.", "pip install timm, or save the network as TorchScript.")
    timm = importlib.import_module("timm")
    state = _weights.read(Path(file))
    heads = [key for key, value in state.items() if value.ndim == 2]
    if not heads:
        raise UsageError(f"{Path(file).name} has no last layer: a whole classification network is needed.")
    try:
        net: nn.Module = timm.create_model(name, pretrained=False, num_classes=len(state[heads[-1]]))
        net.load_state_dict(state)
    except RuntimeError as why:
        raise UsageError(f"{Path(file).name} does not fit timm's {name}: {str(why).splitlines()[0]}") from why
    return checkpoint.of_module(spec, f"timm:{name}@{Path(file).name}", net.eval(), names, seen, "imagenet")
