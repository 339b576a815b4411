"""What is learned about a source before anything is written: a sample of it, its parts, and labels if it has none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from unlearnable import cluster, distributed, imageio, looks, spill, split
from unlearnable.errors import UsageError
from unlearnable.keys import Key
from unlearnable.looks import Looks
from unlearnable.options import Options
from unlearnable.split import Parts
from unlearnable.types import Batch, Record, Source, Tell
from unlearnable.verification.plan import most_images

_MOST_PHOTOS = 4_000  # a quick verdict decodes each three times
_PARTS = ("train", "select", "test")
_FIT_BYTES = 512 << 20  # of pixels at the working size that `fit` may hold


@dataclass(frozen=True)
class FitFacts:
    """What a method that trains was fitted on: how many of the source's images, by how many processes, connected how.

    The others are perturbed by what was found on these: each method's own page says how.
    """

    images: int
    of: int
    processes: int
    backend: str  # "gloo", "nccl"; "" for one process


@dataclass(frozen=True)
class Study:
    """A sample of a source. looks: all parts at the view's size; working: side at which perturbations are made.

    photos: the originals are larger than the view, so that a trainer crops at random.
    """

    source: Source
    looks: Looks
    parts: Parts
    working: int
    photos: bool
    labeller: cluster.Labeller | None
    independent: cluster.Labeller | None

    def part(self, name: str) -> tuple[Looks, Tensor]:
        """A part's looks and labels: "train", "select" or "test"."""
        chosen = self.looks.pick(getattr(self.parts, name))
        if self.labeller is not None:
            return chosen, self.labeller(chosen.images)
        # methods without labels run on any source; they get zeros and must not look at them
        return chosen, torch.tensor([record.label or 0 for record in chosen.records])

    def batch(self, name: str, most: int | None = None) -> Batch:
        """A part at the working size, for `fit` and surrogates; at most `most` images, and what memory allows."""
        limit = max(1, min(most or 1 << 30, _FIT_BYTES // (3 * self.working**2)))
        part, labels = self.part(name)
        chosen = looks.evenly(range(len(part)), limit)
        part, labels = part.pick(chosen), labels[torch.as_tensor(chosen)]
        images = part.images
        if self.working != images.shape[-1]:
            again = looks.look(self.source, part.records, self.working, imageio.square)
            kept = {record.id for record in again.records}
            labels = labels[[record.id in kept for record in part.records]]
            part, images = again, again.images
        return Batch(tuple(record.id for record in part.records), images, labels)

    def ids(self) -> dict[str, list[str]]:
        """Which records are in which part, for the receipt: a later `verify` must not test on what was trained on."""
        return {name: [self.looks.records[i].id for i in getattr(self.parts, name)] for name in _PARTS}


def study(source: Source, options: Options, key: Key, tell: Tell) -> Study:
    """Draws and decodes the sample, divides it, and clusters it where there are no labels.

    Several processes each do the same, but for the clustering, which the first does for all.
    A second, independent clustering is made when there is something to verify. Raises UsageError where the source is
    too small.
    """
    protocol = "quick" if options.verify == "none" else options.verify
    view, working = looks.view_size(source)
    chosen = sample(source, protocol, photos=view != working)
    seen = _look(source, chosen, view, tell)
    parts = split.parts(seen.records, seen.images)
    labeller = second = None
    if source.classes is None:
        labeller = distributed.shared(
            lambda: _cluster(seen, parts, options, key.seed("clusters"), "clustering", tell, options.weights)
        )
        if options.verify != "none":
            second = distributed.shared(
                lambda: _cluster(seen, parts, options, key.seed("independent clusters"), "second clustering", tell)
            )
    else:
        _check_classes(source, seen.pick(parts.train))
    return Study(source, seen, parts, options.size or working, view != working, labeller, second)


def again(
    source: Source,
    ids: dict[str, Sequence[str]],
    how: str,
    working: int,
    labeller: cluster.Labeller | None,
    independent: cluster.Labeller | None,
    tell: Tell,
) -> Study:
    """The study of an earlier run, from the record ids in its receipt."""
    view, usual = looks.view_size(source)
    known = {record.id: record for record in source.records}
    wanted = [known[i] for name in _PARTS for i in ids[name] if i in known]
    seen = _look(source, wanted, view, tell)
    position = {record.id: i for i, record in enumerate(seen.records)}
    train, select, test = (tuple(position[i] for i in ids[name] if i in position) for name in _PARTS)
    if not train or not test:
        raise UsageError(
            f"{source.spec} holds none of the images that this release was made from.", "Name the right one: --source."
        )
    return Study(source, seen, Parts(train, select, test, how), working, view != usual, labeller, independent)


def sample(source: Source, protocol: str, photos: bool) -> list[Record]:
    """The records that a study under this protocol looks at: as many as the verdict uses, drawn at random."""
    train, test = most_images(protocol)
    if photos and protocol == "quick":
        train, test = _MOST_PHOTOS, _MOST_PHOTOS // 4
    owners = split.test_split(list(dict.fromkeys(record.split for record in source.records)))
    held = [record for record in source.records if record.split == owners]
    rest = [record for record in source.records if record.split != owners]
    share = 1 - split.SELECT_SHARE if owners else (1 - split.SELECT_SHARE) * (1 - split.TEST_SHARE)
    return looks.draw(rest, round(train / share)) + looks.draw(held, test)


def _look(source: Source, records: Sequence[Record], view: int, tell: Tell) -> Looks:
    count = [0]

    def each() -> None:
        count[0] += 1
        tell("reading", count[0], len(records))

    return looks.look(source, records, view, each=each)


def _cluster(
    seen: Looks, parts: Parts, options: Options, seed: int, what: str, tell: Tell, weights: Path | None = None
) -> cluster.Labeller:
    epochs = 15
    return cluster.fit(
        spill.take(seen.images, torch.as_tensor(parts.train)),
        options.clusters,
        seed=seed,
        epochs=epochs,
        weights=weights,
        on_epoch=lambda epoch, history: tell(
            f"{what} without labels, loss {history.train_loss[-1]:.2f}", epoch, epochs
        ),
    )


def _check_classes(source: Source, train: Looks) -> None:
    """Every class needs a few images to learn from; which one lacks them is said."""
    classes = source.classes or ()
    counts = torch.bincount(torch.tensor([record.label for record in train.records]), minlength=len(classes))
    small = [name for name, count in zip(classes, counts.tolist(), strict=True) if count < 2]
    if small and len(train) < 20 * len(classes):  # a rare class in a sample of a large set is no cause to stop
        raise UsageError(
            f"Too few images to learn and test on in {', '.join(repr(name) for name in small[:5])}.",
            "Add images (at least ten a class), use --labels none, or protect unproven: --verify none --preset r16.",
        )
