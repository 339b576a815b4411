"""`auto`: the method that holds best against what scrapers try first, measured on the owner's own images in a stated time.

Each candidate perturbs the training part in memory; small victims are trained on it as it is, in grey, and compressed by
JPEG at quality 10, which undo most published methods. They are read on the `select` part, which the verdict never sees, and
the worst of the three counts. A candidate is given up as soon as one of them is worse than the best candidate's worst. One
seed is a coarse ruler, so a candidate must beat the first by more than its likely error.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from unlearnable import budget, craft, params, registry
from unlearnable.defences._job import Job
from unlearnable.device import side_by_side
from unlearnable.errors import UnlearnableError, UsageError
from unlearnable.looks import Looks, evenly
from unlearnable.train import History, Recipe, learned_little
from unlearnable.types import Batch, Context, Tell

# (preset, parameters, seconds that must be left to try it); closed-form first: quick, and strong under early stopping
CANDIDATES: tuple[tuple[str, dict[str, Any], float], ...] = (
    ("in_phase", {}, 0),
    ("in_phase_blue", {}, 0),
    ("grating", {}, 0),
    ("grating_photo", {}, 0),
    ("r16", {}, 0),
    ("r4", {}, 0),
    ("lf4", {}, 0),
    ("cu", {"net": "small"}, 180),
)
ANY_CLASSES = "r16"  # has patterns for any number of classes
SCRAPERS = ("none", "grayscale", "jpeg10")
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
    tell: Tell,
) -> Choice:
    """Measures candidates until `seconds` are spent. Parts are looks and labels; context.size is the working size."""
    chosen = evenly(range(len(train_part[0])), _MOST_IMAGES)
    looks, labels = train_part[0].pick(chosen), train_part[1][torch.as_tensor(chosen)]
    recipe = replace(recipe, epochs=min(recipe.epochs, _EPOCHS))
    first = fallback(context, recipe)
    if len(select_part[0]) < _FEW:
        why = f"{len(select_part[0])} images to choose by are too few; {first} holds best of those that were measured for it."
        return Choice(first, {}, why, ())
    test = (select_part[0].images.to(device), select_part[1].to(device))
    job = Job(looks.images, labels.to(device), looks.images, test, len(context.classes), "small", recipe, seed=0)
    started, worsts = time.monotonic(), [1.0]
    candidates = sorted(CANDIDATES, key=lambda candidate: candidate[0] != first)

    def late(needed: float = 0) -> bool:
        return seconds - (time.monotonic() - started) < max(needed, 1)

    def measure(candidate: tuple[str, dict[str, Any], float] | None) -> dict[str, Any]:
        name, values, needed = candidate or ("clean", {}, 0)
        row: dict[str, Any] = {"preset": name, "worst": None, **dict.fromkeys(SCRAPERS), "seconds": 0.0, "note": ""}
        if name not in ("clean", first) and late(needed):
            return row | {"note": "not tried: too little time"}
        begun = time.monotonic()
        try:
            images = perturbed(looks, labels, name, values, context) if candidate else looks.images
        except UnlearnableError as why:  # a method that does not suit this source is a row, not the end
            return row | {"note": str(why)}
        for scraper in SCRAPERS if candidate else SCRAPERS[:1]:
            if scraper != SCRAPERS[0] and late():
                return row | {"note": "not finished: too little time"}
            row[scraper] = _peak(replace(job, images=images.to(device)), scraper)
            row["seconds"] = round(time.monotonic() - begun, 1)
            tell(f"auto: {name} peaks at {row[scraper]:.0%} ({scraper})", 0, 0)
            if candidate and row[scraper] > min(worsts):
                return row | {"note": "given up: another is better"}
        row["worst"] = max(row[scraper] or 0 for scraper in SCRAPERS)
        if candidate:
            worsts.append(row["worst"])
        return row

    # the one to beat is measured before the others, which are given up by it
    clean, best = side_by_side(measure, [None, candidates[0]], device)
    rows = [clean, best, *side_by_side(measure, candidates[1:], device)]
    counts = torch.bincount(select_part[1])
    return _decide(rows, counts.max().item() / counts.sum().item())


def fallback(context: Context, recipe: Recipe) -> str:
    """The candidate that the others have to beat: by whether trainers crop at random, and whether it has enough textures."""
    name = "grating_photo" if recipe.augment == "resized_crop" else "in_phase"
    try:
        craft.fit(craft.resolve(None, name, {}), None, context)
    except UsageError:
        return ANY_CLASSES
    return name


def _peak(job: Job, scraper: str) -> float:
    if scraper == SCRAPERS[0]:
        return job.run().peak
    name, values = registry.find_preset("defences", scraper)
    history: History = registry.load("defences", name).victim(job, params.build("defences", name, values))
    return history.peak


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
    """rows: the clean one, the one to beat, and the others."""
    clean, first, *_ = rows
    measured = {row["preset"]: row["worst"] for row in rows[1:] if row["worst"] is not None}
    evidence, best = tuple(rows), first["preset"]
    if learned_little(clean["worst"], chance):
        return Choice(best, {}, "The victim learned too little from the clean images to choose by.", evidence)
    if best not in measured:
        return Choice(best, {}, f"There was too little time to compare others with {best}: --auto-seconds.", evidence)
    lowest = min(measured, key=lambda preset: measured[preset])
    if measured[lowest] < measured[best] - MARGIN:
        best = lowest
    reason = (
        f"{best} held best, or within {MARGIN:.0%} of it: {measured[best]:.0%} at worst, as it is, in grey or after JPEG-10"
        f" (clean {clean['worst']:.0%})."
    )
    return Choice(best, next(values for name, values, _ in CANDIDATES if name == best), reason, evidence)
