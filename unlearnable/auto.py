"""`auto`: the method that measures best on the owner's own images, within a stated time.

Each candidate perturbs the training part in memory; a small victim is trained on it and read on the `select` part, which
the verdict never sees. One seed is a coarse ruler, so a candidate must beat the fallback by more than its likely error.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from unlearnable import budget, craft, nets
from unlearnable.device import side_by_side
from unlearnable.errors import UnlearnableError, UsageError
from unlearnable.looks import Looks, evenly
from unlearnable.train import Recipe, learned_little, train
from unlearnable.types import Batch, Context

FALLBACK = "r16"
# (preset, parameters, seconds that must be left to try it); closed-form first: quick, and strong under early stopping
CANDIDATES: tuple[tuple[str, dict[str, Any], float], ...] = (
    ("r16", {}, 0),
    ("grating", {}, 0),
    ("r4", {}, 0),
    ("grating_photo", {}, 0),
    ("lf4", {}, 0),
    ("cu", {"net": "small"}, 180),
)
MARGIN = 0.03  # two seeds of one setting differ by about this much
_FEW, _MOST_IMAGES, _EPOCHS = 50, 2000, 10


@dataclass(frozen=True)
class Choice:
    """The preset to use, why in one sentence, and one row of evidence a candidate."""

    preset: str
    values: dict[str, Any]
    reason: str
    evidence: tuple[dict[str, Any], ...]


def choose(
    train_part: tuple[Looks, Tensor],
    select_part: tuple[Looks, Tensor],
    context: Context,
    recipe: Recipe,
    *,
    seconds: float,
    device: torch.device,
    tell: Callable[[str, int, int], None],
) -> Choice:
    """Measures candidates until `seconds` are spent. Parts are looks and labels; context.size is the working size."""
    chosen = evenly(range(len(train_part[0])), _MOST_IMAGES)
    looks, labels = train_part[0].pick(chosen), train_part[1][torch.as_tensor(chosen)]
    if len(select_part[0]) < _FEW:
        return Choice(FALLBACK, {}, f"{len(select_part[0])} images to choose by are too few; the fallback is used.", ())
    test = (select_part[0].images.to(device), select_part[1].to(device))
    recipe = replace(recipe, epochs=min(recipe.epochs, _EPOCHS))
    started, spent = time.monotonic(), [0]

    def measure(candidate: tuple[str, dict[str, Any], float] | None) -> dict[str, Any]:
        name, values, needed = candidate or ("clean", {}, 0)
        row: dict[str, Any] = {"preset": name, "peak": None, "final": None, "seconds": 0.0, "note": ""}
        left = seconds - (time.monotonic() - started)
        if name not in ("clean", FALLBACK) and left < max(needed, 1):
            return row | {"note": "not tried: too little time"}
        begun = time.monotonic()
        try:
            images = perturbed(looks, labels, name, values, context) if candidate else looks.images
        except UnlearnableError as why:  # a method that does not suit this source is a row, not the end
            return row | {"note": str(why)}
        net = nets.create("small", len(context.classes), images.shape[-1], seed=0)
        history = train(net, images.to(device), labels.to(device), recipe, seed=0, test=test)
        spent[0] += 1
        tell(f"auto: {name} peaks at {history.peak:.0%}", spent[0], len(CANDIDATES) + 1)
        return row | {"peak": history.peak, "final": history.final, "seconds": round(time.monotonic() - begun, 1)}

    rows = side_by_side(measure, [None, *CANDIDATES], device)
    counts = torch.bincount(select_part[1])
    return _decide(rows, counts.max().item() / counts.sum().item())


def perturbed(looks: Looks, labels: Tensor, preset: str, values: dict[str, Any], context: Context) -> Tensor:
    """Looks with a preset's perturbation, rounded and inside the budget, (N, 3, V, V) uint8.

    Photos are perturbed at their view's size and not at their own: close enough to choose by, much quicker.
    """
    method = craft.resolve(None, preset, values)
    if method.trains and looks.images.shape[-1] != context.size:
        raise UsageError(f"{preset} trains a network, which takes too long on photos to be tried here.")
    data = Batch(tuple(record.id for record in looks.records), looks.images, labels)
    crafter = craft.fit(method, data if method.trains else None, context)
    side = looks.images.shape[-1]
    out = torch.empty_like(looks.images)
    for part in torch.split(torch.arange(len(looks)), 256):
        working = looks.images[part]
        if side != context.size:
            working = torch.nn.functional.interpolate(working.float(), size=context.size).round().byte()
        deltas = crafter.on(tuple(looks.records[i].id for i in part), working, labels[part])
        for i, delta in zip(part.tolist(), deltas, strict=True):
            clean = looks.images[i].permute(1, 2, 0).numpy()
            out[i] = torch.from_numpy(budget.protect(delta, clean, context.levels)).permute(2, 0, 1)
    return out


def _decide(rows: list[dict[str, Any]], chance: float) -> Choice:
    clean, *tried = rows
    measured = {row["preset"]: row["peak"] for row in tried if row["peak"] is not None}
    evidence = tuple(rows)
    if learned_little(clean["peak"], chance) or FALLBACK not in measured:
        return Choice(FALLBACK, {}, "The victim learned too little from the clean images to choose by.", evidence)
    best = min(measured, key=lambda preset: measured[preset])
    if measured[best] > measured[FALLBACK] - MARGIN:
        best = FALLBACK
    reason = f"{best} peaked lowest, or within {MARGIN:.0%} of it: {measured[best]:.0%} (clean {clean['peak']:.0%})."
    return Choice(best, next(values for name, values, _ in CANDIDATES if name == best), reason, evidence)
