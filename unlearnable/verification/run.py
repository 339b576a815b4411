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

from unlearnable import nets, registry
from unlearnable.device import side_by_side
from unlearnable.train import History, train
from unlearnable.verification import checks, measure
from unlearnable.verification.evidence import Evidence
from unlearnable.verification.plan import ARMS, Plan

Tell = Callable[[str, int, int], None]  # (what, done, of)


def run(
    plan: Plan, evidence: Evidence, device: torch.device, tell: Tell = lambda what, done, of: None
) -> dict[str, Any]:
    """Trains all cells and returns the document of `verify --json`."""
    images = {("none", arm): evidence.arms[arm] for arm in ARMS}
    for name, module, values in plan.against:
        defence = registry.load("defences", module)
        for arm in ("clean", "protected"):
            images[name, arm] = defence.training_images(evidence.arms[arm], values)
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

        net = nets.create(plan.victim, evidence.classes, evidence.side, seed)
        test = (evidence.test[0].to(device), evidence.test[1].to(device))
        data, labels = images[name, arm].to(device), evidence.labels.to(device)
        return train(net, data, labels, plan.recipe, seed=seed, test=test, on_epoch=epoch)

    histories = dict(zip(cells, side_by_side(one, cells, device), strict=True))
    return report(plan, evidence, histories, device)


def report(
    plan: Plan, evidence: Evidence, histories: dict[tuple[str, str, int], History], device: torch.device
) -> dict[str, Any]:
    """Histories of every cell -> the document of `verify --json`."""

    def over_seeds(name: str, which: str) -> dict[str, Any]:
        return measure.arm([histories[name, which, seed] for seed in plan.seeds])

    arms = {which: over_seeds("none", which) for which in ARMS}
    against = {
        name: {which: over_seeds(name, which) for which in ("clean", "protected")} for name, _, _ in plan.against
    }
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
            tried=len(plan.against),
            pseudo_labels=evidence.pseudo_labels,
        )
    ]
    test_images = len(evidence.test[1])
    return {
        "protocol": {
            "name": plan.protocol,
            "victim": plan.victim,
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
        "worst_case": measure.worst_case(arms, against, test_images),
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
