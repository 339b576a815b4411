"""Teaches a small network to tell protected images from clean ones, and drops what it takes for protected.

What is easy for a network to learn is easy to find: Zhu et al. 2024, arXiv 2312.08898, tell whole protected sets by small
networks; this tells single images. The scraper knows a tenth of the records as clean and another tenth as released, and
has a pile of the rest of which half is protected. `detector_accuracy` is on that pile (half
is guessing), `detector_missed` the share of protected images that it lets through; the victim then trains on what is left.
`clean_alone_peak` is what a perfect detector would leave. The clean arm shows what dropping images at random costs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from unlearnable import nets, spill
from unlearnable.defences._job import Job
from unlearnable.train import History, Recipe, predict, share, train

PAPER = "Zhu et al. 2024, arXiv 2312.08898"
COST = 1.3
WORDS = "a detector that drops protected images"
OWN_CLEAN = True
PRESETS: dict[str, dict[str, int]] = {"detector": {"epochs": 15}}


@dataclass(frozen=True)
class Params:
    epochs: int = 15
    "epochs that the detector is trained for"

    def __post_init__(self) -> None:
        if not 1 <= self.epochs <= 200:
            raise ValueError(f"epochs is 1 to 200, not {self.epochs}")


def victim(job: Job, params: Params) -> History:
    order = job.order()
    known = max(1, len(order) // 10)
    own, released, rest = order[:known], order[known : 2 * known], order[2 * known :]
    clean, protected = rest[: len(rest) // 2], rest[len(rest) // 2 :]
    net = detector(job.clean[own], job.images[released], params.epochs, job.seed, job.trains_on)
    dropped_clean = predict(net, spill.take(job.clean, clean)).argmax(1).bool()
    dropped = predict(net, spill.take(job.images, protected)).argmax(1).bool()
    records = torch.cat([own, clean[~dropped_clean], protected[~dropped]])
    images, kept = spill.take(job.clean, records), len(protected) - int(dropped.sum())
    torch.index_select(job.images, 0, protected[~dropped], out=images[len(records) - kept :])
    history = replace(job, labels=job.labels[records]).run(images=images)
    right = share(torch.cat([~dropped_clean, dropped]))
    missed = share(~dropped)
    history.figures |= {"detector_accuracy": right, "detector_missed": missed}
    history.figures |= job.clean_alone(torch.cat([own, clean]))
    return history


def detector(
    clean: Tensor, protected: Tensor, epochs: int, seed: int, device: torch.device | None = None
) -> nets.Network:
    """A network that answers 1 for protected images, from uint8 examples of both."""
    images = torch.cat([clean, protected])
    labels = torch.cat([torch.zeros(len(clean)), torch.ones(len(protected))]).long().to(images.device)
    net = nets.create("small", 2, images.shape[-1], seed)
    batch = min(128, max(8, len(images) // 8))
    train(net, images, labels, Recipe(epochs=epochs, batch=batch, augment="none"), seed=seed, device=device)
    return net
