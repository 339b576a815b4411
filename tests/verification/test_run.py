"""Victims are trained cell by cell, and a release that protects is told from one that does not."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace

import pytest
import torch
from made_pictures import picture

from unlearnable import registry
from unlearnable.defences._job import Job
from unlearnable.errors import UsageError
from unlearnable.train import History, Recipe
from unlearnable.verification import plan, run
from unlearnable.verification.evidence import Evidence

CPU = torch.device("cpu")


def evidence() -> Evidence:
    """Stripes; the protected arm carries a corner patch of its class's colour, which is easier to learn than stripes."""
    pictures = [torch.from_numpy(picture(k, i)).permute(2, 0, 1) for k in range(3) for i in range(40)]
    clean, labels = torch.stack(pictures), torch.arange(3).repeat_interleave(40)
    protected = clean.clone()
    for label in range(3):
        protected[labels == label, :, 2:13, 2:13] = torch.tensor([[255, 0, 0], [0, 255, 0], [0, 0, 255]])[label].byte()[
            :, None, None
        ]
    test = torch.stack([torch.from_numpy(picture(k, 1000 + i)).permute(2, 0, 1) for k in range(3) for i in range(20)])
    arms = {"clean": clean, "noise": clean, "protected": protected}
    return Evidence(arms, labels, (test, torch.arange(3).repeat_interleave(20)), 3, "made up")


def small_plan(**changes: object) -> plan.Plan:
    return replace(plan.make("quick", 120, victim="tiny", **changes), recipe=Recipe(epochs=6, batch=16))  # type: ignore[arg-type]


def test_a_shortcut_lowers_the_protected_arm_and_only_that() -> None:
    document = run.run(small_plan(seeds=2), evidence(), CPU)
    peaks = {name: arm["peak"]["mean"] for name, arm in document["arms"].items()}
    assert peaks["clean"] > 0.8 and peaks["noise"] == peaks["clean"] and peaks["protected"] < 0.6
    assert document["relative_accuracy_drop"]["mean"] == pytest.approx(1 - peaks["protected"] / peaks["clean"])
    assert json.loads(json.dumps(document)) == document, "plain JSON"


def test_the_same_plan_gives_the_same_figures_however_cells_are_scheduled() -> None:
    """Cells run side by side in threads; their figures must not depend on that."""
    short = replace(small_plan(seeds=2), recipe=Recipe(epochs=2, batch=16))
    one = run.run(short, evidence(), CPU)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)  # then cells share the cores, two at a time
        two = run.run(short, evidence(), CPU)
    finally:
        torch.set_num_threads(before)
    assert one["arms"] == two["arms"]


def test_countermeasures_are_tried_on_clean_and_protected() -> None:
    document = run.run(small_plan(seeds=1, against=("grayscale",)), evidence(), CPU)
    assert set(document["against"]) == {"grayscale"} and set(document["against"]["grayscale"]) == {"clean", "protected"}
    assert document["worst_case"]["peak"] == max(
        document["arms"]["protected"]["peak"]["mean"], document["against"]["grayscale"]["protected"]["peak"]["mean"]
    )


def test_what_a_countermeasure_measured_beside_is_stated_over_seeds() -> None:
    short = replace(small_plan(seeds=2, against=("dilution50", "grayscale")), recipe=Recipe(epochs=1, batch=16))
    document = run.run(short, evidence(), CPU)
    rows = document["against"]["dilution50"]
    assert set(rows["protected"]) == {*document["arms"]["clean"], "figures"}
    null = rows["protected"]["figures"]["clean_alone_peak"]
    assert null == rows["clean"]["figures"]["clean_alone_peak"], "the same clean images in both arms"
    assert len(null["runs"]) == 2 and null["mean"] == pytest.approx(sum(null["runs"]) / 2)
    assert "figures" not in document["against"]["grayscale"]["clean"]


def test_accuracy_bought_with_clean_images_is_no_worst_case_of_the_release() -> None:
    document = run.run(small_plan(seeds=1, against=("dilution50",)), evidence(), CPU)
    assert document["against"]["dilution50"]["protected"]["peak"]["mean"] > document["worst_case"]["peak"]
    assert document["worst_case"]["peak"] == document["arms"]["protected"]["peak"]["mean"]
    assert "NO_ADAPTIVE_TRAINER" in {flag["name"] for flag in document["flags"]}


def test_a_countermeasure_gets_the_arm_and_the_originals(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    grayscale = registry.load("defences", "grayscale")

    def victim(job: Job, params: object) -> History:
        seen.append((job.images, job.clean, job.seed))
        return job.run()

    monkeypatch.setattr(grayscale, "victim", victim)
    given = evidence()
    short = replace(small_plan(seeds=1, against=("grayscale",)), recipe=Recipe(epochs=1, batch=16))
    run.run(short, given, CPU)
    (arm, clean, seed), (protected, also_clean, _) = seen
    assert torch.equal(arm, given.arms["clean"]) and torch.equal(protected, given.arms["protected"]) and seed == 0
    assert torch.equal(clean, given.arms["clean"]) and torch.equal(also_clean, given.arms["clean"])


def test_groups_of_countermeasures_expand_and_unknown_ones_are_refused() -> None:
    assert [name for name, _, _ in plan.defences(["cheap"])] == [
        *("bit_depth2", "blur1", "grayscale", "jpeg10", "median3", "projection", "resize50", "shift_jpeg10"),
    ]
    assert len(plan.defences(["all", "jpeg10"])) == len(plan.defences(["all"])) > 25
    assert [name for name, _, _ in plan.defences(["jpeg10, blur1", "jpeg10"])] == ["jpeg10", "blur1"]
    with pytest.raises(UsageError, match="Did you mean 'jpeg10'"):
        plan.defences(["jpg10"])


def test_what_needs_a_library_that_is_absent_is_left_out_of_all_and_refused_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def find_spec(name: str) -> object:
        return None if name == "opacus" else importlib.util.spec_from_loader(name, None)

    monkeypatch.setattr(plan, "find_spec", find_spec)
    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    tried = [name for name, _, _ in plan.defences(["all"])]
    assert "dp_sgd" not in tried and "projection" in tried
    with pytest.raises(UsageError, match=r"pip install 'unlearnable\[dp\]'"):
        plan.defences(["dp_sgd"])


def test_the_plan_follows_the_number_of_images_and_the_protocol() -> None:
    assert plan.make("quick", 10_000).recipe.epochs < plan.make("quick", 1_000).recipe.epochs <= 30
    paper = plan.make("paper", 50_000)
    assert (paper.recipe.epochs, paper.victim, len(paper.seeds)) == (100, "resnet18", 3)
    with pytest.raises(UsageError, match="Did you mean 'resnet18'"):
        plan.make("quick", 1000, victim="resnet81")
