"""Entangled features: robust features of a class are pushed off its centre, or pulled to another's (EntF push, pull).

Adversarial training undoes noise that only fools ordinary features. This one moves the features of a network that was
itself adversarially trained, until classes overlap in them: push away from the mean feature of the image's own class, or
pull to the nearest mean feature of another. "Is Adversarial Training Really a Silver Bullet for Mitigating Data Poisoning?"
(Wen et al. 2023, ICLR, openreview.net/forum?id=zKvm1ETDOq); the network by Madry et al. 2018, arXiv 1706.06083. The authors
report 13.31 points less accuracy for adversarial training at 8 grey levels on CIFAR-10; it is meant against that, not
against ordinary training.

images: (N, 3, S, S) uint8; labels: (N,) int64; returns (N, 3, S, S) float within eps and within legal pixels.

As in the paper: training within 4 grey levels for 100 epochs, the rate falling after 75 and 90; N(0, 1) eps start, 300 steps
of 0.05 eps and a new differentiable translation and flip in each, as in targeted. Pull chooses the nearest centre anew in
every step. Its own class is never chosen: the authors give that a distance of 1, which is not the largest where features are
large. Centres are of clean images in float32. Otherwise: the attacker in training takes ten steps of a quarter of the
radius, one grey level, where the authors' takes steps of two.

Such a network costs eleven times an ordinary training. Does not survive JPEG. Its network knows the classes it was fitted with,
so new images can be added later but not new classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from unlearnable.nets import Network
from unlearnable.poisons import _features, _pgd, _surrogates
from unlearnable.types import Batch, Context, State

PAPER = "Wen et al. 2023, ICLR, openreview zKvm1ETDOq"
COST = "300 F+B an image for each restart + an adversarially trained surrogate (11 trainings of 100 epochs)"
LEVEL = "sample"
NEEDS_LABELS = True
TRAINS = True
PRESETS: dict[str, dict[str, object]] = {
    "entf_push": {"goal": "push"},
    "entf_pull": {"goal": "pull"},
}

_MILESTONES = (0.75, 0.9)


@dataclass(frozen=True)
class Params(_pgd.Params):
    steps: int = 300
    "gradient steps for each image and restart"

    goal: Literal["push", "pull"] = "push"
    "push: away from the centre of the own class; pull: to the nearest centre of another"

    robust: float = 4.0
    "radius of the adversarial training of the network, in grey levels; 0 is ordinary training"

    epochs: int = 100
    "epochs of the network's training"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.goal not in ("push", "pull"):
            raise ValueError(f"goal is push or pull, not {self.goal!r}")
        if not 0 <= self.robust <= 64:
            raise ValueError(f"robust is 0 to 64 grey levels, not {self.robust}")
        if not 1 <= self.epochs <= 10_000:
            raise ValueError(f"epochs is 1 to 10000, not {self.epochs}")


def push(centroids: _features.Tables) -> _pgd.Loss:
    """Small where features are far from the centre of their own class."""

    def loss(net: Network, seen: Tensor, own: Tensor) -> Tensor:
        return -_features.distance(net.features(seen), centroids[net][own])

    return loss


def pull(centroids: _features.Tables) -> _pgd.Loss:
    """Small where features are near a centre, the nearest that is not of their own class."""

    def loss(net: Network, seen: Tensor, own: Tensor) -> Tensor:
        features = net.features(seen).float()
        centres = centroids[net]
        away = torch.cdist(features.detach(), centres, compute_mode="donot_use_mm_for_euclid_dist")
        nearest = away.scatter(1, own[:, None], torch.inf).argmin(1)
        return _features.distance(features, centres[nearest])

    return loss


def fit(data: Batch | None, params: Params, context: Context) -> State:
    """Trains the surrogates, adversarially: networks, their "accuracy" and "centroids" {class: feature}."""
    return _features.fit(
        data, params.net, context, robust=params.robust / 255, epochs=params.epochs, milestones=_MILESTONES
    )


def delta(batch: Batch, state: State, params: Params, context: Context) -> Tensor:
    """Noise that moves the features of every image off its class."""
    own = _surrogates.outputs(batch.labels, state, context)
    networks = _surrogates.unpack(state, context)
    goal = push if params.goal == "push" else pull
    descent = _pgd.Descent(goal(_features.tables(networks, state)), params.steps, params.step_size())
    restarts, size = params.restarts, params.batch
    return _pgd.attack(
        networks, batch, own, descent, context, purpose="entangled_features", restarts=restarts, size=size
    )
