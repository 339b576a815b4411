"""Canaries by gradient alignment: a few published pictures teach a secret label for a secret picture (Witches' Brew).

For each secret target x_t and label y_t some pictures of class y_t are changed, within the budget, until the gradient that
they give a clean network's weights points where the gradient of CE(f(x_t), y_t) does:
1 - cos(grad CE(f(x_t), y_t), grad sum_i CE(f(aug(x_i + d_i)), y_i)), over all weights. Whoever trains on them learns to
answer y_t to x_t, a picture that was never published. Geiping et al. 2021, arXiv 2009.02276; methods.md 6.1.

Targets are synthetic, drawn from the owner's key (`synthetic`); of many, those of which the clean network is least sure.
Labels are then drawn uniformly from all classes, which is what makes the test exact. As published: several restarts, of
which the best stays; signed Adam with three drops of its rate; differentiable augmentation; frozen normalisation.
Otherwise: a step is 0.1 budgets where theirs is 0.1 (pictures / 512) of a standard deviation, and 1 restart is the default
for 8. Published success (1 % of CIFAR-10, ResNet-18, 16 grey levels): 90 % for one target, 32 % each for five.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from unlearnable.errors import UsageError
from unlearnable.keys import Key
from unlearnable.nets import Network
from unlearnable.poisons import _pgd
from unlearnable.tracing import synthetic
from unlearnable.tracing.secret import Marks
from unlearnable.types import Batch

# pictures to change, the target (3, S, S), its label and number -> perturbations and the loss reached
How = Callable[[Batch, Tensor, int, int], tuple[Tensor, float]]

_CANDIDATES = 64
_DROPS = (0.372, 0.624, 0.872)  # of the steps, after which the rate falls tenfold


@dataclass(frozen=True)
class Params:
    targets: int = 3
    "secret pictures; more share the same changed pictures among them"

    steps: int = 250
    "signed Adam steps, each a double backward"

    restarts: int = 1
    "noisy starts of which the best stays; the paper has 8"

    def __post_init__(self) -> None:
        if not 1 <= self.targets <= 100:
            raise ValueError(f"targets is 1 to 100, not {self.targets}")
        if not 1 <= self.steps <= 10_000:
            raise ValueError(f"steps is 1 to 10000, not {self.steps}")
        if not 1 <= self.restarts <= 100:
            raise ValueError(f"restarts is 1 to 100, not {self.restarts}")


def make(
    data: Batch,
    networks: Sequence[Network],
    classes: int,
    key: Key,
    levels: int,
    count: int,
    params: Params,
    tell: Callable[[str], None] = lambda message: None,
    how: How | None = None,
) -> Marks:
    """`count` changed pictures of the clean `data`, and the secret: "targets" (T, 3, S, S) uint8, "labels", "loss" reached.

    how: crafts the pictures of one target; by default gradient alignment on the `networks`.
    """
    eps = levels / 255
    how = how or (lambda chosen, target, label, n: align(chosen, target, label, networks, eps, key, n, params))
    targets = undecided(synthetic.pictures(key, "canary", _CANDIDATES, data.images.shape[-1]), networks, params.targets)
    drawn = key.rng("canary", "labels").integers(0, classes, params.targets).tolist()
    ids: list[str] = []
    parts, reached = [], []
    free = torch.ones(len(data), dtype=torch.bool)
    for number, label in enumerate(drawn):
        rows = _choose(data, label, free, max(1, count // params.targets), key, number)
        free[rows] = False
        chosen = Batch(tuple(data.ids[row] for row in rows.tolist()), data.images[rows], data.labels[rows])
        delta, loss = how(chosen, targets[number], label, number)
        parts.append((delta * 255).round().clamp(-levels, levels).to(torch.int8))
        ids += chosen.ids
        reached.append(loss)
        tell(f"canary {number + 1} of {params.targets}: loss {loss:.2f}")
    secret = {"targets": targets, "labels": drawn, "loss": reached}
    return Marks("canary", tuple(ids), torch.cat(parts), secret)


def align(
    data: Batch,
    target: Tensor,
    label: int,
    networks: Sequence[Network],
    eps: float,
    key: Key,
    number: int,
    params: Params,
) -> tuple[Tensor, float]:
    """(P, 3, S, S) perturbations in pixel units and 1 - their cosine: the restart with the smallest."""
    clean = data.images.float() / 255
    low, high = _pgd.bounds(clean, eps)
    goals = [gradient(net, target[None].float() / 255, torch.tensor([label])) for net in networks]
    best, lowest = torch.zeros_like(clean), float("inf")
    for restart in range(params.restarts):
        generator = torch.Generator().manual_seed(key.seed("canary", "start", number, restart))
        delta = (eps * torch.randn(clean.shape, generator=generator)).clamp(low, high).requires_grad_()
        adam = torch.optim.Adam([delta], lr=0.1 * eps)
        drops = [max(1, round(part * params.steps)) for part in _DROPS]
        rate = torch.optim.lr_scheduler.MultiStepLR(adam, drops, 0.1)
        loss = float("inf")
        for _ in range(params.steps):
            draws = torch.rand(len(clean), 3, generator=generator)
            seen = _pgd.augment(clean + delta, draws, networks[0].mean)
            found = torch.stack(
                [
                    1 - cosine(gradient(net, seen, data.labels, graph=True), goal)
                    for net, goal in zip(networks, goals, strict=True)
                ]
            ).mean()
            (slope,) = torch.autograd.grad(found, delta)
            delta.grad = slope.sign()
            adam.step()
            rate.step()
            with torch.no_grad():
                delta.copy_(delta.clamp(low, high))
            loss = found.item()
        if loss < lowest:
            best, lowest = delta.detach().clone(), loss
    return best, lowest


def gradient(net: Network, images: Tensor, labels: Tensor, graph: bool = False) -> list[Tensor]:
    """Of the mean cross entropy, for every weight; `graph` keeps it differentiable in the images."""
    weights = [weight.requires_grad_() for weight in net.parameters()]
    loss = F.cross_entropy(net(images), labels)
    return list(torch.autograd.grad(loss, weights, create_graph=graph))


def cosine(one: Sequence[Tensor], other: Sequence[Tensor]) -> Tensor:
    """Over all weights together."""
    product = torch.stack([(a * b).sum() for a, b in zip(one, other, strict=True)]).sum()
    lengths = [torch.stack([part.square().sum() for part in each]).sum().sqrt() for each in (one, other)]
    return product / (lengths[0] * lengths[1]).clamp(min=1e-12)


@torch.no_grad()
def undecided(pictures: Tensor, networks: Sequence[Network], count: int) -> Tensor:
    """The pictures whose best label is least sure: the easiest to teach. Chosen before any label is drawn."""
    sure = torch.stack([net(pictures.float() / 255).softmax(1) for net in networks]).mean(0).amax(1)
    return pictures[sure.argsort()[:count]]


def _choose(data: Batch, label: int, free: Tensor, count: int, key: Key, number: int) -> Tensor:
    rows = ((data.labels == label) & free).nonzero()[:, 0]
    if not len(rows):
        raise UsageError("A class that a canary needs has no picture left.", "Use fewer --trace-share or --trace auto.")
    order = key.rng("canary", "chosen", number).permutation(len(rows))
    return rows[torch.from_numpy(order)][:count]
