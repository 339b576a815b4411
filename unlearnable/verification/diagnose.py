"""What the perturbation looks like from outside, for those who ask: three measurements of the realised change.

    transfer      share of the protected training images that networks trained on the clean arm misread, and of those with
                  noise and the clean ones to compare, for each network and as the mean over them; strong attacks score high,
                  but it does not predict a strong poison (methods.md section 3.2; "Poisons that are learned faster are more
                  effective", table 2, whose networks are ResNet-18, VGG-19, MobileNet and GoogLeNet after 200 epochs: here
                  they are the --victim that were asked for, trained as the protocol says)
    linear_probe  accuracy of a softmax regression on protected - clean alone, fitted by L-BFGS on four fifths and read on the
                  rest; random noise is the control (Yu et al. 2022, arXiv 2111.00898, find most perturbations separable)
    frequency     power of protected - clean by spatial frequency, the mean over rings of its 2-D spectrum

The published separability test (methods.md section 4.12) takes the accuracy on the images that it was fitted on, of changes
scaled from their least to their greatest value, by 50 (or up to 500) steps of L-BFGS at rate 0.5. That is `train` here, but
for three things: changes have mean 0 and standard deviation 1, weights are held small (1e-4 of their squares count as loss),
and a line search sets the rate, for at most 50 steps. Noise too is separable where there are more pixels than images;
`held_out`, which the published test has not, tells a pattern from what was learned by heart. At most 4,000 images are taken, at
the victims' size.

All are measured at the victims' view of the images. The change is what shipped: rounded, encoded and decoded again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from unlearnable import registry
from unlearnable.defences._job import Job
from unlearnable.looks import evenly
from unlearnable.train import History, accuracy, share
from unlearnable.verification import measure
from unlearnable.verification.evidence import Evidence
from unlearnable.verification.plan import ARMS, NONE, Cell, Plan

_MOST = 4000  # images that the probe and the spectrum take: floats of all would not fit
_STEPS = 50
_DECAY = 1e-4  # of the probe's weights: separable data has no best weights without


def questioned(job: Job, arms: Mapping[str, Tensor]) -> History:
    """Plain training on the clean arm, then the share of each arm's images that the network misreads, as figures."""
    net = job.network()
    history = job.run(net=net)
    for arm, images in arms.items():
        history.figures[f"misread_{arm}"] = 1 - accuracy(net, images, job.labels.to(images.device))
    return history


def diagnosis(plan: Plan, evidence: Evidence, histories: Mapping[Cell, History]) -> dict[str, Any]:
    """The `diagnosis` of `verify --diagnose`."""

    def misread(arm: str, victims: Sequence[str]) -> dict[str, Any]:
        """The mean over these networks, seed by seed."""
        asked = [[histories[Cell(victim, NONE, "clean", seed)] for victim in victims] for seed in plan.seeds]
        return measure.stat([fmean(run.figures[f"misread_{arm}"] for run in runs) for runs in asked])

    chosen = torch.as_tensor(evenly(range(len(evidence.labels)), _MOST))
    labels, clean = evidence.labels[chosen], evidence.arms["clean"][chosen].float()
    changes = {arm: evidence.arms[arm][chosen].float() - clean for arm in ("protected", "noise")}
    return {
        "transfer": {
            registry.network(name).shown: {arm: misread(arm, [name]) for arm in ARMS} for name in plan.victims
        },
        "transfer_mean": {arm: misread(arm, plan.victims) for arm in ARMS},
        "linear_probe": {arm: linear_probe(change, labels, evidence.classes) for arm, change in changes.items()},
        "frequency": {"cycles_per_pixel": rings(evidence.side)[1].tolist()}
        | {arm: power(change).tolist() for arm, change in changes.items()},
    }


def linear_probe(change: Tensor, labels: Tensor, classes: int) -> dict[str, float]:
    """Training and held-out accuracy of a softmax regression on (N, 3, V, V) float changes. Draws are always the same."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    flat, labels = change.flatten(1)[order], labels[order]
    held = max(1, len(labels) // 5)
    flat = (flat - flat[held:].mean(0)) / flat[held:].std().clamp(min=1e-6)
    weights = torch.zeros((classes, flat.shape[1] + 1), requires_grad=True)
    flat = torch.cat([flat, torch.ones(len(flat), 1)], 1)
    optimiser = torch.optim.LBFGS([weights], max_iter=_STEPS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = F.cross_entropy(flat[held:] @ weights.T, labels[held:]) + _DECAY * weights.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        right = (flat @ weights.T).argmax(1) == labels
    return {"train": share(right[held:]), "held_out": share(right[:held])}


def power(change: Tensor) -> Tensor:
    """(R,) mean power by ring of frequencies of (N, 3, V, V), in squared grey levels: white noise has its variance in all."""
    which, middles = rings(change.shape[-1])
    total = torch.zeros(change.shape[-2:])
    for part in torch.split(change, 500):
        total += torch.fft.fft2(part, norm="ortho").abs().square().mean(1).sum(0)
    total /= len(change)
    counts = torch.bincount(which.flatten(), minlength=len(middles))
    return torch.bincount(which.flatten(), total.flatten(), minlength=len(middles)) / counts


def rings(side: int) -> tuple[Tensor, Tensor]:
    """(V, V) ring of each coefficient of `fft2`, and the rings' frequencies in cycles a pixel: 0, 1/V, ... to the corner."""
    frequency = torch.fft.fftfreq(side)
    radius = (frequency[:, None] ** 2 + frequency[None] ** 2).sqrt()
    which = (radius * side).round().long()
    return which, torch.arange(int(which.max()) + 1) / side
