"""The document of `verify --json`, from the histories of all cells; docs/output.md says what each field means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch

from unlearnable import registry
from unlearnable.train import History
from unlearnable.verification import checks, diagnose, measure, protocols
from unlearnable.verification.evidence import Evidence, duplicates
from unlearnable.verification.plan import ARMS, NONE, Cell, Plan

Histories = Mapping[Cell, History]


def report(plan: Plan, evidence: Evidence, histories: Histories, device: torch.device) -> dict[str, Any]:
    """Histories of every cell -> the document of `verify --json`. The first victim's arms are the headline."""
    test_images, whole_images = len(evidence.test[1]), len(evidence.whole[1]) if evidence.whole else 0
    tables = {
        registry.network(name).shown: _table(plan, histories, name, test_images, whole_images) for name in plan.victims
    }
    first = next(iter(tables.values()))
    arms, against = first["arms"], first["against"]
    chance = _chance(evidence)
    twice = duplicates(evidence)
    raised = checks.flags(
        arms=arms,
        chance=chance,
        train_images=len(evidence.labels),
        test_images=test_images,
        victims=plan.victims,
        surrogate=evidence.surrogate,
        tried=len(_of_the_release_alone(plan, against)),
        pseudo_labels=evidence.pseudo_labels,
        duplicates=twice,
        seeds=protocols.least_seeds(plan.protocol),
    )
    several = len(tables) > 1
    worst = {name: table["worst_case"] for name, table in tables.items()}
    document = {
        "protocol": protocol(plan, evidence, device) | {"chance": chance, "test_duplicates": twice},
        "plan": {"trainings": len(plan.cells()), "epochs": plan.work(plan.cells())},
        "arms": arms,
        "against": against,
        "within_noise": measure.within_noise(arms, against, test_images),
        "worst_case": measure.worst_of(worst) if several else first["worst_case"],
        "relative_accuracy_drop": first["relative_accuracy_drop"],
        "flags": [{"name": flag.name, "meaning": flag.value} for flag in raised],
        "verdict": measure.verdict(arms, chance, test_images),
    }
    document |= {"victims": tables} if several else {}
    return document | ({"diagnosis": diagnose.diagnosis(plan, evidence, histories)} if plan.diagnose else {})


def _chance(evidence: Evidence) -> float:
    """Of always naming the commonest class; of naming any, where the test images are of the protected classes alone."""
    if evidence.whole:
        return 1 / evidence.classes
    counts = torch.bincount(evidence.test[1], minlength=evidence.classes)
    return counts.max().item() / counts.sum().item()


def protocol(plan: Plan, evidence: Evidence, device: torch.device) -> dict[str, Any]:
    """What is trained on what, before any figure is known."""
    recipe = plan.recipe
    beside = {"noise_levels": evidence.noise_levels} if evidence.noise_levels is not None else {}
    if evidence.whole:
        protected = len(torch.unique(evidence.test[1]))
        beside |= {"protected_classes": protected, "test_images_of_all_classes": len(evidence.whole[1])}
    return {
        "name": plan.protocol,
        "victim": registry.network(plan.victim).shown,
        **asdict(recipe),
        "milestones": list(recipe.milestones),
        "augment": recipe.augment.replace("_", " "),
        "seeds": list(plan.seeds),
        "train_images": len(evidence.labels),
        "test_images": len(evidence.test[1]),
        "select_images": len(evidence.select[1]) if evidence.select else 0,
        "image_size": evidence.side,
        "test_set": evidence.test_set,
        "classes": evidence.classes,
        "device": device.type,
    } | beside


def _table(plan: Plan, histories: Histories, victim: str, test_images: int, whole_images: int) -> dict[str, Any]:
    """One victim: its arms, the countermeasures against it, and what follows from them."""

    def over_seeds(name: str, which: str) -> dict[str, Any]:
        runs = [histories[Cell(victim, name, which, seed)] for seed in plan.seeds]
        beside = runs[0].figures if name != NONE else {}  # of plain trainings only a diagnosis asks more
        named = [key for key in beside if not key.startswith(measure.ALL_CLASSES)]
        figures = {key: measure.stat([run.figures[key] for run in runs]) for key in named}
        return measure.arm(runs, test_images, whole_images) | ({"figures": figures} if figures else {})

    arms = {which: over_seeds(NONE, which) for which in ARMS}
    against = {
        name: {which: over_seeds(name, which) for which in ("clean", "protected")} for name, _, _ in plan.against
    }
    spoken = {name: _spoken(name, module, values) for name, module, values in plan.against}
    alone = _of_the_release_alone(plan, against)
    return {
        "arms": arms,
        "against": against,
        "worst_case": measure.worst_case(arms, alone, test_images, spoken),
        "relative_accuracy_drop": measure.relative_drop(
            arms["clean"]["peak"]["runs"], arms["protected"]["peak"]["runs"], test_images
        ),
    }


def _of_the_release_alone(plan: Plan, against: dict[str, Any]) -> dict[str, Any]:
    """Accuracy that clean images of the scraper's own bring is not the release's loss: those have a null of their own."""
    own = {name for name, module, _ in plan.against if registry.describe("defences", module).facts.get("OWN_CLEAN")}
    return {name: row for name, row in against.items() if name not in own}


def _spoken(name: str, module: str, values: Any) -> str:
    """A countermeasure as a sentence names it; one that does not say how is called by its preset."""
    words = registry.describe("defences", module).facts.get("WORDS")
    return str(words).format(**vars(values)) if words else name


def under_other_labels(document: dict[str, Any], other: dict[str, Any]) -> None:
    """Adds a verification under an independent labelling: the weaker of the two is the worst case, and flags are shared."""
    document["independent_labels"] = other["arms"]
    for key, value in other["plan"].items():
        document["plan"][key] += value
    known = {flag["name"] for flag in document["flags"]}
    document["flags"] += [flag for flag in other["flags"] if flag["name"] not in known]
    worst, theirs = document["worst_case"], other["worst_case"]
    if theirs["relative_accuracy_drop"]["low"] < worst["relative_accuracy_drop"]["low"]:
        words = f"Under another labelling of the same images a network peaked at {theirs['peak']:.0%}."
        document["worst_case"] = theirs | {"against": "other labels", "words": words}
