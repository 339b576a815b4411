"""One victim to train, as a countermeasure gets it: what a scraper holds, and the plain training to fall back on.

A countermeasure changes one thing and hands the rest back: the images (`job.run(images=...)`), what happens to a batch
(`augment`), the loss (`objective`), the network, the optimiser. It never learns which poison was used, nor which arm it
is shown. The test images are for counting right answers only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from unlearnable import nets, spill
from unlearnable.augment import AUGMENTATIONS, Augment
from unlearnable.device import in_parts
from unlearnable.nets import Network
from unlearnable.train import History, Objective, Recipe, accuracy, cross_entropy, train

_APART = 1_000_003  # added to the seed for draws that are not the training's
_AT_ONCE = 2000  # images that are changed together: floats of a whole set would not fit


@dataclass(frozen=True)
class Job:
    """images, clean: (N, 3, V, V) uint8, the arm's and the originals of the same records; labels: (N,) int64.

    `clean` is the owner's, and stands for images that a scraper took themself: a countermeasure that uses some says which
    share, declares OWN_CLEAN and reports what that share is worth alone. All tensors are on one device, that to train on or,
    where `place` names another, the machine's memory or a file: sets of pictures are made by `changed`, `mixed` and
    `spill.take`, so that copies that are as large lie there too.
    """

    images: Tensor
    labels: Tensor
    clean: Tensor
    test: tuple[Tensor, Tensor]
    classes: int
    victim: str
    recipe: Recipe
    seed: int
    on_epoch: Callable[[int, History], None] = lambda epoch, history: None
    select: tuple[Tensor, Tensor] | None = None  # clean images to choose an epoch by
    whole: tuple[Tensor, Tensor] | None = None  # test images of all classes, where `test` has the protected ones alone
    place: torch.device | None = None  # where networks are trained, where that is not where the images are

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.images.device

    @property
    def trains_on(self) -> torch.device:
        return self.place or self.device

    @property
    def plain(self) -> Augment:
        """What the recipe does to a batch: uint8 in, floats in [0, 1] out."""
        return AUGMENTATIONS[self.recipe.augment]

    def network(self) -> Network:
        """The fresh victim of this seed."""
        return nets.create(self.victim, self.classes, self.images.shape[-1], self.seed).to(self.trains_on)

    def generator(self, device: torch.device | str = "cpu") -> torch.Generator:
        """A countermeasure's own draws, apart from the training's order and crops.

        Few numbers are drawn on the CPU and moved (the same on every device), whole images on the device.
        """
        return torch.Generator(device).manual_seed(self.seed + _APART)

    def order(self) -> Tensor:
        """(N,) positions, shuffled: who is chosen by taking the first ones."""
        return torch.randperm(len(self.labels), generator=self.generator()).to(self.device)

    def draw(self, share: float) -> Tensor:
        """(N,) bool: this share of the records, at least one, at random."""
        chosen = torch.zeros(len(self.labels), dtype=torch.bool, device=self.device)
        chosen[self.order()[: max(1, round(share * len(chosen)))]] = True
        return chosen

    def run(
        self,
        *,
        images: Tensor | None = None,
        augment: Augment | None = None,
        objective: Objective = cross_entropy,
        net: Network | None = None,
        reshape: Callable[[torch.optim.Optimizer], torch.optim.Optimizer] = lambda optimiser: optimiser,
    ) -> History:
        """Trains the victim as planned, but for what is given. `images` may be floats, in the same 0 to 255.

        With `whole`, the accuracy on it becomes a figure: over all classes, beside that on the protected ones.
        """
        net, over_all = net or self.network(), list[float]()

        def each(epoch: int, history: History) -> None:
            if self.whole is not None:
                over_all.append(accuracy(net, *self.whole))
            self.on_epoch(epoch, history)

        history = train(
            net,
            self.images if images is None else images,
            self.labels,
            self.recipe,
            seed=self.seed,
            test=self.test,
            select=self.select,
            augment=augment,
            objective=objective,
            reshape=reshape,
            on_epoch=each,
            device=self.place,
        )
        if over_all:
            history.figures |= {"all_classes_peak": max(over_all), "all_classes_final": over_all[-1]}
        return history

    def clean_alone(self, chosen: Tensor) -> dict[str, float]:
        """The honest null, as figures: what a scraper reaches with the clean images of the `chosen` records and no others."""
        quiet = replace(self, select=None, whole=None, on_epoch=lambda epoch, history: None)
        alone = replace(quiet, labels=self.labels[chosen])
        history = alone.run(images=spill.take(self.clean, chosen))
        return {"clean_alone_peak": history.peak, "clean_alone_final": history.final}


def changed(change: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """`change` of uint8 images (N, 3, V, V), some at a time; floats that come back are rounded to uint8."""

    out = spill.empty(*images.shape, device=images.device)

    def part(which: slice) -> None:
        made = change(images[which])
        out[which] = made.round().clamp(0, 255).byte() if made.is_floating_point() else made

    in_parts(part, len(images), _AT_ONCE)
    return out


def mixed(chosen: Tensor, images: Tensor, others: Tensor) -> Tensor:
    """`images` where the bool (N,) is true, else `others`; uint8 of the same shape."""
    out = spill.empty(*images.shape, device=images.device)

    def part(which: slice) -> None:
        out[which] = torch.where(chosen[which].view(-1, 1, 1, 1), images[which], others[which])

    in_parts(part, len(images), _AT_ONCE)
    return out
