"""Canaries by unrolled training: a few published pictures teach a secret label within the next steps of SGD (MetaPoison).

Networks at staggered epochs of an ordinary training take two steps of SGD on batches that hold the marked pictures. Made
small is the margin by which each then prefers another label than y_t for the secret target x_t, max(other - y_t, -100),
differentiated through the steps and averaged over the networks. After every outer step each network is trained on by an epoch,
and begins again after its last: marks suit no network in particular. Huang et al. 2020, arXiv 2004.00225; methods.md 6.2.

As published: two unrolled steps, Adam on the perturbation with its rate falling tenfold at each third, margin with a floor.
Otherwise, for a CPU: 4 networks for 24, 20 outer steps for 60, no change of colours (the budget is that of the release), and a
first rate of 0.2 budgets. Published: 42 % success where gradient alignment has 90 %, at many times the cost: `canary` is the
default for that reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from unlearnable import nets
from unlearnable.keys import Key
from unlearnable.nets import Network
from unlearnable.poisons import _pgd
from unlearnable.train import Recipe, train
from unlearnable.types import Batch

Weights = dict[str, Tensor]

_FLOOR = -100.0
_RATE = 0.1  # of the unrolled steps


@dataclass(frozen=True)
class Params:
    networks: int = 4
    "networks at staggered epochs; the paper has 24"

    outer: int = 20
    "steps of the perturbation, an epoch of every network after each; the paper has 60"

    unrolled: int = 2
    "steps of SGD that the perturbation is differentiated through"

    batch: int = 125
    "pictures of an unrolled step, marked ones among them"

    def __post_init__(self) -> None:
        for name, most in (("networks", 64), ("outer", 1000), ("unrolled", 8), ("batch", 4096)):
            if not 1 <= getattr(self, name) <= most:
                raise ValueError(f"{name} is 1 to {most}, not {getattr(self, name)}")


class Staggered:
    """Networks in training on clean data, network m at epoch m; after its last epoch one begins again with new weights."""

    def __init__(self, data: Batch, spec: str, classes: int, seed: int, params: Params) -> None:
        self.data, self.spec, self.classes, self.params = data, spec, classes, params
        self.seeds = [seed + number for number in range(params.networks)]
        self.age = list(range(params.networks))
        self.members = [self._fresh(number) for number in range(params.networks)]
        for member, age in enumerate(self.age):
            for _ in range(age):
                self._epoch(member)

    def advance(self) -> None:
        """Every network an epoch on."""
        for member in range(len(self.members)):
            self.age[member] += 1
            if self.age[member] >= self.params.networks:
                self.age[member], self.seeds[member] = 0, self.seeds[member] + self.params.networks
                self.members[member] = self._fresh(member)
            else:
                self._epoch(member)

    def _fresh(self, member: int) -> Network:
        size = self.data.images.shape[-1]
        net = nets.create(self.spec, self.classes, size, self.seeds[member] % (1 << 62))
        net.normalise_for(self.data.images)
        return net.eval()

    def _epoch(self, member: int) -> None:
        recipe = Recipe(epochs=1, batch=min(128, max(2, len(self.data) // 4)), schedule="steps", nesterov=False)
        seed = (self.seeds[member] * 1000 + self.age[member]) % (1 << 62)
        train(self.members[member], self.data.images, self.data.labels, recipe, seed=seed)


def craft(
    marked: Batch,
    target: Tensor,
    label: int,
    data: Batch,
    staggered: Staggered,
    eps: float,
    key: Key,
    number: int,
    params: Params,
    tell: Callable[[str], None] = lambda message: None,
) -> tuple[Tensor, float]:
    """(P, 3, S, S) perturbations of the `marked` pictures in pixel units, and the mean margin at the last step.

    target: (3, S, S) uint8, the secret picture; data: clean pictures that fill the batches.
    """
    clean = marked.images.float() / 255
    low, high = _pgd.bounds(clean, eps)
    generator = torch.Generator().manual_seed(key.seed("unrolled", number))
    delta = (eps * torch.randn(clean.shape, generator=generator)).clamp(low, high).requires_grad_()
    adam = torch.optim.Adam([delta], lr=0.2 * eps)
    thirds = [max(1, params.outer // 3), max(1, 2 * params.outer // 3)]
    rate = torch.optim.lr_scheduler.MultiStepLR(adam, thirds, 0.1)
    loss = float("nan")
    for outer in range(params.outer):
        total = torch.zeros_like(delta)
        losses = []
        for net in staggered.members:
            batches = [_batch(marked, data, params.batch, generator) for _ in range(params.unrolled)]
            after = unrolled(net, clean + delta, marked.labels, batches)
            margin = adversarial_margin(net, after, target, label)
            (slope,) = torch.autograd.grad(margin, delta)
            total += slope / len(staggered.members)
            losses.append(margin.item())
        delta.grad = total
        adam.step()
        rate.step()
        with torch.no_grad():
            delta.copy_(delta.clamp(low, high))
        loss = sum(losses) / len(losses)
        tell(f"canary {number + 1}: step {outer + 1} of {params.outer}, margin {loss:.2f}")
        if outer + 1 < params.outer:
            staggered.advance()
    return delta.detach().clone(), loss


def unrolled(
    net: Network, pictures: Tensor, labels: Tensor, batches: Sequence[tuple[Tensor, Tensor, Tensor]]
) -> Weights:
    """The weights after one step of SGD for every batch, differentiable in the marked pictures.

    A batch is (rows of the marked pictures, clean pictures (N, 3, S, S) floats, their labels).
    """
    weights: Weights = {name: weight.detach().clone().requires_grad_() for name, weight in net.named_parameters()}
    for rows, clean, clean_labels in batches:
        x = torch.cat([pictures[rows], clean])
        y = torch.cat([labels[rows], clean_labels])
        loss = F.cross_entropy(functional_call(net, weights, (x,)), y)
        slopes = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
        weights = {name: weight - _RATE * slope for (name, weight), slope in zip(weights.items(), slopes, strict=True)}
    return weights


def adversarial_margin(net: Network, weights: Weights, target: Tensor, label: int) -> Tensor:
    """How far the best other logit is above the secret label's for the target, not below the floor."""
    logits: Tensor = functional_call(net, weights, (target[None].float() / 255,))[0]
    others = logits[torch.arange(len(logits)) != label]
    return (others.max() - logits[label]).clamp(min=_FLOOR)


def _batch(marked: Batch, data: Batch, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """At most half of a batch is marked."""
    rows = torch.randperm(len(marked), generator=generator)[: max(1, size // 2)]
    fill = torch.randint(len(data), (max(1, size - len(rows)),), generator=generator)
    return rows, data.images[fill].float() / 255, data.labels[fill]
