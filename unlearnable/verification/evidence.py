"""The three arms as a trainer would see them: the owner's originals, the same with random noise, and the shipped bytes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from unlearnable import imageio, spill, split
from unlearnable.cluster import Labeller
from unlearnable.errors import ImageError, UsageError
from unlearnable.looks import Looks, admitted, evenly
from unlearnable.split import Parts
from unlearnable.types import Pixels, Record
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

    @property
    def bytes(self) -> int:
        """Of all pictures."""
        pairs = [pair for pair in (self.test, self.select, self.whole) if pair]
        return sum(images.nbytes for images in (*self.arms.values(), *(images for images, _ in pairs)))

    def to(self, device: torch.device) -> Evidence:
        """The same with all tensors on the device, or with none of them where the pictures would take too much of it."""
        if device.type == "cpu" or not spill.fits(self.bytes, device):
            return self

        def there(pair: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor] | None:
            return (pair[0].to(device), pair[1].to(device)) if pair else None

        test, arms = (self.test[0].to(device), self.test[1].to(device)), self.arms.items()
        moved = replace(self, arms={arm: images.to(device) for arm, images in arms}, labels=self.labels.to(device))
        return replace(moved, test=test, select=there(self.select), whole=there(self.whole))

    def where(self, device: torch.device) -> str:
        """Where `to` leaves the pictures: "device", "memory" or "disk"; a CPU's memory is the device's."""
        if device.type != "cpu" and spill.fits(self.bytes, device):
            return "device"
        on_disk = any(spill.spilled(images) for images in self.arms.values())
        return "disk" if on_disk else "device" if device.type == "cpu" else "memory"


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
    test = looks.pick(evenly(parts.test, most_test))
    select = looks.pick(evenly(parts.select, most_test))
    chosen, side = evenly(parts.train, most_train), looks.images.shape[-1]
    position = {looks.records[i].id: i for i in chosen}
    noise, copies = (spill.empty(len(chosen), 3, side, side) for _ in range(2))
    kept: list[int] = []

    def views(pair: tuple[Record, bytes]) -> tuple[Record, list[Pixels]]:
        record, data = pair
        with admitted(record):
            try:
                made = _view(noisy(record), record, side)
            except ImageError:  # changed since it was first read: out of every arm, as in the release
                return record, []
            return record, [made, _view(data, record, side)]

    for record, pair in spill.ahead(views, shipped([looks.records[i] for i in chosen])):
        for arm, pixels in zip((noise, copies), pair, strict=False):
            arm.numpy()[len(kept)] = pixels.transpose(2, 0, 1)
        kept += [position[record.id]] if pair else []
    if not kept:
        raise UsageError("No image of the training part is in the release, so nothing can be verified.")
    clean = looks.pick(kept)
    arms = {"clean": clean.images, "noise": noise[: len(kept)], "protected": copies[: len(kept)]}
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


def _view(data: bytes, record: Record, side: int) -> Pixels:
    return imageio.trainer_view(imageio.decode(data, record.id).pixels, side)


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
    train, test = (split.perceptual_hashes(images) for images in (evidence.arms["clean"], evidence.test[0]))
    train, found = np.unique(train), 0
    for part in np.array_split(test, max(1, len(test) * len(train) // _PAIRS_AT_ONCE)):
        apart = np.bitwise_count(part[:, None] ^ train[None])
        found += int((apart.min(axis=1) <= split.NEAR).sum())
    return found


def labels_of(looks: Looks, labeller: Labeller | None) -> Tensor:
    """The owner's labels, else clusters of the clean images."""
    if labeller is not None:
        return labeller(looks.images)
    return torch.tensor([record.label for record in looks.records], dtype=torch.long)
