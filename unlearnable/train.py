"""The one training loop. Surrogates, victims and the label-free network of `cluster` are all trained here.

Images stay uint8 on the device and are cropped and flipped in batches; convolutions run in bfloat16, channels last. Images
that lie elsewhere, in a file or for want of room in the machine's memory, are read ahead by workers: the same batches in the
same order. The test set is evaluated after every epoch, because a scraper who stops early pays nothing for it.

Several processes (`distributed`) train one network on the batches, and in the steps, of one: each takes its part of every
batch, cropped and flipped as it would have been. All read the test set together and so stop alike.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlearnable import spill
from unlearnable.augment import AUGMENTATIONS, Augment
from unlearnable.device import autocast, in_parts, stopped
from unlearnable.distributed import ALONE, World
from unlearnable.errors import TrainingError
from unlearnable.nets import Network

_READERS = 2  # threads that read batches ahead, where images are not at hand
Objective = Callable[[Network, Tensor, Tensor], Tensor]  # (network, images in [0, 1], labels) -> mean loss


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: SGD with momentum, one learning-rate schedule, one augmentation."""

    epochs: int = 15
    batch: int = 128
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    nesterov: bool = True
    schedule: Literal["one_cycle", "cosine", "steps"] = "one_cycle"
    milestones: tuple[float, ...] = ()  # for "steps": fractions of the epochs after which the rate falls tenfold
    augment: Literal["none", "crop_flip", "resized_crop"] = "crop_flip"


# "Poisons that are learned faster are more effective", the protocol of methods.md section 3.1
PAPER = Recipe(epochs=100, batch=128, schedule="steps", milestones=(0.5,), nesterov=False)
# "Adversarial Examples Make Strong Poisons": the crafting network
SURROGATE = Recipe(epochs=40, batch=128, schedule="steps", milestones=(1 / 2.667, 1 / 1.6, 1 / 1.142))


@dataclass
class History:
    """One training run, epoch by epoch. Accuracies are fractions; seconds leave out the evaluation.

    select: accuracy on the clean images that a trainer would choose the epoch by, where there are any. figures: what a
    countermeasure measured beside, by name.
    """

    train_loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    select: list[float] = field(default_factory=list)
    seconds: float = 0.0
    figures: dict[str, float] = field(default_factory=dict)

    @property
    def peak(self) -> float:
        return max(self.accuracy)

    @property
    def final(self) -> float:
        return self.accuracy[-1]

    @property
    def selected(self) -> float | None:
        """Test accuracy of the first epoch that is best on `select`: what an honest trainer would report."""
        return self.accuracy[self.select.index(max(self.select))] if self.select else None

    def epochs_to(self, loss: float) -> int | None:
        """First epoch (from 1) whose mean training loss is below `loss`, None if there was none."""
        return next((epoch for epoch, value in enumerate(self.train_loss, 1) if value < loss), None)


def learned_little(accuracy: float, chance: float) -> bool:
    """Whether a network is too weak to conclude from: below twice chance, or half-way to perfect where chance is high."""
    return accuracy < min(2 * chance, (1 + chance) / 2)


def cross_entropy(net: Network, images: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(net(images).float(), labels)


def train(
    net: Network,
    images: Tensor,
    labels: Tensor,
    recipe: Recipe,
    *,
    seed: int,
    test: tuple[Tensor, Tensor] | None = None,
    select: tuple[Tensor, Tensor] | None = None,
    objective: Objective = cross_entropy,
    augment: Augment | None = None,
    reshape: Callable[[torch.optim.Optimizer], torch.optim.Optimizer] = lambda optimiser: optimiser,
    keep_best: bool = False,
    on_epoch: Callable[[int, History], None] = lambda epoch, history: None,
    world: World = ALONE,
    device: torch.device | None = None,
) -> History:
    """Trains `net` in place on uint8 images (N, 3, S, S) and int64 labels (N,): on `device`, or where the images are.

    With `test`, its accuracy is recorded after every epoch; `keep_best` then ends with the weights of the best one. With
    `select`, its accuracy is recorded beside.
    `augment` takes the place of the recipe's; `reshape` wraps the optimiser, for those who change the gradients first.
    The processes of `world` each call this with the same, and end with the same network.
    Raises TrainingError when the loss is not finite.
    """
    device = device or images.device
    labels = labels.to(device)
    net.to(device).to(memory_format=torch.channels_last)
    net.normalise_for(images)
    batches = max(1, len(images) // recipe.batch)
    world.require(len(images) // batches)
    trained = world.together(net)
    optimiser, schedule = _optimiser(net, recipe, batches)
    optimiser = reshape(optimiser)
    generator = torch.Generator().manual_seed(seed)
    augment = augment or AUGMENTATIONS[recipe.augment]
    history, best = History(), -1.0
    weights: dict[str, Tensor] = {}
    for epoch in range(1, recipe.epochs + 1):
        started, total = time.monotonic(), torch.zeros((), device=device)
        net.train()
        for chosen, batch in _batches(images, batches, generator, device):
            mine = world.part(len(chosen))
            with autocast(device):
                # crops are drawn for the whole batch, so that every image has the one that it would have had
                loss = objective(trained, augment(batch, generator)[mine], labels[chosen[mine]])
            optimiser.zero_grad(set_to_none=True)
            world.weighed(loss, len(chosen)).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            total += loss.detach() * len(chosen[mine])
        world.agree(net)
        history.train_loss.append(world.total(total).item() / len(images))
        history.seconds += time.monotonic() - started
        if not math.isfinite(history.train_loss[-1]):
            raise TrainingError(f"The training loss was {history.train_loss[-1]} in epoch {epoch}.")
        if test is not None:
            history.accuracy.append(_accuracy(net, *test, world))
            if keep_best and history.accuracy[-1] > best:
                best = history.accuracy[-1]
                weights = {name: value.detach().clone() for name, value in net.state_dict().items()}
        if select is not None:
            history.select.append(_accuracy(net, *select, world))
        on_epoch(epoch, history)
    if weights:
        net.load_state_dict(weights)
    net.eval()
    return history


def _batches(
    images: Tensor, count: int, generator: torch.Generator, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Positions and images of `count` batches, on the device; every image once. Raises TrainingError when it is given up.

    They are of nearly equal size: no remainder of one to upset batch normalisation.
    """
    order = torch.randperm(len(images), generator=generator).tensor_split(count)
    at_hand = images.device.type == device.type and not spill.spilled(images)

    def read(chosen: Tensor) -> Tensor:
        batch = images[chosen]
        return batch.pin_memory() if device.type == "cuda" else batch

    found = (images[here.to(device)] for here in order) if at_hand else spill.ahead(read, order, _READERS)
    for chosen, batch in zip(order, found, strict=True):
        if stopped():
            raise TrainingError("The training was given up.")
        yield chosen.to(device), batch.to(device, non_blocking=True)


@torch.no_grad()
def predict(net: nn.Module, images: Tensor, batch: int = 500) -> Tensor:
    """(N, K) float logits of uint8 images, in eval mode, where the network is and the images are; its mode is put back.

    batch: how many are read at once; half as many from where memory runs out.
    """
    was_training, device = net.training, next(net.parameters(), images).device
    net.eval()
    with autocast(device):
        parts = in_parts(lambda part: net(images[part].to(device).float() / 255).float(), max(1, len(images)), batch)
    net.train(was_training)
    return torch.cat(parts).to(images.device)


def accuracy(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of uint8 images whose label is read right."""
    return share(predict(net, images).argmax(1) == labels)


def share(right: Tensor) -> float:
    """Of booleans, how many are true; counted, as not every device has float64."""
    return right.sum().item() / len(right)


def _accuracy(net: nn.Module, images: Tensor, labels: Tensor, world: World) -> float:
    """The same, each process reading its part: the very same number in all."""
    if world.size == 1:
        return accuracy(net, images, labels)
    mine = world.part(len(images))
    right = (predict(net, images[mine]).argmax(1) == labels[mine]).sum().to(next(net.parameters()).device)
    return world.total(right).item() / len(images)


def _optimiser(
    net: nn.Module, recipe: Recipe, batches: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    optimiser = torch.optim.SGD(
        net.parameters(),
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=recipe.nesterov,
    )
    steps = recipe.epochs * batches
    rates = torch.optim.lr_scheduler
    if recipe.schedule == "one_cycle":
        warm = max(0.2, 2 / (steps + 1))  # OneCycleLR divides by zero when it has no two steps to warm up in
        return optimiser, rates.OneCycleLR(optimiser, recipe.learning_rate, total_steps=steps + 1, pct_start=warm)
    if recipe.schedule == "cosine":
        return optimiser, rates.CosineAnnealingLR(optimiser, steps)
    falls = [int(recipe.epochs * fraction) * batches for fraction in recipe.milestones]
    return optimiser, rates.MultiStepLR(optimiser, falls)
