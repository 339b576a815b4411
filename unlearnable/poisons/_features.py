"""Class centroids: the mean features of a class's clean images, by which some poisons steer.

Features are what a network has before its last layer. Every network, and every checkpoint of one, has centroids of its own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from unlearnable.device import in_parts
from unlearnable.errors import UsageError
from unlearnable.nets import Network
from unlearnable.poisons import _pgd, _surrogates
from unlearnable.types import Batch, Context, State

_ANOTHER = "Add images of it, or use a method that needs none, such as targeted."

Tables = dict[Network, Tensor]  # (classes, F) centroids in the order of the network's outputs


def fit(data: Batch | None, net: str, context: Context, **training: Any) -> State:
    """Trains the surrogates: networks, "accuracy" and "centroids" of each network. training: as for `_surrogates.trained`."""
    if data is not None:
        # before hours of training
        require_every_class(data, context, "this method needs the mean features of every class", _ANOTHER)
    networks, accuracy = _surrogates.trained(data, net, context, **training)
    assert data is not None
    found = [centroids(network, data, context) for network in networks]
    return _surrogates.pack(networks, net, context, accuracy=accuracy, centroids=found)


@torch.no_grad()
def centroids(net: Network, data: Batch, context: Context) -> dict[str, Tensor]:
    """{class: (F,) mean feature} of clean images, in float32 on the CPU."""

    def look(part: slice) -> Tensor:
        return net.features(data.images[part].to(net.mean.device).float() / 255).float().cpu()

    features = torch.cat(in_parts(look, len(data), _pgd.at_once(0, context), context.tell))
    labels = data.labels.cpu()
    return {name: features[labels == number].mean(0) for number, name in enumerate(context.classes)}


def tables(networks: list[Network], state: State) -> Tables:
    """The state's centroids beside the networks that `unpack` made of it, on their device."""
    return {
        net: torch.stack([found[name] for name in state["classes"]]).to(net.mean.device)
        for net, found in zip(networks, state["centroids"], strict=True)
    }


def distance(features: Tensor, centre: Tensor) -> Tensor:
    """(N,) mean squared differences of (N, F) features and (N, F) centres."""
    return (features.float() - centre).square().mean(1)


def require_every_class(data: Batch, context: Context, why: str, hint: str) -> None:
    """Raises UsageError where a class has no image in the fit."""
    counts = torch.bincount(data.labels.cpu(), minlength=len(context.classes)).tolist()
    empty = [name for name, count in zip(context.classes, counts, strict=True) if not count]
    if empty:
        raise UsageError(f"Class {empty[0]!r} has no image to learn from, and {why}.", hint)
