"""A torchvision network and its weights: resnet18@weights.pt, or @hf://OWNER/NAME/FILE.safetensors.

Weights are read as tensors alone; pickled code is never run. A state dict of one of this project's own victims is known by its
keys ("mean", "std" and "head.weight": normalisation is inside). Any other must fit torchvision's network to the last tensor,
its last layer included, and is shown pictures with ImageNet's normalisation unless --normalise says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from unlearnable import nets, registry
from unlearnable.errors import UsageError
from unlearnable.nets import _weights
from unlearnable.tracing.answers import WEIGHTS, Answers, Names, White
from unlearnable.tracing.models import Moments, Seen


@dataclass(frozen=True)
class Checkpoint:
    shown: str
    logits: Callable[[Tensor], Tensor]  # of uint8 images
    names: Names
    white: White | None
    files: tuple[Path, ...]
    gives: str = WEIGHTS

    def ask(self, images: Tensor) -> Answers:
        return self.names.answers(self.logits(images).float().softmax(1))


def matches(spec: str) -> bool:
    name, at, _ = spec.partition("@")
    return bool(at) and not name.startswith(("timm:", "http://", "https://"))


def open_model(spec: str, names: Names, seen: Seen) -> Checkpoint:
    name, _, weights = spec.removeprefix("frozen:").partition("@")
    registry.network(name)
    asked = registry.Net(name, weights)
    if not registry.is_file(weights):  # victims of networks that are not torchvision's have weights too
        registry.require_network(spec)
    file = _weights.path(asked)
    state = _weights.read(file, "" if registry.is_file(weights) else weights)
    if {"mean", "std", "head.weight"} <= state.keys():  # normalisation is inside
        net, default = _own(asked, state, seen.size or seen.native), "none"
    else:
        net, default = _torchvision(asked, state), "imagenet"
    return of_module(asked.shown, net.eval(), names, seen, default, (file,))


def of_module(
    shown: str, net: nn.Module, names: Names, seen: Seen, default: str | Moments, files: tuple[Path, ...]
) -> Checkpoint:
    """A checkpoint of any network whose last linear layer gives its logits."""
    layers = [part for part in net.modules() if isinstance(part, nn.Linear)]
    if not layers:
        raise UsageError(
            f"{shown} has no linear last layer, so what it has learned cannot be read.",
            "Save it as TorchScript and give that file.",
        )
    last = layers[-1]
    columns = names.columns(last.out_features)
    kept: list[Tensor] = []
    last.register_forward_pre_hook(lambda module, inputs: kept.append(inputs[0].detach()))

    @torch.no_grad()
    def logits(images: Tensor) -> Tensor:
        kept.clear()
        try:
            out: Tensor = net(seen.prepared(images, default))
        except (RuntimeError, AssertionError, ValueError) as why:  # torchvision's transformers assert the size
            said = (str(why).strip() or type(why).__name__).splitlines()[-1]
            raise UsageError(f"{shown} cannot take these pictures: {said}", "Its input has a side: --size.") from why
        return out

    def features(images: Tensor) -> Tensor:
        parts = []
        for part in torch.split(images, 256):
            logits(part)
            parts.append(kept[-1].flatten(1).double())
        return torch.cat(parts)

    # of a class that two outputs are called, neither: both would be compared with one direction, and p not be exact
    known = ((columns >= 0) & ((columns[:, None] == columns).sum(1) == 1)).nonzero()[:, 0]
    rows = tuple(columns[known].tolist())
    return Checkpoint(shown, logits, names, White(features, last.weight.detach().double()[known], rows), files)


def _own(asked: registry.Net, state: dict[str, Tensor], size: int) -> nn.Module:
    net = nets.create(asked.name, len(state["head.weight"]), size, seed=0, weights=False)
    try:
        net.load_state_dict(state)
    except RuntimeError as why:
        raise misfit(Path(asked.weights).name, asked.name, why) from why
    return net


def _torchvision(asked: registry.Net, state: dict[str, Tensor]) -> nn.Module:
    from torchvision import models

    if asked.name not in models.list_models(module=models):
        raise UsageError(f"{asked.shown} is neither torchvision's nor saved by this program.")
    options = {"aux_logits": False, "init_weights": True} if asked.name in ("googlenet", "inception_v3") else {}
    net: nn.Module = models.get_model(asked.name, weights=None, **options)
    layers = [name for name, part in net.named_modules() if isinstance(part, nn.Linear)]
    outputs = outputs_of(state, layers[-1:], asked.name, Path(asked.weights).name)
    if outputs != net.get_submodule(layers[-1]).out_features:
        net = models.get_model(asked.name, weights=None, num_classes=outputs, **options)
    try:
        net.load_state_dict(state)
    except RuntimeError as why:
        raise misfit(Path(asked.weights).name, asked.name, why) from why
    return net


def outputs_of(state: dict[str, Tensor], layers: Sequence[str], network: str, file: str) -> int:
    """How many outputs the last layer has, which is one of `layers`: files of safetensors keep tensors by name alone."""
    if not layers:
        raise UsageError(f"{network} has no last layer that is linear.", "Save it as TorchScript and give that file.")
    found = [state[f"{name}.weight"] for name in layers if f"{name}.weight" in state]
    if not found or not found[0].ndim:
        raise misfit(file, network, f"it has no {layers[0]}.weight.")
    return len(found[0])


def misfit(file: str, network: str, why: object) -> UsageError:
    """Says the first thing that `load_state_dict` complains of: its list may name every tensor of a network."""
    lines = [line.strip() for line in str(why).splitlines() if line.strip()] or [type(why).__name__]
    first, more, _ = lines[min(1, len(lines) - 1)].partition('", "')
    return UsageError(
        f"{file} does not fit {network}: {first}" + ('" and others.' if more else ""),
        "Name its own network, or save it as TorchScript and give that file.",
    )
