"""Removes from every image what a linear classifier of the raw pixels finds (orthogonal projection).

Sandoval-Segura et al. 2023, arXiv 2305.19254. A bias-free softmax regression on pixels finds a class-wise pattern at
once, because to it the pattern is all there is; its K weight vectors span a space that is projected out of every training
image. Needs the release alone and seconds; removes patterns that are the same for a whole class, and hardly anything of
per-image perturbations. The results stay floats, outside of 0 to 255 too; test images are not projected, as in the paper.
Other than in the paper the mean image is kept whole: it tells no class, and without it test images, which have theirs, are
strange to the network (peak 0.19 without it and 0.39 with it, on 1,200 clean images of CIFAR-10). And the victim is trained by
the protocol, as under every countermeasure here, where the paper adds CutMix and strong augmentation (rows of their own).

`linear_accuracy` is what the regression reaches on the images it was trained on: far above the clean arm's, it gives a
protected set away (Zhu et al. 2024, arXiv 2312.08898). It takes 1,000 steps however few the images (the paper: 20 epochs of
CIFAR-10, 980 steps) and shuffles them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from unlearnable import spill
from unlearnable.defences._job import Job
from unlearnable.device import in_parts
from unlearnable.train import History, share

PAPER = "Sandoval-Segura et al. 2023, arXiv 2305.19254"
CHEAP = True
COST = 1.1
WORDS = "orthogonal projection"
PRESETS: dict[str, dict[str, object]] = {"projection": {}}
_BATCH = 1024


@dataclass(frozen=True)
class Params:
    steps: int = 1000
    "steps of the linear classifier"
    learning_rate: float = 0.1
    "its learning rate, a tenth from half of the steps on, a hundredth from three quarters on"

    def __post_init__(self) -> None:
        if not 10 <= self.steps <= 100_000:
            raise ValueError(f"steps is 10 to 100000, not {self.steps}")
        if not 0 < self.learning_rate <= 10:
            raise ValueError(f"learning_rate is above 0 and at most 10, not {self.learning_rate}")


def victim(job: Job, params: Params) -> History:
    weights = linear(job.images, job.labels, job.classes, params, job.generator())
    history = job.run(images=projected(job.images, weights))
    history.figures["linear_accuracy"] = linear_accuracy(job.images, job.labels, weights)
    return history


def linear(images: Tensor, labels: Tensor, classes: int, params: Params, generator: torch.Generator) -> Tensor:
    """(K, D) weights of a softmax regression without bias on pixels in [0, 1], D = 3 V V."""
    flat = images.flatten(1)
    weights = torch.zeros((classes, flat.shape[1]), device=images.device)
    order = torch.empty(0, dtype=torch.long)
    for step in range(params.steps):
        if len(order) < min(_BATCH, len(flat)):
            order = torch.cat([order, torch.randperm(len(flat), generator=generator)])
        chosen, order = order[:_BATCH].to(images.device), order[_BATCH:]
        x = flat[chosen].float() / 255
        error = F.softmax(x @ weights.T, 1) - F.one_hot(labels[chosen], classes)
        rate = params.learning_rate * 0.1 ** ((step >= params.steps / 2) + (step >= params.steps * 3 / 4))
        weights -= rate / len(x) * (error.T @ x)
    return weights


def linear_accuracy(images: Tensor, labels: Tensor, weights: Tensor) -> float:
    """Share of uint8 images whose label the regression reads right."""
    parts = in_parts(lambda part: (images[part].flatten(1).float() @ weights.T).argmax(1), len(images), 2000)
    return share(torch.cat(parts) == labels)


def projected(images: Tensor, weights: Tensor) -> Tensor:
    """(N, 3, V, V) uint8 -> floats of the same scale, alike along every row of `weights` (K, D): there, all are the mean."""
    basis, _ = torch.linalg.qr(F.normalize(weights).T)
    along = torch.cat(in_parts(lambda part: images[part].flatten(1).float() @ basis, len(images), 2000))
    more = along - along.mean(0)

    out = spill.empty(*images.shape, dtype=torch.float32, device=images.device)

    def part(which: slice) -> None:
        out[which] = (images[which].flatten(1).float() - more[which] @ basis.T).view(-1, *images.shape[1:])

    in_parts(part, len(images), 2000)
    return out
