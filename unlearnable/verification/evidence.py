"""The three arms as a trainer would see them: the owner's originals, the same with random noise, and the shipped bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unlearnable import imageio
from unlearnable.cluster import Labeller
from unlearnable.errors import ImageError, UsageError
from unlearnable.looks import Looks, evenly, to_tensor
from unlearnable.split import Parts
from unlearnable.types import Record
from unlearnable.verification.plan import most_images

# a record -> the bytes it would ship as if its perturbation were random noise, in the same container
Noisy = Callable[[Record], bytes]
# records -> the bytes that ship for them; those that were skipped are missing
Shipped = Callable[[Sequence[Record]], Iterator[tuple[Record, bytes]]]


@dataclass(frozen=True)
class Evidence:
    """What victims are trained and tested on. arms: name -> (N, 3, V, V) uint8; labels: (N,); test: images and labels.

    `test_set` says where the test images come from; `surrogate` names the network of crafting, if there was one.
    """

    arms: dict[str, Tensor]
    labels: Tensor
    test: tuple[Tensor, Tensor]
    classes: int
    test_set: str
    surrogate: str | None = None
    pseudo_labels: bool = False

    @property
    def side(self) -> int:
        return int(self.test[0].shape[-1])


def collect(
    looks: Looks,
    parts: Parts,
    protocol: str,
    *,
    shipped: Shipped,
    noisy: Noisy,
    classes: int,
    surrogate: str | None,
    labeller: Labeller | None,
) -> Evidence:
    """Reads the shipped bytes of (at most the protocol's number of) training records back and makes the other arms.

    Only images that shipped are in any arm, so that all three hold the same pictures. Raises UsageError when none did.
    """
    most_train, most_test = most_images(protocol)
    train = looks.pick(evenly(parts.train, most_train))
    test = looks.pick(evenly(parts.test, most_test))
    side = looks.images.shape[-1]
    position = {record.id: i for i, record in enumerate(train.records)}
    kept: list[int] = []
    protected, noise = [], []
    for record, data in shipped(train.records):
        try:
            noise.append(imageio.trainer_view(imageio.decode(noisy(record), record.id).pixels, side))
        except ImageError:  # changed since it was first read: out of every arm, as in the release
            continue
        protected.append(imageio.trainer_view(imageio.decode(data, record.id).pixels, side))
        kept.append(position[record.id])
    if not kept:
        raise UsageError("No image of the training part is in the release, so nothing can be verified.")
    clean = train.pick(kept)
    arms = {"clean": clean.images, "noise": to_tensor(noise, side), "protected": to_tensor(protected, side)}
    return Evidence(
        arms,
        labels_of(clean, labeller),
        (test.images, labels_of(test, labeller)),
        classes,
        parts.how,
        surrogate,
        labeller is not None,
    )


def relabelled(evidence: Evidence, labeller: Labeller) -> Evidence:
    """The same pictures under another labelling, as a scraper's own labels would be."""
    labels = labeller(evidence.arms["clean"])
    test = (evidence.test[0], labeller(evidence.test[0]))
    return Evidence(
        evidence.arms, labels, test, len(labeller.centres), evidence.test_set, evidence.surrogate, pseudo_labels=True
    )


def labels_of(looks: Looks, labeller: Labeller | None) -> Tensor:
    """The owner's labels, else clusters of the clean images."""
    if labeller is not None:
        return labeller(looks.images)
    return torch.tensor([record.label for record in looks.records], dtype=torch.long)
