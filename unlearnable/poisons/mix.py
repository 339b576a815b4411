"""Two closed-form protections on top of each other, each with a share of the budget.

What one loses to a countermeasure the other may keep: colour blocks are learned in the first steps and vanish in grayscale,
a grating is learned a little later and does not. After Sandoval-Segura et al. 2022, arXiv 2204.08615: what is learned first
protects. Each has less of the budget than alone, and a scraper who undoes one meets the other at its share.

images: (N, 3, S, S) uint8; labels: (N,) int64; returns (N, 3, S, S) float, inside the budget if both parts are.

Parts are presets of methods that train nothing, with values of their own if need be: grating, r4, grating:low=8:high=16.
Where the budget has few grey levels the shares are rounded to whole ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

from torch import Tensor

from unlearnable import params as parameters
from unlearnable import registry
from unlearnable.types import Batch, Context, State

PAPER = "after Sandoval-Segura et al. 2022, arXiv 2204.08615"
COST = "none"
LEVEL = "sample"
NEEDS_LABELS = True
TRAINS = False
PRESETS: dict[str, dict[str, object]] = {}


@dataclass(frozen=True)
class Params:
    first: str = "grating"
    "preset of one method, PRESET or PRESET:NAME=VALUE:NAME=VALUE"

    second: str = "r4"
    "preset of the other"

    share: float = 0.5
    "share of the budget for the first"

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ValueError(f"share is between 0 and 1, not {self.share}")
        for field, spec in (("first", self.first), ("second", self.second)):
            name = registry.find_preset("poisons", spec.partition(":")[0])[0]
            facts = registry.describe("poisons", name).facts
            if facts["TRAINS"] or facts.get("UNBOUNDED") or name == "mix":
                raise ValueError(f"{field} is a method that trains nothing and keeps to a budget, not {spec}")


def fit(data: Batch | None, params: Params, context: Context) -> State:
    """What both parts find: {"first": state, "second": state}."""
    parts = _parts(params, context)
    return {name: module.fit(data, values, where) for name, (module, values, where) in parts.items()}


def extend(state: State, params: Params, context: Context) -> State:
    """The same with more classes, for both parts."""
    parts = _parts(params, context)
    return {name: module.extend(state[name], values, where) for name, (module, values, where) in parts.items()}


def delta(batch: Batch, state: State, params: Params, context: Context) -> Tensor:
    """The sum of both perturbations, each made for its share."""
    parts = _parts(params, context)
    first, second = (module.delta(batch, state[name], values, where) for name, (module, values, where) in parts.items())
    out: Tensor = first + second
    return out


def _parts(params: Params, context: Context) -> dict[str, tuple[ModuleType, Any, Context]]:
    """Module, parameters and context of each part; one level at least goes to each."""
    levels = min(max(1, round(params.share * context.levels)), max(1, context.levels - 1))
    shares = {"first": levels, "second": max(1, context.levels - levels)}
    out = {}
    for name, spec in (("first", params.first), ("second", params.second)):
        preset, _, values = spec.partition(":")
        method, base = registry.find_preset("poisons", preset)
        given = parameters.parse_assignments(values.split(":")) if values else {}
        built = parameters.build("poisons", method, base | given)
        out[name] = registry.load("poisons", method), built, replace(context, levels=shares[name])
    return out
