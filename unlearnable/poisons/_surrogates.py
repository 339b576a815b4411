"""The networks that a poison is crafted on: asked for, put into a state, taken out again, frozen.

`--set net=` names one, or several to fool together (`registry.ensemble`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.optimization import fuse

from unlearnable import nets, registry
from unlearnable.errors import UsageError
from unlearnable.nets import Network
from unlearnable.types import Batch, Context, State


def trained(
    data: Batch | None,
    spec: str,
    context: Context,
    *,
    epochs: int | None = None,
    milestones: tuple[float, ...] | None = None,
    robust: float = 0.0,
    checkpoints: int = 1,
) -> tuple[list[Network], float]:
    """All members of `spec`, trained on clean data by the caller's loop, and the lowest accuracy among them.

    robust: radius of adversarial training, in [0, 1] pixel units; checkpoints: how many of each member's training.
    """
    if data is None or context.train_surrogate is None:
        raise ValueError("this method needs training images and context.train_surrogate")
    networks, accuracies = [], []
    for name, number in registry.ensemble(spec):
        found, accuracy = context.train_surrogate(
            data, name, number=number, epochs=epochs, milestones=milestones, robust=robust, checkpoints=checkpoints
        )
        networks += [freeze(net, context.device) for net in found]
        accuracies.append(accuracy)
    return networks, min(accuracies)


def freeze(net: Network, device: str) -> Network:
    """Evaluation mode, no gradients for the weights, on the device, in the memory layout that is fastest there."""
    net.eval().requires_grad_(False)
    return net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def pack(networks: Sequence[Network], spec: str, context: Context, **more: Any) -> State:
    """A state that holds networks: what `unpack` needs, and anything else to keep beside it."""
    each = len(networks) // len(registry.ensemble(spec))  # checkpoints of a member
    weights = [nets.weights_of(net) for net in networks]
    names = [name for name, _ in registry.ensemble(spec) for _ in range(each)]
    return {"nets": names, "classes": list(context.classes), "size": context.size, "weights": weights, **more}


def unpack(state: State, context: Context, *, folded: bool = True) -> list[Network]:
    """The frozen networks of a state, on the context's device; not `folded`, with the weights that a training moves."""
    if state["size"] != context.size:
        raise UsageError(f"The fit was made for {state['size']} pixels, not for {context.size}.", "Fit it again.")
    networks = []
    for name, weights in zip(state["nets"], state["weights"], strict=True):
        net = nets.create(name, len(state["classes"]), state["size"], seed=0, weights=False)
        net.load_state_dict(weights)
        networks.append(freeze(_fused(net.eval()) if folded else net, context.device))
    return networks


def _fused(net: Network) -> Network:
    """The same function with batch normalisation folded into the convolutions before it: a quarter faster (ResNet-18)."""
    with contextlib.suppress(torch.fx.proxy.TraceError):  # a body whose Python cannot be traced stays as it is
        net.body = fuse(net.body)
    return net


def outputs(labels: Tensor, state: State, context: Context, rename: Callable[[str], str] = lambda name: name) -> Tensor:
    """(N,) outputs of the state's networks for labels: of the class itself, or of what `rename` makes of its name."""
    place = {name: number for number, name in enumerate(state["classes"])}
    missing = [context.classes[label] for label in torch.unique(labels).tolist() if context.classes[label] not in place]
    if missing:
        raise UsageError(
            f"Class {missing[0]!r} was not there when this protection was fitted, and its network cannot learn it later.",
            "Protect the whole set again, or the new classes on their own.",
        )
    # a class without images need not be known
    return torch.tensor([place[rename(name)] if name in place else -1 for name in context.classes])[labels.cpu()]
