"""The whole verification of one release: says the plan and how long it will take, trains what is missing, reports."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from unlearnable import nets, registry
from unlearnable.device import at_once, pick, side_by_side
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
from unlearnable.verification.plan import Plan

_BATCHES = 4  # that a network is timed on
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
    documents = [run.run(*job, device, tell, kept) for job in jobs]
    for other in documents[1:]:
        under_other_labels(documents[0], other)
    return documents[0]


def estimate(jobs: list[tuple[Plan, Evidence]], kept: Cells, device: torch.device) -> dict[str, Any]:
    """{trainings, epochs, kept, seconds_per_epoch, seconds}: how much there is to do, and how long it takes on this device.

    A few batches of every network are timed, as many side by side as will be trained; what is kept takes no time.
    """
    plan, evidence = jobs[0]
    cells = [cell for job, _ in jobs for cell in job.cells()]
    left = [cell for job, seen in jobs for cell in missing(job, seen, device, kept)]
    workers = at_once(len(left), device) if left else 1
    each = {victim: seconds_per_epoch(plan, evidence, victim, workers, device) for victim in plan.victims if left}
    seconds = sum(plan.work([cell]) * each[cell.victim] for cell in left) / workers
    return {
        "trainings": len(cells),
        "epochs": plan.work(cells),
        "kept": len(cells) - len(left),
        "seconds_per_epoch": {registry.network(victim).shown: round(value, 4) for victim, value in each.items()},
        "seconds": round(seconds, 1),
    }


def seconds_per_epoch(plan: Plan, evidence: Evidence, victim: str, workers: int, device: torch.device) -> float:
    """Of plain training, reading the test images included, while `workers` are trained side by side."""
    recipe = replace(plan.recipe_of(victim), epochs=1, learning_rate=1e-6)
    count = min(len(evidence.labels), _BATCHES * recipe.batch)
    images, labels = evidence.arms["clean"][:count].to(device), evidence.labels[:count].to(device)

    def probe(number: int) -> float:
        del number
        net = nets.create(victim, evidence.classes, evidence.side, seed=0).to(device)
        train(net, images[: recipe.batch], labels[: recipe.batch], recipe, seed=0)  # the first batch warms up
        return train(net, images, labels, recipe, seed=0).seconds / count

    each = max(side_by_side(probe, range(workers), device))
    read = len(evidence.test[1]) + (len(evidence.select[1]) if evidence.select else 0)
    return each * (len(evidence.labels) + _READING * read)


def words(plan: Plan, expected: dict[str, Any]) -> str:
    """The plan in a line."""
    against = f", {len(plan.against)} countermeasures" if plan.against else ""
    kept = f", {expected['kept']} of them kept from before" if expected["kept"] else ""
    victims = ", ".join(registry.network(name).shown for name in plan.victims)
    return (
        f"{expected['trainings']} trainings ({victims}; {len(plan.seeds)} seeds, {plan.recipe.epochs} epochs{against}){kept}, "
        f"about {duration(expected['seconds'])}"
    )


def duration(seconds: float) -> str:
    """Rounded as an estimate deserves."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
