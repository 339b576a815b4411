"""A verification that was interrupted goes on where it stopped, and takes nothing from another release or plan."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from verification_kit import CPU, brief, evidence

from unlearnable.train import History
from unlearnable.verification import cells, run
from unlearnable.verification.cells import Cells
from unlearnable.verification.evidence import Evidence
from unlearnable.verification.plan import Cell, Plan


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What is trained, one line an epoch."""
    lines: list[tuple[Any, ...]] = []
    call = run._Progress.__call__

    def spy(self: Any, cell: Cell, epoch: int, history: History) -> None:
        lines.append((cell, epoch))
        call(self, cell, epoch, history)

    monkeypatch.setattr(run._Progress, "__call__", spy)
    return lines


def killed_after(epochs: int) -> Callable[[str, int, int], None]:
    left = [epochs]

    def tell(what: str, done: int, of: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt

    return tell


@pytest.mark.parametrize("threads", [1, 2])
def test_killed_midway_a_rerun_trains_what_is_missing_and_ends_alike(
    threads: int, tmp_path: Path, trained: list[tuple[Any, ...]]
) -> None:
    plan, given, kept = brief(against=("grayscale",)), evidence(20), Cells(tmp_path / "cells")
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)  # two: cells are trained side by side
        whole = run.run(plan, given, CPU)
        trained.clear()
        with pytest.raises(KeyboardInterrupt):
            run.run(plan, given, CPU, killed_after(5), kept)
        finished = {path.stem for path in (tmp_path / "cells").iterdir()}
        assert 1 <= len(finished) < len(plan.cells())
        trained.clear()
        again = run.run(plan, given, CPU, kept=kept)
    finally:
        torch.set_num_threads(before)
    names = cells.names(plan, given, plan.cells(), CPU)
    assert {cell for cell, _ in trained} == {cell for cell, name in names.items() if name not in finished}
    assert json.dumps(again) == json.dumps(whole)
    trained.clear()
    assert run.run(plan, given, CPU, kept=kept) == whole and not trained
    assert run.run(plan, given, CPU, kept=replace(kept, fresh=True)) == whole
    assert len(trained) == 2 * len(plan.cells())


def test_progress_weighs_countermeasures_by_their_cost_and_ends_at_the_whole() -> None:
    told: list[tuple[int, int]] = []
    plan = brief(against=("ueraser",))
    run.run(plan, evidence(10), CPU, lambda what, done, of: told.append((done, of)))
    assert plan.work(plan.cells()) == 2 * (3 + 2 * 5) == told[-1][1]
    assert told[-1][0] == told[-1][1] and [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[5][0] == 6 and told[6][0] == 11, "an epoch under a dear countermeasure counts as five"


def names(plan: Plan, given: Evidence) -> set[str]:
    return set(cells.names(plan, given, plan.cells(), CPU).values())


def one_pixel(images: torch.Tensor) -> torch.Tensor:
    other = images.clone()
    other[3, 1, 2, 5] ^= 1
    return other


CHANGES: dict[str, Callable[[Plan, Evidence], tuple[Plan, Evidence]]] = {
    "epochs": lambda p, e: (replace(p, recipe=replace(p.recipe, epochs=3)), e),
    "victim": lambda p, e: (brief(victim="linear"), e),
    "a clean pixel": lambda p, e: (p, replace(e, arms=e.arms | {"clean": one_pixel(e.arms["clean"])})),
    "a label": lambda p, e: (p, replace(e, labels=e.labels.roll(1))),
    "a test pixel": lambda p, e: (p, replace(e, test=(one_pixel(e.test[0]), e.test[1]))),
    "a test label": lambda p, e: (p, replace(e, test=(e.test[0], e.test[1].roll(1)))),
    "the images to choose by": lambda p, e: (p, replace(e, select=None)),
    "classes": lambda p, e: (p, replace(e, classes=4)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_nothing_is_reused_of_another_plan_or_other_pictures(change: str) -> None:
    plan, given = brief(), evidence(10)
    assert names(plan, given) == names(brief(), evidence(10)), "the same finds all of it"
    assert not names(plan, given) & names(*CHANGES[change](plan, given))


def test_another_release_reuses_the_arms_that_do_not_hold_it() -> None:
    plan, given = brief(seeds=2), evidence(10)
    other = replace(given, arms=given.arms | {"protected": one_pixel(given.arms["protected"])})
    one, two = (cells.names(plan, each, plan.cells(), CPU) for each in (given, other))
    assert {cell.arm for cell in one if one[cell] != two[cell]} == {"protected"}
    asking = replace(plan, diagnose=True)
    one, two = (cells.names(asking, each, plan.cells(), CPU) for each in (given, other))
    assert {cell.arm for cell in one if one[cell] != two[cell]} == {"protected", "clean"}


def test_parameters_of_a_countermeasure_versions_and_weights_are_in_the_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given = evidence(10)
    plan = brief(against=("blur1",))
    blurred = replace(plan, against=tuple((n, m, replace(v, sigma=2.0)) for n, m, v in plan.against))
    assert len(names(plan, given) & names(blurred, given)) == 3, "the arms without a countermeasure"
    before = names(plan, given)
    monkeypatch.setattr(cells, "__version__", "0.0.0")
    assert not before & names(plan, given)
    weights = tmp_path / "w.pt"
    weights.write_bytes(b"one")
    tuned = replace(brief(), victim=f"resnet18@{weights}")
    before = names(tuned, given)
    weights.write_bytes(b"two")
    assert not before & names(tuned, given)


def test_a_damaged_cell_is_trained_again_and_cells_are_the_owners_alone(tmp_path: Path) -> None:
    plan, given, kept = brief(), evidence(10), Cells(tmp_path / "cells")
    whole = run.run(plan, given, CPU, kept=kept)
    paths = sorted((tmp_path / "cells").iterdir())
    assert len(paths) == 3 and all(path.suffix == ".json" for path in paths)
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in paths)
    paths[0].write_text(paths[0].read_text()[:40])
    paths[1].write_text("[]")
    paths[2].write_text('{"history": {"accuracy": []}}')
    assert len(cells.missing(plan, given, CPU, kept)) == 3
    assert run.run(plan, given, CPU, kept=kept) == whole
    assert not cells.missing(plan, given, CPU, kept)


def test_a_folder_that_cannot_be_written_costs_nothing_but_time(tmp_path: Path) -> None:
    (tmp_path / "cells").write_text("a file where the folder should be")
    plan, given = brief(), evidence(10)
    assert run.run(plan, given, CPU, kept=Cells(tmp_path / "cells")) == run.run(plan, given, CPU)
