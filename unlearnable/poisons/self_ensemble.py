"""Self-ensemble protection: features of another class, at every stage of a network's training at once (SEP).

A network that is trained on clean data is kept at many points of its training, and an image is changed until, on all of
these checkpoints, its features are those of its class's target (the mean feature of the target's images). What holds for
the whole way of a training transfers better than what holds for its end. "Self-Ensemble Protection: Training Checkpoints
Are Good Data Protectors" (Chen et al. 2022, arXiv 2211.12005), with feature alignment and variance reduction; the authors
report 14.68 % accuracy on CIFAR-10 with 2 grey levels.

images: (N, 3, S, S) uint8; labels: (N,) int64; returns (N, 3, S, S) float within eps and within legal pixels.

As in the paper: 15 checkpoints, equally spaced in 120 epochs; 30 steps from zero, no augmentation. The direction of each is
summed up in as many inner steps as there are checkpoints: the gradient of one drawn at random, less its own where the inner
steps began, plus the mean of all there (SVRG, Johnson and Zhang 2013). The first of them is that mean, so it costs nothing.
Otherwise: targets are a secret derangement where the paper has y + 5 mod 10; checkpoints are drawn from the owner's key, the
same for all images; and each checkpoint is held against its own centroids, where the authors' inner loop holds all against
those of the last. Steps are one grey level, longer only where they are too few to cross the budget.

The fit holds all checkpoints: 45 MB each for ResNet-18. Does not survive JPEG-10. Its networks know the classes they were
fitted with, so new images can be added later but not new classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unlearnable import registry
from unlearnable.nets import Network
from unlearnable.poisons import _features, _pgd, _surrogates
from unlearnable.poisons._derange import derangement
from unlearnable.types import Batch, Context, State

PAPER = "Chen et al. 2022, arXiv 2211.12005"
COST = "870 F+B an image + a surrogate of 120 epochs"
LEVEL = "sample"
NEEDS_LABELS = True
TRAINS = True
PRESETS: dict[str, dict[str, object]] = {"sep": {}}

_MILESTONES = (75 / 120, 90 / 120)


@dataclass(frozen=True)
class Params:
    net: str = "resnet18"
    "network that the noise is crafted on, trained on the clean images first; several with +, seeds with *3"

    checkpoints: int = 15
    "networks to keep of each training, equally spaced"

    epochs: int = 120
    "epochs of each training"

    steps: int = 30
    "steps for each image; each costs nearly two gradients for every checkpoint"

    step: float = 0.0
    "length of a step as a share of the budget; 0 is one grey level, or 2.5 / steps where that is more"

    batch: int = 0
    "images attacked at once: memory against speed; 0 is 128 on a CPU, 512 on a GPU"

    def __post_init__(self) -> None:
        registry.ensemble(self.net)
        _pgd.check_ranges(self.steps, self.step, batch=self.batch)
        if not 1 <= self.epochs <= 10_000:
            raise ValueError(f"epochs is 1 to 10000, not {self.epochs}")
        if not 1 <= self.checkpoints <= self.epochs:
            raise ValueError(f"checkpoints is 1 to epochs ({self.epochs}), not {self.checkpoints}")

    def step_size(self, levels: int) -> float:
        """The step in budgets of `levels` grey levels."""
        return self.step or max(1 / levels, 2.5 / self.steps)


@dataclass(frozen=True)
class VarianceReduced(_pgd.Descent):
    """Signed steps whose direction is summed up in inner steps of one network each."""

    order: tuple[tuple[int, ...], ...] = ()  # for each step: the networks of its inner steps, but for the first

    def run(
        self,
        networks: Sequence[Network],
        images: Tensor,
        wanted: Tensor,
        start: Tensor,
        eps: float,
        draws: Tensor | None,
    ) -> Tensor:
        """As `Descent.run`, without augmentation."""
        del draws
        clean = images.float() / 255
        low, high = _pgd.bounds(clean, eps, self.box)

        def gradient(net: Network, delta: Tensor) -> Tensor:
            delta = delta.detach().requires_grad_()
            (found,) = torch.autograd.grad(self.score([net], clean + delta, wanted).sum(), delta)
            return found

        def stepped(delta: Tensor, direction: Tensor) -> Tensor:
            return (delta - self.step * eps * direction.sign()).clamp(low, high)

        delta = start.clamp(low, high)
        total = torch.zeros(len(clean), device=clean.device)
        for chosen in self.order:
            here = torch.stack([gradient(net, delta) for net in networks])
            summed = mean = here.mean(0)
            inner = stepped(delta, summed)
            for number in chosen:
                summed = summed + gradient(networks[number], inner) - here[number] + mean
                inner = stepped(inner, summed)
            delta = stepped(delta, summed)
            total += summed.sum((1, 2, 3))
        return torch.where(total.isfinite()[:, None, None, None], delta, torch.nan)


def fit(data: Batch | None, params: Params, context: Context) -> State:
    """Trains the surrogates and draws the derangement: checkpoints, "centroids", "accuracy" and "targets" {class: class}."""
    targets = derangement(context.classes, context.key.rng("self_ensemble", "derangement"))
    state = _features.fit(
        data, params.net, context, checkpoints=params.checkpoints, epochs=params.epochs, milestones=_MILESTONES
    )
    return state | {"targets": targets}


def delta(batch: Batch, state: State, params: Params, context: Context) -> Tensor:
    """Noise that gives every image, on all checkpoints, the features of its class's target."""
    wanted = _surrogates.outputs(batch.labels, state, context, rename=state["targets"].__getitem__)
    networks = _surrogates.unpack(state, context)
    centroids = _features.tables(networks, state)

    def loss(net: Network, seen: Tensor, wanted: Tensor) -> Tensor:
        return _features.distance(net.features(seen), centroids[net][wanted])

    rng = context.key.rng("self_ensemble", "order")
    order = rng.integers(len(networks), size=(params.steps, len(networks) - 1)).tolist()
    step = params.step_size(context.levels)
    descent = VarianceReduced(loss, params.steps, step, order=tuple(map(tuple, order)))
    size = params.batch
    return _pgd.attack(
        networks, batch, wanted, descent, context, purpose="self_ensemble", size=size, noise=False, augmented=False
    )
