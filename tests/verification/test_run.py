"""Victims are trained cell by cell, and a release that protects is told from one that does not."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from made_pictures import picture

from unlearnable import registry
from unlearnable.errors import UsageError
from unlearnable.train import Recipe
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
    return replace(plan.make("quick", 120, **changes), recipe=Recipe(epochs=6, batch=16))  # type: ignore[arg-type]


def test_a_shortcut_lowers_the_protected_arm_and_only_that() -> None:
    document = run.run(small_plan(seeds=2), evidence(), CPU)
    peaks = {name: arm["peak"]["mean"] for name, arm in document["arms"].items()}
    assert peaks["clean"] > 0.8 and peaks["noise"] == peaks["clean"] and peaks["protected"] < 0.6
    assert document["relative_accuracy_drop"]["mean"] == pytest.approx(1 - peaks["protected"] / peaks["clean"])
    assert json.loads(json.dumps(document)) == document, "plain JSON"


def test_the_same_plan_gives_the_same_figures_however_cells_are_scheduled() -> None:
    """Cells run side by side in threads; their figures must not depend on that."""
    one = run.run(small_plan(seeds=2), evidence(), CPU)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)  # then cells share the cores, two at a time
        two = run.run(small_plan(seeds=2), evidence(), CPU)
    finally:
        torch.set_num_threads(before)
    assert one["arms"] == two["arms"]


def test_countermeasures_are_tried_on_clean_and_protected() -> None:
    document = run.run(small_plan(seeds=1, against=("grayscale",)), evidence(), CPU)
    assert set(document["against"]) == {"grayscale"} and set(document["against"]["grayscale"]) == {"clean", "protected"}
    assert document["worst_case"]["peak"] == max(
        document["arms"]["protected"]["peak"]["mean"], document["against"]["grayscale"]["protected"]["peak"]["mean"]
    )


@pytest.mark.parametrize("name", registry.names("defences"))
def test_every_countermeasure_keeps_shape_and_type_and_changes_something(name: str) -> None:
    x = evidence().arms["clean"]
    module = registry.load("defences", name)
    out = module.training_images(x, module.Params())
    assert out.shape == x.shape and out.dtype == torch.uint8 and not torch.equal(out, x)
    assert torch.equal(out, module.training_images(x, module.Params()))


def test_grayscale_is_luma_and_bit_depth_has_four_levels() -> None:
    x = evidence().arms["clean"]
    grey = registry.load("defences", "grayscale")
    out = grey.training_images(x, grey.Params())
    red, green, blue = x[0, :, 3, 4].tolist()
    assert out[0, :, 3, 4].tolist() == [round(0.299 * red + 0.587 * green + 0.114 * blue)] * 3
    depth = registry.load("defences", "bit_depth")
    assert set(depth.training_images(x, depth.Params()).unique().tolist()) <= {0, 64, 128, 192}


def test_groups_of_countermeasures_expand_and_unknown_ones_are_refused() -> None:
    assert [name for name, _, _ in plan.defences(["cheap"])] == ["bit_depth2", "blur1", "grayscale", "jpeg10"]
    assert len(plan.defences(["all", "jpeg10"])) == len(plan.defences(["all"])) > 4
    assert [name for name, _, _ in plan.defences(["jpeg10, blur1", "jpeg10"])] == ["jpeg10", "blur1"]
    with pytest.raises(UsageError, match="Did you mean 'jpeg10'"):
        plan.defences(["jpg10"])


def test_the_plan_follows_the_number_of_images_and_the_protocol() -> None:
    assert plan.quick(10_000).epochs < plan.quick(1_000).epochs <= 30
    paper = plan.make("paper", 50_000)
    assert (paper.recipe.epochs, paper.victim, len(paper.seeds)) == (100, "resnet18", 3)
    with pytest.raises(UsageError, match="Did you mean 'resnet18'"):
        plan.make("quick", 1000, victim="resnet81")
