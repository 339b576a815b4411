"""Projected gradient descent on pixels: the one step loop of all crafted poisons.

What a poison chooses is the loss of an image, where to start, how far a step goes, and whether every step sees the image
through the augmentation that a trainer will use. All draws are keyed by the record's id, so that an image's perturbation
does not depend on the batch it comes in (but for the last bits of floating point sums).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.fx.experimental.optimization import fuse
from torch.nn import functional as F

from unlearnable import nets
from unlearnable.device import autocast
from unlearnable.errors import UsageError
from unlearnable.keys import Key
from unlearnable.nets import Network
from unlearnable.types import Batch, Context, State

Loss = Callable[[Tensor, Tensor], Tensor]  # (logits (N, K), wanted (N,)) -> (N,), to be made small

SHIFT = 4 / 32  # of the side: how far the augmentation moves an image, per axis and direction


def toward(logits: Tensor, wanted: Tensor) -> Tensor:
    """Small when the images are read as `wanted`."""
    return F.cross_entropy(logits.float(), wanted, reduction="none")


def away(logits: Tensor, unwanted: Tensor) -> Tensor:
    """Small when the images are not read as `unwanted`."""
    return -toward(logits, unwanted)


@dataclass(frozen=True)
class Descent:
    """How to descend: signed steps of `step` budgets, projected to the budget and, with `box`, to legal pixels."""

    loss: Loss
    steps: int
    step: float
    box: bool = True
    half: bool = True  # bfloat16 convolutions; off in tests against slow arithmetic

    def run(
        self, net: Network, images: Tensor, wanted: Tensor, start: Tensor, eps: float, draws: Tensor | None
    ) -> Tensor:
        """The perturbations (N, 3, S, S) that `steps` steps from `start` lead to.

        images: (N, 3, S, S) uint8; wanted: (N,) for the loss; draws: (steps, N, 3) for `augment`, None for none. All on
        the network's device; nothing is copied between devices inside the loop. The network must be frozen (`freeze`).
        """
        clean = images.float() / 255
        low = (-clean).clamp(min=-eps) if self.box else torch.full_like(clean, -eps)
        high = (1 - clean).clamp(max=eps) if self.box else torch.full_like(clean, eps)
        delta = start.clamp(low, high)
        for number in range(self.steps):
            delta.requires_grad_()
            seen = clean + delta
            if draws is not None:
                seen = augment(seen, draws[number], net.mean)
            loss = self.score(net, seen, wanted).sum()
            (gradient,) = torch.autograd.grad(loss, delta)
            delta = (delta.detach() - self.step * eps * gradient.sign()).clamp(low, high)
        return delta.detach()

    def score(self, net: Network, seen: Tensor, wanted: Tensor) -> Tensor:
        """(N,) losses of images in [0, 1]."""
        with torch.autocast(seen.device.type, enabled=False) if not self.half else autocast(seen.device):
            return self.loss(net(seen), wanted)


def augment(images: Tensor, draws: Tensor, padding: Tensor) -> Tensor:
    """Moves every image by up to 4/32 of its side per axis, continuously, and mirrors half of them; differentiable.

    images: (N, 3, S, S); draws: (N, 3) uniform in [0, 1) for down, right and mirror; padding: (1, 3, 1, 1) colour outside.
    The same as a bilinear sampling grid with aligned corners, but as two products with the matrices of the bilinear
    weights: faster, and on CUDA, unlike the grid's gradient, the same bytes every time.
    """
    side = images.shape[-1]
    shift = (draws[:, :2] * 2 - 1) * (SHIFT * side)
    pixel = torch.arange(side, device=images.device, dtype=images.dtype)
    columns = torch.where(draws[:, 2:] < 0.5, pixel, side - 1 - pixel)
    rows = _weights(pixel + shift[:, :1], pixel)
    return rows @ (images - padding) @ _weights(columns + shift[:, 1:], pixel).transpose(-1, -2) + padding


def _weights(position: Tensor, pixel: Tensor) -> Tensor:
    """(N, 1, S, S) bilinear weights of source pixels for (N, S) positions; none outside."""
    return (1 - (position[:, :, None] - pixel).abs()).clamp(min=0)[:, None]


def attack(
    net: Network,
    batch: Batch,
    wanted: Tensor,
    descent: Descent,
    context: Context,
    *,
    purpose: str,
    restarts: int,
    size: int,
) -> Tensor:
    """(N, 3, S, S) perturbations from noisy starts, on the batch's device; the frozen `net` is where it should compute.

    Each image starts at N(0, 1) eps clipped to the budget, sees a new augmentation in every step, and keeps the restart
    with the lowest final loss on itself, not augmented. `size` images are attacked at once (0: what the device likes).
    """
    device = net.mean.device
    parts = []
    for part in chunks(len(batch), at_once(size, context)):
        images, target = batch.images[part].to(device), wanted[part].to(device)
        clean = images.float() / 255
        best, lowest = torch.zeros_like(clean), torch.full((len(images),), torch.inf, device=device)
        for restart in range(restarts):
            start, draws = _draws(context.key, purpose, restart, batch.ids[part], descent.steps, context.size)
            delta = descent.run(net, images, target, start.to(device) * context.eps, context.eps, draws.to(device))
            if restarts == 1:
                best = delta
                continue
            with torch.no_grad():
                loss = descent.score(net, clean + delta, target)
            better = loss < lowest
            best = torch.where(better[:, None, None, None], delta, best)
            lowest = torch.where(better, loss, lowest)
        parts.append(best.to(batch.images.device))
    return torch.cat(parts) if parts else torch.zeros(batch.images.shape)


def _draws(key: Key, purpose: str, restart: int, ids: Sequence[str], steps: int, side: int) -> tuple[Tensor, Tensor]:
    """Starts (N, 3, S, S), normal, and augmentations (steps, N, 3), uniform, that depend on each id alone."""
    start = np.empty((len(ids), 3, side, side), np.float32)
    draws = np.empty((len(ids), steps, 3), np.float32)
    for place, name in enumerate(ids):
        rng = key.rng(purpose, "start", restart, name)
        start[place] = rng.standard_normal(start.shape[1:], np.float32)
        draws[place] = rng.random(draws.shape[1:], np.float32)
    return torch.from_numpy(start), torch.from_numpy(draws).transpose(0, 1).contiguous()


def at_once(size: int, context: Context) -> int:
    """How many images to attack together: `size`, or where it is 0 as many as are quickest."""
    return size or (128 if context.device == "cpu" else 512)


def chunks(count: int, size: int) -> Iterator[slice]:
    """Slices of at most `size` that cover 0..count."""
    return (slice(first, min(first + size, count)) for first in range(0, count, size))


def pieces(indices: Tensor, size: int) -> Iterator[Tensor]:
    """The indices in parts of at most `size`."""
    return (indices[part] for part in chunks(len(indices), size))


def step_size(steps: int, step: float) -> float:
    """The step in budgets: 0 asks for the usual 1/20, or more where few steps could not cross the budget (2.5 / steps)."""
    return step or max(0.05, 2.5 / steps)


def freeze(net: Network, device: str) -> Network:
    """Evaluation mode, no gradients for the weights, on the device, in the memory layout that is fastest there."""
    net.eval().requires_grad_(False)
    return net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def pack(net: Network, name: str, context: Context, **more: Any) -> State:
    """A state that holds a network: what `unpack` needs, and anything else to keep beside it."""
    weights = {part: value.detach().to("cpu", copy=True).contiguous() for part, value in net.state_dict().items()}
    return {"net": name, "classes": list(context.classes), "size": context.size, "weights": weights, **more}


def unpack(state: State, context: Context) -> Network:
    """The frozen network of a state, on the context's device."""
    if state["size"] != context.size:
        raise UsageError(f"The fit was made for {state['size']} pixels, not for {context.size}.", "Fit it again.")
    net = nets.create(state["net"], len(state["classes"]), state["size"], seed=0)
    net.load_state_dict(state["weights"])
    return freeze(_fused(net.eval()), context.device)


def _fused(net: Network) -> Network:
    """The same function with batch normalisation folded into the convolutions before it: a quarter faster (ResNet-18)."""
    with contextlib.suppress(torch.fx.proxy.TraceError):  # a body whose Python cannot be traced stays as it is
        net.body = fuse(net.body)
    return net


def outputs(labels: Tensor, state: State, context: Context, rename: Callable[[str], str] = lambda name: name) -> Tensor:
    """(N,) outputs of the state's network for labels: of the class itself, or of what `rename` makes of its name."""
    place = {name: number for number, name in enumerate(state["classes"])}
    missing = [context.classes[label] for label in torch.unique(labels).tolist() if context.classes[label] not in place]
    if missing:
        raise UsageError(
            f"Class {missing[0]!r} was not there when this protection was fitted, and its network cannot learn it later.",
            "Protect the whole set again, or the new classes on their own.",
        )
    # a class without images need not be known
    return torch.tensor([place[rename(name)] if name in place else -1 for name in context.classes])[labels.cpu()]


def surrogate(data: Batch | None, net: str, context: Context) -> tuple[Network, float]:
    """The network that a poison is crafted on, trained on clean data by the caller's loop, and its accuracy."""
    if data is None or context.train_surrogate is None:
        raise ValueError("this method needs training images and context.train_surrogate")
    trained, accuracy = context.train_surrogate(data, net)
    return trained, accuracy


def check_ranges(steps: int, step: float, restarts: int, batch: int) -> None:
    """The ranges that crafted poisons share. Raises ValueError with the parameter's name."""
    if not 1 <= steps <= 10_000:
        raise ValueError(f"steps is 1 to 10000, not {steps}")
    if not 0 <= step <= 2:
        raise ValueError(f"step is 0 to 2 budgets, not {step}")
    if not 1 <= restarts <= 100:
        raise ValueError(f"restarts is 1 to 100, not {restarts}")
    if batch < 0:
        raise ValueError(f"batch is 0 or more, not {batch}")
