"""Trains every cell of a plan: a victim on one arm, under one countermeasure, with one seed.

The verifier never learns which poison was used: it sees three sets of pixels, of which one was decoded from the shipped
files.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch

from unlearnable import registry
from unlearnable.defences._job import Job
from unlearnable.device import side_by_side
from unlearnable.train import History
from unlearnable.verification import checks, measure
from unlearnable.verification.evidence import Evidence
from unlearnable.verification.plan import ARMS, Plan

Tell = Callable[[str, int, int], None]  # (what, done, of)


def run(
    plan: Plan, evidence: Evidence, device: torch.device, tell: Tell = lambda what, done, of: None
) -> dict[str, Any]:
    """Trains all cells and returns the document of `verify --json`."""
    tried = {name: (registry.load("defences", module), values) for name, module, values in plan.against}
    cells = plan.cells()
    total, done, lock = len(cells) * plan.recipe.epochs, [0], threading.Lock()

    def one(cell: tuple[str, str, int]) -> History:
        name, arm, seed = cell

        def epoch(number: int, history: History) -> None:
            with lock:
                done[0] += 1
                under = "" if name == "none" else f" under {name}"
                where = f"{arm} arm{under}, seed {seed}, epoch {number}"
                tell(f"victims: {where}: {history.accuracy[-1]:.0%}", done[0], total)

        job = Job(
            images=evidence.arms[arm].to(device),
            labels=evidence.labels.to(device),
            clean=evidence.arms["clean"].to(device),
            test=(evidence.test[0].to(device), evidence.test[1].to(device)),
            classes=evidence.classes,
            victim=plan.victim,
            recipe=plan.recipe,
            seed=seed,
            on_epoch=epoch,
        )
        if name == "none":
            return job.run()
        defence, values = tried[name]
        out: History = defence.victim(job, values)
        return out

    histories = dict(zip(cells, side_by_side(one, cells, device), strict=True))
    return report(plan, evidence, histories, device)


def report(
    plan: Plan, evidence: Evidence, histories: dict[tuple[str, str, int], History], device: torch.device
) -> dict[str, Any]:
    """Histories of every cell -> the document of `verify --json`."""

    def over_seeds(name: str, which: str) -> dict[str, Any]:
        runs = [histories[name, which, seed] for seed in plan.seeds]
        figures = {key: measure.stat([run.figures[key] for run in runs]) for key in runs[0].figures}
        return measure.arm(runs) | ({"figures": figures} if figures else {})

    arms = {which: over_seeds("none", which) for which in ARMS}
    against = {
        name: {which: over_seeds(name, which) for which in ("clean", "protected")} for name, _, _ in plan.against
    }
    # accuracy that clean images of the scraper's own bring is not the release's loss: those have a null of their own
    own = {name for name, module, _ in plan.against if registry.describe("defences", module).facts.get("OWN_CLEAN")}
    release_alone = {name: row for name, row in against.items() if name not in own}
    counts = torch.bincount(evidence.test[1], minlength=evidence.classes)
    chance = counts.max().item() / counts.sum().item()  # always naming the commonest class
    raised = [
        {"name": flag.name, "meaning": flag.value}
        for flag in checks.flags(
            arms=arms,
            chance=chance,
            train_images=len(evidence.labels),
            test_images=len(evidence.test[1]),
            victim=plan.victim,
            surrogate=evidence.surrogate,
            tried=len(release_alone),
            pseudo_labels=evidence.pseudo_labels,
        )
    ]
    test_images = len(evidence.test[1])
    return {
        "protocol": {
            "name": plan.protocol,
            "victim": registry.network(plan.victim).shown,
            **asdict(plan.recipe),
            "milestones": list(plan.recipe.milestones),
            "augment": plan.recipe.augment.replace("_", " "),
            "seeds": list(plan.seeds),
            "train_images": len(evidence.labels),
            "test_images": test_images,
            "image_size": evidence.side,
            "test_set": evidence.test_set,
            "classes": evidence.classes,
            "chance": chance,
            "device": device.type,
        },
        "arms": arms,
        "against": against,
        "worst_case": measure.worst_case(arms, release_alone, test_images),
        "relative_accuracy_drop": measure.relative_drop(
            arms["clean"]["peak"]["runs"], arms["protected"]["peak"]["runs"], test_images
        ),
        "flags": raised,
        "verdict": measure.verdict(arms, chance),
    }


def under_other_labels(document: dict[str, Any], other: dict[str, Any]) -> None:
    """Adds a verification under an independent labelling: the weaker of the two is the worst case, and flags are shared."""
    document["independent_labels"] = other["arms"]
    known = {flag["name"] for flag in document["flags"]}
    document["flags"] += [flag for flag in other["flags"] if flag["name"] not in known]
    worst, theirs = document["worst_case"], other["worst_case"]
    if theirs["relative_accuracy_drop"]["low"] < worst["relative_accuracy_drop"]["low"]:
        words = f"Under another labelling of the same images a network peaked at {theirs['peak']:.0%}."
        document["worst_case"] = theirs | {"against": "other labels", "words": words}
