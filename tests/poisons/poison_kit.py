"""What the tests of poisons share: a tiny set that a small network learns, and a context that trains on it."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from unlearnable import adversarial, nets, train
from unlearnable.keys import Key
from unlearnable.nets import Network
from unlearnable.types import Batch, Context

KEY = Key(bytes(range(32)))
OTHER_KEYS = [Key(bytes(range(start, start + 32))) for start in range(1, 5)]
OTHER_KEY = OTHER_KEYS[0]
CLASSES = ("ant", "bee", "cat")


def separable(count: int, size: int = 16, classes: int = 3, seed: int = 0, contrast: float = 60) -> Batch:
    """Noise around a smooth picture of the class, which differs from the others by up to `contrast` grey levels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    coarse = torch.rand((classes, 3, 4, 4), generator=torch.Generator().manual_seed(99)) * contrast + 120 - contrast / 2
    smooth = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")
    images = smooth[labels] + torch.randn((count, 3, size, size), generator=generator) * 20
    return Batch(tuple(f"train/{seed}-{i}.png" for i in range(count)), images.clamp(0, 255).byte(), labels)


def surrogate(
    data: Batch,
    net: str,
    *,
    number: int = 0,
    epochs: int | None = None,
    milestones: tuple[float, ...] | None = None,
    robust: float = 0.0,
    checkpoints: int = 1,
) -> tuple[list[Network], float]:
    """A train_surrogate: networks that are trained for a few epochs, without a held-out part."""
    network = nets.create(net, int(data.labels.max()) + 1, data.images.shape[-1], seed=1 + number)
    recipe = train.Recipe(epochs=epochs or 12, batch=15, learning_rate=0.05, augment="none")
    objective = adversarial.objective(robust, 3, steps=3) if robust else train.cross_entropy
    kept = []
    train.train(
        network,
        data.images,
        data.labels,
        recipe,
        seed=2 + number,
        objective=objective,
        on_epoch=lambda epoch, history: kept.append(copy.deepcopy(network)),
    )
    chosen = [round(len(kept) * (i + 1) / checkpoints) - 1 for i in range(checkpoints)]
    return [kept[i].eval() for i in chosen], train.accuracy(network, data.images, data.labels)


def cropped(data: Batch, net: str, **rest: Any) -> tuple[list[Network], float]:
    """A train_surrogate that crops and mirrors as the product's do: the other has never seen the border of a crop."""
    network = nets.create(net, int(data.labels.max()) + 1, data.images.shape[-1], seed=1)
    train.train(network, data.images, data.labels, train.Recipe(epochs=20, batch=15, learning_rate=0.05), seed=2)
    return [network.eval()], train.accuracy(network, data.images, data.labels)


def context(**changes: Any) -> Context:
    return replace(Context(KEY, CLASSES, 8, 16, train_surrogate=surrogate), **changes)


def take(batch: Batch, chosen: list[int]) -> Batch:
    return Batch(tuple(batch.ids[i] for i in chosen), batch.images[chosen], batch.labels[chosen])


def little_memory(monkeypatch: pytest.MonkeyPatch, room: int = 8) -> None:
    """No network takes more than `room` images at once from here on."""
    features = Network.features

    def read(net: Network, x: Tensor) -> Tensor:
        if len(x) > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return features(net, x)

    monkeypatch.setattr(Network, "features", read)
