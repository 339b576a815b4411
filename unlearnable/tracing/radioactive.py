"""Radioactive marks: features of published pictures are pushed along one secret direction for each class.

For a picture x of class k, within the budget, -<phi(aug(x')) - phi(x), u_k> + 0.01 ||phi(aug(x')) - phi(x)|| is made small,
phi being a network without its last layer, trained on the clean pictures, and u_k a uniformly random unit vector drawn from
the owner's key. A model that is trained on them turns its last layer's k-th row, seen in phi's space, toward u_k.
Sablayrolles et al. 2020, arXiv 2002.00937; methods.md 6.4.

Otherwise than published: steps by the sign of the gradient in place of SGD (so the penalty on the distance in pixels does
nothing and is left out), and the budget of the release in place of 10 grey levels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from unlearnable.keys import Key
from unlearnable.nets import Network, weights_of
from unlearnable.poisons import _pgd
from unlearnable.tracing.secret import Marks
from unlearnable.types import Batch

STEPS = 20
_STEP = 0.15  # budgets
_NORM = 0.01
_AT_ONCE = 256


@dataclass(frozen=True)
class Params:
    steps: int = STEPS
    "signed steps for each picture"

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= 1000:
            raise ValueError(f"steps is 1 to 1000, not {self.steps}")


def directions(key: Key, classes: tuple[str, ...], features: int) -> Tensor:
    """(K, F) unit vectors, each uniform over all directions and from the key and the class's name alone."""
    drawn = [torch.from_numpy(key.rng("radioactive", "direction", name).standard_normal(features)) for name in classes]
    found = torch.stack(drawn)
    out: Tensor = found / found.norm(dim=1, keepdim=True)
    return out


def make(
    data: Batch,
    net: Network,
    spec: str,
    classes: tuple[str, ...],
    key: Key,
    levels: int,
    count: int,
    params: Params,
    tell: Callable[[str], None] = lambda message: None,
) -> Marks:
    """`count` marked pictures, drawn evenly from `data`, and the secret: the marking network ("net", "weights", "steps")."""
    order = torch.from_numpy(key.rng("radioactive", "chosen").permutation(len(data)))
    rows = order[: max(1, count)].sort().values
    chosen = Batch(tuple(data.ids[row] for row in rows.tolist()), data.images[rows], data.labels[rows])
    u = directions(key, classes, net.head.in_features)
    delta = mark(net, chosen, chosen.labels, u, key, levels / 255, params.steps)
    tell(f"radioactive: {len(chosen)} pictures marked")
    deltas = (delta * 255).round().clamp(-levels, levels).to(torch.int8)
    secret = {
        "net": spec,
        "steps": params.steps,
        "levels": levels,
        "size": data.images.shape[-1],
        "weights": weights_of(net),
    }
    return Marks("radioactive", chosen.ids, deltas, secret)


def mark(net: Network, data: Batch, wanted: Tensor, u: Tensor, key: Key, eps: float, steps: int) -> Tensor:
    """(N, 3, S, S) perturbations in pixel units that push each picture along the direction of its class in `wanted`."""
    parts = []
    for part in torch.split(torch.arange(len(data)), _AT_ONCE):
        images = data.images[part]
        with torch.no_grad():
            base = net.features(images.float() / 255).float()
        along = u[wanted[part]].float()

        def loss(net: Network, seen: Tensor, rows: Tensor, base: Tensor = base, along: Tensor = along) -> Tensor:
            moved = net.features(seen).float() - base[rows]
            lean: Tensor = _NORM * moved.norm(dim=1) - (moved * along[rows]).sum(1)
            return lean

        descent = _pgd.Descent(loss, steps, _STEP)
        generator = torch.Generator().manual_seed(key.seed("radioactive", "draws", int(part[0])))
        draws = torch.rand(steps, len(part), 3, generator=generator)
        start = torch.zeros(images.shape)
        parts.append(descent.run([net], images, torch.arange(len(part)), start, eps, draws))
    return torch.cat(parts)
