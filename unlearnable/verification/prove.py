"""The whole verification of one release: says the plan and how long it will take, trains what is missing, reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from unlearnable import nets, registry
from unlearnable.device import at_once, out_of_memory, pick, side_by_side
from unlearnable.options import Options
from unlearnable.study import Study
from unlearnable.train import train
from unlearnable.types import Tell
from unlearnable.verification import evidence as evidence_
from unlearnable.verification import plan as plans
from unlearnable.verification import run
from unlearnable.verification.cells import Cells, missing
from unlearnable.verification.document import protocol, under_other_labels
from unlearnable.verification.evidence import Evidence
from unlearnable.verification.plan import Cell, Plan

_BATCHES, _BATCHES_OF_A_GPU = 4, 40  # that a network is timed on
_TRIED = (2, 4, 8)  # trainings at a time on a GPU
_WORTH = 0.9  # of the time that fewer take: less is within the error of the probe
_READING = 1 / 3  # the time of reading an image in that of learning from it: no backward pass


def prove(
    seen: Evidence,
    options: Options,
    learned: Study,
    kept: Cells,
    tell: Tell,
    *,
    diagnose: bool = False,
    dry_run: bool = False,
) -> dict[str, Any]:
    """The document of `verify --json`. Where there are no labels, victims are trained under a second labelling too.

    dry_run: nothing is trained but for a moment, and the document is {protocol, plan}.
    """
    device = pick(options.device)
    todo = plans.make(
        options.verify,
        len(seen.labels),
        photos=learned.photos,
        victim=options.victim,
        seeds=options.seeds,
        against=options.against,
        diagnose=diagnose,
    )
    jobs = [(todo, seen)]
    if learned.independent is not None:
        plain = replace(todo, against=(), others=(), diagnose=False)
        jobs.append((plain, evidence_.relabelled(seen, learned.independent)))
    expected = estimate(jobs, kept, device)
    tell(f"plan: {words(todo, expected)}", 0, 0)
    if dry_run:
        return {"protocol": protocol(todo, seen, device), "plan": expected}
    documents = [run.run(*job, device, tell, kept, expected["at_once"]) for job in jobs]
    for other in documents[1:]:
        under_other_labels(documents[0], other)
    return documents[0]


def estimate(jobs: list[tuple[Plan, Evidence]], kept: Cells, device: torch.device) -> dict[str, Any]:
    """How much there is to do, how long it takes on this device, and where the pictures are read from.

    {trainings, epochs, kept, seconds_per_epoch, seconds, at_once, pictures: {bytes, read_from, words}}. A few batches of every
    network are timed, as many side by side as will be trained; what is kept takes no time.
    """
    plan, evidence = jobs[0]
    cells = [cell for job, _ in jobs for cell in job.cells()]
    left = [cell for job, seen in jobs for cell in missing(job, seen, device, kept)]
    seconds, workers, each = _quickest(plan, evidence, left, device) if left else (0.0, 1, {})
    return {
        "trainings": len(cells),
        "epochs": plan.work(cells),
        "kept": len(cells) - len(left),
        "seconds_per_epoch": {registry.network(victim).shown: round(value, 4) for victim, value in each.items()},
        "seconds": round(seconds, 1),
        "at_once": workers,
        "pictures": _pictures(evidence, device),
    }


def _quickest(
    plan: Plan, evidence: Evidence, cells: Sequence[Cell], device: torch.device
) -> tuple[float, int, dict[str, float]]:
    """Seconds for the cells, how many at a time, seconds an epoch by victim. A GPU tries more while that is faster."""

    def timed(workers: int) -> tuple[float, int, dict[str, float]]:
        each = {victim: seconds_per_epoch(plan, evidence, victim, workers, device) for victim in plan.victims}
        return sum(plan.work([cell]) * each[cell.victim] for cell in cells) / workers, workers, each

    best = timed(at_once(len(cells), device))
    for workers in _TRIED if device.type == "cuda" else ():
        if workers > len(cells):
            break
        try:
            found = timed(workers)
        except (RuntimeError, MemoryError) as why:
            if not out_of_memory(why):
                raise
            break
        if found[0] > _WORTH * best[0]:
            break
        best = found
    return best


def _pictures(evidence: Evidence, device: torch.device) -> dict[str, Any]:
    """How large they are and where they are read from, said in words where they are not at hand."""
    size, where = evidence.bytes, evidence.where(device)
    without = {
        "device": "",
        "disk": "in memory: they are read from disk",
        "memory": "on the GPU: they are read from memory",
    }
    words = f"{size / 1e9:.1f} GB of pictures do not fit {without[where]}" if without[where] else ""
    return {"bytes": size, "read_from": where, "words": words}


def seconds_per_epoch(plan: Plan, evidence: Evidence, victim: str, workers: int, device: torch.device) -> float:
    """Of plain training, reading the test images included, while `workers` are trained side by side."""
    recipe = replace(plan.recipe_of(victim), epochs=1, learning_rate=1e-6)
    batches = _BATCHES_OF_A_GPU if device.type == "cuda" else _BATCHES
    count = min(len(evidence.labels), batches * recipe.batch)
    images, labels = evidence.arms["clean"][:count], evidence.labels[:count]
    if evidence.where(device) == "device":
        images = images.to(device)

    def probe(number: int) -> float:
        del number
        net = nets.create(victim, evidence.classes, evidence.side, seed=0).to(device)
        train(net, images[: recipe.batch], labels[: recipe.batch], recipe, seed=0, device=device)  # warms up
        return train(net, images, labels, recipe, seed=0, device=device).seconds / count

    each = max(side_by_side(probe, range(workers), device, workers))
    read = len(evidence.test[1]) + (len(evidence.select[1]) if evidence.select else 0)
    return each * (len(evidence.labels) + _READING * read)


def words(plan: Plan, expected: dict[str, Any]) -> str:
    """The plan in a line."""
    against = f", {len(plan.against)} countermeasures" if plan.against else ""
    kept = f", {expected['kept']} of them kept from before" if expected["kept"] else ""
    victims = ", ".join(registry.network(name).shown for name in plan.victims)
    together = f", {expected['at_once']} at a time" if expected["at_once"] > 1 else ""
    reading = f"; {expected['pictures']['words']}" if expected["pictures"]["words"] else ""
    how = f"{victims}; {len(plan.seeds)} seeds, {plan.recipe.epochs} epochs{against}"
    return f"{expected['trainings']} trainings ({how}){kept}{together}, about {duration(expected['seconds'])}{reading}"


def duration(seconds: float) -> str:
    """Rounded as an estimate deserves."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
