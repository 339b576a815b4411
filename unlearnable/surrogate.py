"""Surrogates: networks trained on clean images, on which adversarial perturbations are crafted."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from unlearnable import nets
from unlearnable.errors import TrainingError
from unlearnable.train import SURROGATE, History, Recipe, learned_little, train
from unlearnable.types import Batch, TrainSurrogate

_PLAIN = Recipe(epochs=20, batch=128)  # for networks of our own, which need no warm restart from a paper


def trainer(
    held_out: tuple[Tensor, Tensor], classes: int, *, seed: int, device: torch.device, tell: Callable[[str], None]
) -> TrainSurrogate:
    """A function that trains surrogates, stopping early by accuracy on `held_out` (uint8 images at the working size, labels).

    The network it returns is in eval mode with the weights of its best epoch.
    """

    def train_surrogate(data: Batch, net: str, *, epochs: int | None = None) -> tuple[nets.Network, float]:
        recipe = _PLAIN if net == "small" else SURROGATE
        recipe = replace(recipe, epochs=epochs or recipe.epochs, batch=min(recipe.batch, max(16, len(data) // 8)))
        network = nets.create(net, classes, data.images.shape[-1], seed)
        test = (held_out[0].to(device), held_out[1].to(device))
        started = time.monotonic()

        def report(epoch: int, history: History) -> None:
            left = (time.monotonic() - started) / epoch * (recipe.epochs - epoch)
            tell(
                f"surrogate {net}: epoch {epoch}/{recipe.epochs}, accuracy {history.accuracy[-1]:.0%}, {left:.0f} s left"
            )

        history = train(
            network,
            data.images.to(device),
            data.labels.to(device),
            recipe,
            seed=seed,
            test=test,
            keep_best=True,
            on_epoch=report,
        )
        chance = torch.bincount(held_out[1], minlength=classes).max().item() / len(held_out[1])
        if learned_little(history.peak, chance):
            raise TrainingError(
                f"The surrogate {net} reached {history.peak:.0%} on held-out images; guessing gives {chance:.0%}.",
                "Add images or epochs, name another with --set net=..., or use a method without training: --preset r16.",
            )
        return network, history.peak

    return train_surrogate
