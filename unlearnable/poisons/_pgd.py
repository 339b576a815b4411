"""Projected gradient descent on pixels: the one step loop of all crafted poisons.

What a poison chooses is the loss of an image, where to start, how far a step goes, and whether every step sees the image
through the augmentation that a trainer will use. All draws are keyed by the record's id, so that an image's perturbation
does not depend on the batch it comes in (but for the last bits of floating point sums).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from unlearnable import registry
from unlearnable.device import autocast, in_parts, keep_memory
from unlearnable.errors import TrainingError
from unlearnable.keys import Key
from unlearnable.nets import Network
from unlearnable.poisons import _surrogates
from unlearnable.poisons._derange import derangement
from unlearnable.types import Batch, Context, State

# (network, images (N, 3, S, S) in [0, 1], wanted (N,) -> (N,), to be made small
Loss = Callable[[Network, Tensor, Tensor], Tensor]

SHIFT = 4 / 32  # of the side: how far the augmentation moves an image, per axis and direction


def toward(net: Network, seen: Tensor, wanted: Tensor) -> Tensor:
    """Cross entropy: small when the images are read as `wanted`."""
    return F.cross_entropy(net(seen).float(), wanted, reduction="none")


def away(net: Network, seen: Tensor, unwanted: Tensor) -> Tensor:
    """Small when the images are not read as `unwanted`."""
    return -toward(net, seen, unwanted)


def margin(net: Network, seen: Tensor, wanted: Tensor) -> Tensor:
    """How far the best other logit is above the wanted one (Carlini and Wagner 2017, arXiv 1608.04644, f6 without a floor)."""
    logits: Tensor = net(seen).float()
    own = F.one_hot(wanted, logits.shape[1]).bool()
    return logits.masked_fill(own, -torch.inf).amax(1) - logits[own]


@dataclass(frozen=True)
class Params:
    """What all poisons crafted by signed steps can be told."""

    net: str = "resnet18"
    "network that the noise is crafted on, trained on the clean images first; several with +, seeds with *3"

    steps: int = 250
    "gradient steps for each image and restart"

    step: float = 0.0
    "length of a step as a share of the budget; 0 is 0.05, or 2.5 / steps where that is more"

    restarts: int = 1
    "noisy starts to choose from; the paper has 8, at 8 times the cost"

    batch: int = 0
    "images attacked at once: memory against speed; 0 is 128 on a CPU, 512 on a GPU"

    def __post_init__(self) -> None:
        registry.ensemble(self.net)
        check_ranges(self.steps, self.step, self.restarts, self.batch)

    def step_size(self) -> float:
        """The step in budgets; steps of 1/20 would leave most of the starting noise where there are few of them."""
        return self.step or max(0.05, 2.5 / self.steps)


@dataclass(frozen=True)
class Descent:
    """How to descend: signed steps of `step` budgets, projected to the budget and, with `box`, to legal pixels."""

    loss: Loss
    steps: int
    step: float
    momentum: float = 0.0  # of gradients that are divided by their L1 norm (MI-FGSM); 0 is none
    box: bool = True
    half: bool = True  # bfloat16 convolutions; off in tests against slow arithmetic

    def run(
        self,
        networks: Sequence[Network],
        images: Tensor,
        wanted: Tensor,
        start: Tensor,
        eps: float,
        draws: Tensor | None,
    ) -> Tensor:
        """The perturbations (N, 3, S, S) that `steps` steps from `start` lead to.

        images: (N, 3, S, S) uint8; wanted: (N,) for the loss; draws: (steps, N, 3) for `augment`, None for none. All on
        the networks' device; nothing is copied between devices inside the loop. Networks must be frozen. An image whose
        loss was not finite has NaN for a perturbation (see `require_finite`).
        """
        if images.device.type == "cpu":
            keep_memory()
        clean = images.float() / 255
        low, high = bounds(clean, eps, self.box)
        delta = start.clamp(low, high)
        velocity = torch.zeros_like(clean) if self.momentum else None
        total = torch.zeros(len(clean), device=clean.device)
        for number in range(self.steps):
            delta.requires_grad_()
            seen = clean + delta
            if draws is not None:
                seen = augment(seen, draws[number], networks[0].mean)
            losses = self.score(networks, seen, wanted)
            (gradient,) = torch.autograd.grad(losses.sum(), delta)
            total += losses.detach()
            if velocity is not None:
                size = gradient.abs().sum((1, 2, 3), keepdim=True).clamp(min=torch.finfo(gradient.dtype).tiny)
                gradient = velocity = self.momentum * velocity + gradient / size
            delta = (delta.detach() - self.step * eps * gradient.sign()).clamp(low, high)
        # the sign of a gradient that is no number is 0: told by the loss, without a copy from the device in every step
        return torch.where(total.isfinite()[:, None, None, None], delta.detach(), torch.nan)

    def score(self, networks: Sequence[Network], seen: Tensor, wanted: Tensor) -> Tensor:
        """(N,) losses of images in [0, 1]: the mean over the networks."""
        with torch.autocast(seen.device.type, enabled=False) if not self.half else autocast(seen.device):
            losses = [self.loss(net, seen, wanted) for net in networks]
        return losses[0] if len(losses) == 1 else torch.stack(losses).mean(0)


def bounds(clean: Tensor, eps: float, box: bool = True) -> tuple[Tensor, Tensor]:
    """Lowest and highest perturbation of each pixel: the budget and, with `box`, what keeps it in [0, 1]."""
    if not box:
        return torch.full_like(clean, -eps), torch.full_like(clean, eps)
    return (-clean).clamp(min=-eps), (1 - clean).clamp(max=eps)


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
    networks: Sequence[Network],
    batch: Batch,
    wanted: Tensor,
    descent: Descent,
    context: Context,
    *,
    purpose: str,
    restarts: int = 1,
    size: int = 0,
    noise: bool = True,
    augmented: bool = True,
) -> Tensor:
    """(N, 3, S, S) perturbations on the batch's device; the frozen networks are where it should compute.

    With `noise` each image starts at N(0, 1) eps clipped to the budget, else at zero; `augmented`, it sees a new
    augmentation in every step. It keeps the restart with the lowest final loss on itself, not augmented. `size` images
    are attacked at once (0: what the device likes); where they do not fit in the memory, half as many.
    """
    device = networks[0].mean.device

    def one(part: slice) -> Tensor:
        images, target = batch.images[part].to(device), wanted[part].to(device)
        clean = images.float() / 255
        best, lowest = torch.zeros_like(clean), torch.full((len(images),), torch.inf, device=device)
        for restart in range(restarts):
            start, draws = _draws(
                context.key, purpose, restart, batch.ids[part], noise, descent.steps * augmented, context.size
            )
            delta = descent.run(
                networks,
                images,
                target,
                start.to(device) * context.eps,
                context.eps,
                draws.to(device) if augmented else None,
            )
            if restarts == 1:
                best = delta
                continue
            with torch.no_grad():
                loss = descent.score(networks, clean + delta, target)
            better = loss < lowest
            best = torch.where(better[:, None, None, None], delta, best)
            lowest = torch.where(better, loss, lowest)
        return require_finite(best, batch.ids[part], purpose).to(batch.images.device)

    parts = in_parts(one, len(batch), at_once(size, context), context.tell)
    return torch.cat(parts) if parts else torch.zeros(batch.images.shape)


def require_finite(delta: Tensor, ids: Sequence[str], method: str) -> Tensor:
    """The perturbations. Raises TrainingError where one has a number that is none, with the first record's id."""
    broken = ~delta.isfinite().flatten(1).all(1)
    if broken.any():
        first = ids[int(broken.nonzero()[0])]
        raise TrainingError(
            f"{method}: the loss of {first} was not finite.", "Its network may be broken: fit again, or --set net=."
        )
    return delta


def _draws(
    key: Key, purpose: str, restart: int, ids: Sequence[str], noise: bool, steps: int, side: int
) -> tuple[Tensor, Tensor]:
    """Starts (N, 3, S, S), normal or zero, and augmentations (steps, N, 3), uniform, that depend on each id alone."""
    start = np.zeros((len(ids), 3, side, side), np.float32)
    draws = np.empty((len(ids), steps, 3), np.float32)
    for place, name in enumerate(ids) if noise or steps else ():
        rng = key.rng(purpose, "start", restart, name)
        if noise:
            start[place] = rng.standard_normal(start.shape[1:], np.float32)
        draws[place] = rng.random(draws.shape[1:], np.float32)
    return torch.from_numpy(start), torch.from_numpy(draws).transpose(0, 1).contiguous()


def at_once(size: int, context: Context) -> int:
    """How many images to attack together: `size`, or where it is 0 as many as are quickest."""
    return size or (128 if context.device == "cpu" else 512)


def pieces(indices: Tensor, size: int) -> Iterator[Tensor]:
    """The indices in parts of at most `size`."""
    return (indices[first : first + size] for first in range(0, len(indices), size))


def fit_targets(data: Batch | None, net: str, context: Context, purpose: str) -> State:
    """Trains the surrogates and draws a derangement: networks, "accuracy" and "targets" {class: class}."""
    targets = derangement(context.classes, context.key.rng(purpose, "derangement"))
    networks, accuracy = _surrogates.trained(data, net, context)
    return _surrogates.pack(networks, net, context, accuracy=accuracy, targets=targets)


def check_ranges(steps: int, step: float, restarts: int = 1, batch: int = 0) -> None:
    """The ranges that crafted poisons share. Raises ValueError with the parameter's name."""
    if not 1 <= steps <= 10_000:
        raise ValueError(f"steps is 1 to 10000, not {steps}")
    if not 0 <= step <= 2:
        raise ValueError(f"step is 0 to 2 budgets, not {step}")
    if not 1 <= restarts <= 100:
        raise ValueError(f"restarts is 1 to 100, not {restarts}")
    if batch < 0:
        raise ValueError(f"batch is 0 or more, not {batch}")
