"""Only a share of each class is protected, or only some classes: what others publish of the same stays clean.

As when one person's photos sit in a face-recognition set: `protected_classes_peak` and `_final` are the accuracies on the
classes that are protected at all, and `clean_alone_peak` is what the unprotected images reach without the protected ones.
A class that is protected whole cannot be learned from the others, so that its null is nought.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from unlearnable.defences._job import Job, mixed
from unlearnable.train import History, accuracy

COST = 1.5
WORDS = "protection of {share:.0%} of {classes:.0%} of the classes"
OWN_CLEAN = True
PRESETS: dict[str, dict[str, float]] = {
    "partial90": {"share": 0.9},
    "partial60": {"share": 0.6},
    "partial30": {"share": 0.3},
    "partial10": {"share": 0.1},
    "partial_classes": {"share": 1.0, "classes": 0.3},
}


@dataclass(frozen=True)
class Params:
    share: float = 0.5
    "share of each protected class that is protected"
    classes: float = 1.0
    "share of the classes that are protected, at least one and never all but for 1"

    def __post_init__(self) -> None:
        for name in ("share", "classes"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} is above 0 and at most 1, not {getattr(self, name)}")
        if self.share == self.classes == 1:
            raise ValueError("share and classes are not both 1: that is the whole release")


def victim(job: Job, params: Params) -> History:
    chosen = protected_classes(job, params.classes)
    protected = protected_images(job, chosen, params.share)
    images, labels = job.test
    asked = torch.isin(labels, chosen)
    net, on_them = job.network(), []

    def each(epoch: int, history: History) -> None:
        on_them.append(accuracy(net, images[asked], labels[asked]) if asked.any() else 0.0)
        job.on_epoch(epoch, history)

    history = replace(job, on_epoch=each).run(images=mixed(protected, job.images, job.clean), net=net)
    history.figures |= {"protected_classes_peak": max(on_them), "protected_classes_final": on_them[-1]}
    if not protected.all():
        history.figures |= job.clean_alone(~protected)
    return history


def protected_classes(job: Job, share: float) -> Tensor:
    """Class numbers, drawn at random: at least one, and not all unless all are asked for."""
    most = job.classes if share == 1 else max(1, job.classes - 1)
    count = min(max(1, round(share * job.classes)), most)
    return torch.randperm(job.classes, generator=job.generator())[:count].to(job.device)


def protected_images(job: Job, classes: Tensor, share: float) -> Tensor:
    """(N,) bool: `share` of the images of each of the classes."""
    order = job.order()
    chosen = torch.zeros(len(order), dtype=torch.bool, device=job.device)
    for label in classes.tolist():
        members = order[job.labels[order] == label]
        chosen[members[: round(share * len(members))]] = True
    return chosen
