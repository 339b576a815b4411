"""Adversarial training (Madry et al. 2018, arXiv 1706.06083) as an objective for the training loop."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from unlearnable.device import autocast
from unlearnable.nets import Network
from unlearnable.train import Objective, cross_entropy


def objective(radius: float, seed: int, steps: int = 10) -> Objective:
    """Cross entropy on the worst images within `radius` (L-infinity, [0, 1] units) that `steps` signed steps find.

    Steps are 2.5 radius / steps, from a uniform start, against the network in evaluation mode; the update itself is in
    training mode, on attacked images alone. Costs steps + 1 times a plain training.
    """
    generator = torch.Generator().manual_seed(seed)

    def loss(net: Network, images: Tensor, labels: Tensor) -> Tensor:
        own = net.module if isinstance(net, DistributedDataParallel) else net  # attacks are no steps to agree on
        return cross_entropy(net, attacked(own, images, labels, radius, steps, generator), labels)

    return loss


def attacked(
    net: Network, images: Tensor, labels: Tensor, radius: float, steps: int, generator: torch.Generator
) -> Tensor:
    """Images (N, 3, S, S) in [0, 1] moved by at most `radius` so that the network's loss grows; its mode is put back."""
    was_training, frozen = net.training, [p for p in net.parameters() if p.requires_grad]
    net.eval()
    for parameter in frozen:
        parameter.requires_grad_(False)
    low, high = (images - radius).clamp(min=0), (images + radius).clamp(max=1)
    start = (torch.rand(images.shape, generator=generator) * 2 - 1).to(images.device) * radius
    seen = (images + start).clamp(0, 1)
    try:
        for _ in range(steps):
            seen.requires_grad_()
            with autocast(images.device):
                loss = cross_entropy(net, seen, labels)
            (gradient,) = torch.autograd.grad(loss, seen)
            moved = seen.detach() + 2.5 * radius / steps * gradient.sign()
            seen = torch.minimum(torch.maximum(moved, low), high)
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)
        net.train(was_training)
    return seen.detach()
