"""What a verification will train, stated before it starts: protocol, victims, countermeasures, seeds, and how long it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

from unlearnable import params as parameters
from unlearnable import registry
from unlearnable.errors import UsageError
from unlearnable.train import Recipe
from unlearnable.verification import protocols

ARMS = ("clean", "noise", "protected")
NONE = "none"  # no countermeasure


@dataclass(frozen=True)
class Cell:
    """One training. against: a preset, or NONE."""

    victim: str
    against: str
    arm: str
    seed: int


@dataclass(frozen=True)
class Plan:
    """One verification. `against` holds (preset, defence, its Params); `others` are networks beside the headline's."""

    protocol: str
    victim: str
    recipe: Recipe
    seeds: tuple[int, ...]
    against: tuple[tuple[str, str, Any], ...]
    others: tuple[tuple[str, float], ...] = ()  # (network, learning rate)
    diagnose: bool = False  # networks of the clean arm also say what they make of the other arms' images

    @property
    def victims(self) -> tuple[str, ...]:
        return (self.victim, *(name for name, _ in self.others))

    def recipe_of(self, victim: str) -> Recipe:
        rates = {self.victim: self.recipe.learning_rate, **dict(self.others)}
        return replace(self.recipe, learning_rate=rates[victim])

    def cells(self) -> list[Cell]:
        """Every training: for each victim all arms without a countermeasure, then clean and protected under each."""
        out = []
        for victim in self.victims:
            out += [Cell(victim, NONE, arm, seed) for seed in self.seeds for arm in ARMS]
            for name, _, _ in self.against:
                out += [Cell(victim, name, arm, seed) for seed in self.seeds for arm in ("clean", "protected")]
        return out

    def cost(self, cell: Cell) -> float:
        """The time of a cell in plain trainings of its victim."""
        module = next((module for name, module, _ in self.against if name == cell.against), None)
        return float(registry.describe("defences", module).facts["COST"]) if module else 1.0

    def work(self, cells: Sequence[Cell]) -> float:
        """The time of cells in epochs of plain training."""
        return sum(self.cost(cell) for cell in cells) * self.recipe.epochs


def most_images(protocol: str) -> tuple[int, int]:
    """Training and test images at most: a quick verdict is read on a part."""
    found = protocols.find(protocol)
    return found.train_images, found.test_images


def make(
    protocol: str,
    train_images: int,
    *,
    photos: bool = False,
    victim: str | None = None,
    seeds: int | None = None,
    against: Sequence[str] = (),
    diagnose: bool = False,
) -> Plan:
    """The plan for a number of training images. `photos`: larger than the victim's input, so trainers crop at random.

    `protocol` is a name or a file; what else is given takes the place of what it says. `victim`: names between commas.
    """
    named = split_names([victim or ""])
    asked = protocols.asked(protocols.find(protocol), named, seeds, tuple(against))
    victims = split_names(asked.victims)
    shown = [registry.network(name).shown for name in victims]
    for name in victims:
        registry.require_network(name)
        if shown.count(registry.network(name).shown) > 1:
            raise UsageError(f"Two victims would both be called {registry.network(name).shown}.", "Rename a file.")
    first, *others = [(name, asked.recipe(name, train_images, photos)) for name in victims]
    return Plan(
        asked.name,
        *first,
        tuple(range(asked.seeds)),
        tuple(defences(asked.against)),
        tuple((name, recipe.learning_rate) for name, recipe in others),
        diagnose,
    )


def split_names(given: Sequence[str]) -> list[str]:
    """ "a,b" and repeated options alike: the names in their order, each once."""
    return list(dict.fromkeys(part.strip() for each in given for part in each.split(",") if part.strip()))


def defences(names: Sequence[str]) -> list[tuple[str, str, Any]]:
    """Countermeasures by preset or name; "cheap" and "all" stand for groups. Raises UsageError for an unknown one."""
    wanted: list[str] = []
    for name in split_names(names):
        if name in ("cheap", "all"):
            known = [registry.describe("defences", module) for module in registry.names("defences")]
            for method in known:
                if find_spec(method.facts.get("NEEDS") or "torch") is None:
                    continue  # an optional library is not installed: named alone, it is refused with the way out
                presets = list(method.presets)
                # a cheap look takes each method's first and strongest preset
                wanted += presets if name == "all" else presets[:1] if method.facts.get("CHEAP") else []
        elif name != NONE:
            wanted.append(name)
    out = []
    for name in dict.fromkeys(wanted):
        module, values = registry.find_preset("defences", name)
        getattr(registry.load("defences", module), "ready", lambda: None)()
        out.append((name, module, parameters.build("defences", module, values)))
    return out
