"""Surrogates: networks trained on clean images, on which adversarial perturbations are crafted.

A surrogate is a function of images, labels, architecture and settings; it is kept in the cache under the digest of these,
so that a second run, or another poison, need not train it again. Several processes (`distributed`) train it together; then
their number is part of the digest, and the cache is the first one's.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unlearnable import adversarial, cache, distributed, nets, registry
from unlearnable.device import describe, out_of_memory
from unlearnable.errors import TrainingError, UnlearnableError
from unlearnable.train import SURROGATE, History, Recipe, cross_entropy, learned_little, train
from unlearnable.types import Batch, TrainSurrogate
from unlearnable.version import __version__

_PLAIN = Recipe(epochs=20, batch=128)  # for our own networks, and for those that start from weights
_OURS = ("small", "tiny", "vit_small", "linear")
Weights = dict[str, Tensor]


def trainer(
    held_out: tuple[Tensor, Tensor], classes: int, *, device: torch.device, tell: Callable[[str], None]
) -> TrainSurrogate:
    """A function that trains surrogates; the best epoch is told by accuracy on `held_out` (uint8 images, labels)."""
    chance = torch.bincount(held_out[1], minlength=classes).max().item() / len(held_out[1])

    def train_surrogate(
        data: Batch,
        net: str,
        *,
        number: int = 0,
        epochs: int | None = None,
        milestones: tuple[float, ...] | None = None,
        robust: float = 0.0,
        checkpoints: int = 1,
    ) -> tuple[list[nets.Network], float]:
        recipe = recipe_for(net, len(data), epochs, milestones)
        about = [str(asdict(recipe)), net, _of_file(net), str((number, classes, robust, checkpoints))]
        versions = [__version__, torch.__version__, describe(device)]
        name = cache.digest(*about, *versions, data.images, data.labels, *held_out)
        # the seed is of the content, not of the owner's key: another key finds the same network
        seed, world = int(name[:15], 16), distributed.world()
        if world.size > 1:
            name = cache.digest(name, f"{world.size} processes")
        entry = distributed.shared(lambda: cache.load(name))
        if entry is None:
            entry = _train(data, net, recipe, held_out, classes, seed, device, robust, checkpoints, tell)
            if world.rank == 0:
                cache.save(name, entry)
        else:
            tell(f"surrogate {net}: taken from {cache.folder()}, accuracy {entry['accuracy']:.0%}")
        if learned_little(entry["accuracy"], chance):
            raise TrainingError(
                f"The surrogate {net} reached {entry['accuracy']:.0%} on held-out images; guessing gives {chance:.0%}.",
                "Add images or epochs, name another with --set net=..., or use a method without training: --preset r16.",
            )
        return [_network(net, classes, data, weights, device) for weights in entry["weights"]], entry["accuracy"]

    return train_surrogate


def recipe_for(net: str, images: int, epochs: int | None, milestones: tuple[float, ...] | None) -> Recipe:
    """The paper's for torchvision's networks from scratch, a shorter one for others."""
    asked = registry.network(net)
    recipe = _PLAIN if asked.name in _OURS or asked.weights else SURROGATE
    recipe = replace(recipe, learning_rate=nets.learning_rate(net))
    if milestones is not None:
        recipe = replace(recipe, schedule="steps", milestones=milestones)
    return replace(recipe, epochs=epochs or recipe.epochs, batch=min(recipe.batch, max(16, images // 8)))


def _train(
    data: Batch,
    net: str,
    recipe: Recipe,
    held_out: tuple[Tensor, Tensor],
    classes: int,
    seed: int,
    device: torch.device,
    robust: float,
    checkpoints: int,
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """{"accuracy": on held-out images, "weights": [of every checkpoint]}."""
    images, labels = data.images.to(device), data.labels.to(device)
    test = (held_out[0].to(device), held_out[1].to(device))
    wanted = {max(1, round(recipe.epochs * (i + 1) / checkpoints)) for i in range(checkpoints)}
    kept: list[Weights] = []
    started = time.monotonic()

    def report(epoch: int, history: History) -> None:
        left = (time.monotonic() - started) / epoch * (recipe.epochs - epoch)
        tell(f"surrogate {net}: epoch {epoch}/{recipe.epochs}, accuracy {history.accuracy[-1]:.0%}, {left:.0f} s left")
        if checkpoints > 1 and epoch in wanted:
            kept.append(nets.weights_of(network))

    world = distributed.world()
    while True:
        network = nets.create(net, classes, images.shape[-1], seed)
        objective = adversarial.objective(robust, seed + world.rank) if robust else cross_entropy
        try:
            history = train(
                network,
                images,
                labels,
                recipe,
                seed=seed,
                test=test,
                objective=objective,
                keep_best=checkpoints == 1,
                on_epoch=report,
                world=world,
            )
            break
        except (RuntimeError, MemoryError) as why:
            if not out_of_memory(why):
                raise
            # batch normalisation wants two images; of several processes the others wait in the middle of a step
            if recipe.batch < 4 or world.size > 1:
                raise UnlearnableError(
                    f"The surrogate {net} cannot be trained in this memory, {recipe.batch} images at once.",
                    "Name a smaller one with --set net=small, choose a smaller --size, or another --device.",
                ) from why
            kept.clear()
            recipe = replace(recipe, batch=recipe.batch // 2, learning_rate=recipe.learning_rate / 2)
            tell(f"surrogate {net}: out of memory, beginning again with batches of {recipe.batch}")
    return {"accuracy": history.peak, "weights": kept or [nets.weights_of(network)]}


def _network(net: str, classes: int, data: Batch, weights: Weights, device: torch.device) -> nets.Network:
    network = nets.create(net, classes, data.images.shape[-1], seed=0, weights=False)
    network.load_state_dict(weights)
    return network.to(device).eval()


def _of_file(net: str) -> str:
    """The digest of the weights file that a network is to start from, so that another file is another surrogate."""
    path = Path(registry.network(net).weights)
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
