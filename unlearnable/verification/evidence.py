"""The three arms as a trainer would see them: the owner's originals, the same with random noise, and the shipped bytes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unlearnable import imageio, split
from unlearnable.cluster import Labeller
from unlearnable.errors import ImageError, UsageError
from unlearnable.looks import Looks, evenly, to_tensor
from unlearnable.split import Parts
from unlearnable.types import Record
from unlearnable.verification.plan import most_images

_PAIRS_AT_ONCE = 20_000_000  # of hashes

# a record -> the bytes it would ship as if its perturbation were random noise, in the same container
Noisy = Callable[[Record], bytes]
# records -> the bytes that ship for them; those that were skipped are missing
Shipped = Callable[[Sequence[Record]], Iterator[tuple[Record, bytes]]]


@dataclass(frozen=True)
class Evidence:
    """What victims are trained and tested on. arms: name -> (N, 3, V, V) uint8; labels: (N,); test: images and labels.

    `test_set` says where the test images come from; `surrogate` names the network of crafting, if there was one. select:
    clean images like the test's and apart from it, to choose an epoch by. noise_levels: of the noise arm, where known.
    whole: where some classes alone are protected, test images of all classes; `test` then holds those of the protected ones.
    """

    arms: dict[str, Tensor]
    labels: Tensor
    test: tuple[Tensor, Tensor]
    classes: int
    test_set: str
    surrogate: str | None = None
    pseudo_labels: bool = False
    select: tuple[Tensor, Tensor] | None = None
    noise_levels: int | None = None
    whole: tuple[Tensor, Tensor] | None = None

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
    noise_levels: int | None = None,
    protected: Collection[int] | None = None,
) -> Evidence:
    """Reads the shipped bytes of (at most the protocol's number of) training records back and makes the other arms.

    Only images that shipped are in any arm, so that all three hold the same pictures. protected: the labels that are, None
    for all. Raises UsageError when no image shipped, or none to test on is of a protected class.
    """
    most_train, most_test = most_images(protocol)
    train = looks.pick(evenly(parts.train, most_train))
    test = looks.pick(evenly(parts.test, most_test))
    select = looks.pick(evenly(parts.select, most_test))
    side = looks.images.shape[-1]
    position = {record.id: i for i, record in enumerate(train.records)}
    kept: list[int] = []
    copies, noise = [], []
    for record, data in shipped(train.records):
        try:
            noise.append(imageio.trainer_view(imageio.decode(noisy(record), record.id).pixels, side))
        except ImageError:  # changed since it was first read: out of every arm, as in the release
            continue
        copies.append(imageio.trainer_view(imageio.decode(data, record.id).pixels, side))
        kept.append(position[record.id])
    if not kept:
        raise UsageError("No image of the training part is in the release, so nothing can be verified.")
    clean = train.pick(kept)
    arms = {"clean": clean.images, "noise": to_tensor(noise, side), "protected": to_tensor(copies, side)}
    whole = (test.images, labels_of(test, labeller))
    asked = whole if protected is None else _of(protected, whole)
    return Evidence(
        arms,
        labels_of(clean, labeller),
        asked,
        classes,
        parts.how,
        surrogate,
        labeller is not None,
        (select.images, labels_of(select, labeller)) if len(select) else None,
        noise_levels,
        None if protected is None else whole,
    )


def _of(wanted: Collection[int], test: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The test images of these labels."""
    images, labels = test
    chosen = torch.isin(labels, torch.tensor(sorted(wanted)))
    if not chosen.any():
        raise UsageError("No image to test on is of a protected class.", "Hold some out in a split of their own.")
    return images[chosen], labels[chosen]


def relabelled(evidence: Evidence, labeller: Labeller) -> Evidence:
    """The same pictures under another labelling, as a scraper's own labels would be."""
    select = evidence.select and (evidence.select[0], labeller(evidence.select[0]))
    return replace(
        evidence,
        labels=labeller(evidence.arms["clean"]),
        test=(evidence.test[0], labeller(evidence.test[0])),
        select=select,
        classes=len(labeller.centres),
        pseudo_labels=True,
    )


def duplicates(evidence: Evidence) -> int:
    """How many test images are near-duplicates of a training image: perceptual hashes within `split.NEAR` bits."""
    train, test = (_hashes(images) for images in (evidence.arms["clean"], evidence.test[0]))
    train, found = np.unique(train), 0
    for part in np.array_split(test, max(1, len(test) * len(train) // _PAIRS_AT_ONCE)):
        apart = np.bitwise_count(part[:, None] ^ train[None])
        found += int((apart.min(axis=1) <= split.NEAR).sum())
    return found


def _hashes(images: Tensor) -> NDArray[np.uint64]:
    return np.concatenate([split.perceptual_hash(part) for part in torch.split(images, 5000)])


def labels_of(looks: Looks, labeller: Labeller | None) -> Tensor:
    """The owner's labels, else clusters of the clean images."""
    if labeller is not None:
        return labeller(looks.images)
    return torch.tensor([record.label for record in looks.records], dtype=torch.long)
