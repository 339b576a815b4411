"""What a verification will train, stated before it starts: protocol, victims, countermeasures, seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

from unlearnable import nets, registry
from unlearnable import params as parameters
from unlearnable.errors import UsageError
from unlearnable.train import PAPER, Recipe

PROTOCOLS = ("quick", "paper")
ARMS = ("clean", "noise", "protected")


@dataclass(frozen=True)
class Plan:
    """One verification. `against` holds (preset, defence, its Params)."""

    protocol: str
    victim: str
    recipe: Recipe
    seeds: tuple[int, ...]
    against: tuple[tuple[str, str, Any], ...]

    def cells(self) -> list[tuple[str, str, int]]:
        """(countermeasure, arm, seed) of every training run: all arms without one, then clean and protected under each."""
        plain = [("none", arm, seed) for seed in self.seeds for arm in ARMS]
        tried = [
            (name, arm, seed) for name, _, _ in self.against for seed in self.seeds for arm in ("clean", "protected")
        ]
        return plain + tried


def most_images(protocol: str) -> tuple[int, int]:
    """Training and test images at most: a quick verdict is read on a part."""
    return (10_000, 2_000) if protocol == "quick" else (1_000_000, 100_000)


def make(
    protocol: str,
    train_images: int,
    *,
    photos: bool = False,
    victim: str | None = None,
    seeds: int | None = None,
    against: Sequence[str] = (),
) -> Plan:
    """The plan for a number of training images. `photos`: larger than the victim's input, so trainers crop at random."""
    if protocol not in PROTOCOLS:
        raise UsageError(f"There is no protocol {protocol!r}.", registry.nearest(protocol, list(PROTOCOLS)))
    recipe = PAPER if protocol == "paper" else quick(train_images)
    if photos:
        recipe = Recipe(**{**vars(recipe), "augment": "resized_crop"})
    network = victim or ("resnet18" if protocol == "paper" else "small")
    registry.require_network(network)
    recipe = replace(recipe, learning_rate=min(recipe.learning_rate, nets.learning_rate(network)))
    count = seeds or (3 if protocol == "paper" else 2)
    return Plan(protocol, network, recipe, tuple(range(count)), tuple(defences(against)))


def quick(train_images: int) -> Recipe:
    """10 epochs of 10,000 images, 27 of 1,350, 30 of 1,100 and fewer: a minute or less a run on one core."""
    epochs = min(30, max(10, round(1000 / math.sqrt(max(1, train_images)))))
    batch = 128 if train_images >= 4000 else 64 if train_images >= 400 else 32
    return Recipe(epochs=epochs, batch=batch)


def defences(names: Sequence[str]) -> list[tuple[str, str, Any]]:
    """Countermeasures by preset or name; "cheap" and "all" stand for groups. Raises UsageError for an unknown one."""
    wanted: list[str] = []
    for name in (part.strip() for given in names for part in given.split(",")):
        if name in ("cheap", "all"):
            known = [registry.describe("defences", module) for module in registry.names("defences")]
            for method in known:
                if find_spec(method.facts.get("NEEDS") or "torch") is None:
                    continue  # an optional library is not installed: named alone, it is refused with the way out
                presets = list(method.presets)
                # a cheap look takes each method's first and strongest preset
                wanted += presets if name == "all" else presets[:1] if method.facts.get("CHEAP") else []
        elif name != "none":
            wanted.append(name)
    out = []
    for name in dict.fromkeys(wanted):
        module, values = registry.find_preset("defences", name)
        getattr(registry.load("defences", module), "ready", lambda: None)()
        out.append((name, module, parameters.build("defences", module, values)))
    return out
