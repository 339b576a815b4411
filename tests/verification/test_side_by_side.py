"""Trainings side by side: the figures of one after the other, and no failure costs a neighbour's work."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from verification_kit import CPU, brief, evidence

from unlearnable.defences._job import Job
from unlearnable.device import side_by_side
from unlearnable.errors import TrainingError
from unlearnable.train import History, Recipe
from unlearnable.verification import prove, run
from unlearnable.verification.cells import Cells
from unlearnable.verification.evidence import Evidence
from unlearnable.verification.plan import Cell, Plan

CUDA = torch.device("cuda")


def test_two_at_a_time_find_what_one_after_the_other_does() -> None:
    plan, given = replace(brief(), recipe=Recipe(epochs=1, batch=10)), evidence(10)
    assert run.run(plan, given, CPU, workers=2) == run.run(plan, given, CPU, workers=1)


def test_who_fails_loses_no_neighbours_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, given, kept = replace(brief(seeds=2), recipe=Recipe(epochs=1, batch=10)), evidence(8), Cells(tmp_path)
    both, failed, trained = threading.Barrier(2), threading.Event(), list[Cell]()
    job = run._job

    def meet(plan: Plan, seen: Evidence, cell: Cell, *rest: Any) -> Job:
        trained.append(cell)
        both.wait(timeout=60)
        if cell.arm == "clean":
            failed.set()
            raise TrainingError("The training loss was nan in epoch 1.")
        failed.wait(timeout=60)
        return job(plan, seen, cell, *rest)

    monkeypatch.setattr(run, "_job", meet)
    with pytest.raises(TrainingError, match="nan"):
        run.run(plan, given, CPU, kept=kept, workers=2)
    assert {cell.arm for cell in trained} == {"clean", "noise"} and len(trained) == 2, "no other is begun"
    assert len(list(tmp_path.iterdir())) == 1, "the neighbour was finished and kept"
    monkeypatch.undo()
    assert len(prove.missing(plan, given, CPU, kept)) == len(plan.cells()) - 1


def test_what_does_not_fit_side_by_side_is_trained_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    plan, given, told = replace(brief(), recipe=Recipe(epochs=1, batch=10)), evidence(8), list[str]()
    alone, wanted = threading.Lock(), run.run(replace(brief(), recipe=Recipe(epochs=1, batch=10)), evidence(8), CPU)
    plain = Job.run

    def small(job: Job, **changes: Any) -> History:
        if threading.current_thread() is not threading.main_thread():
            raise torch.OutOfMemoryError("CUDA out of memory")
        with alone:
            return plain(job, **changes)

    monkeypatch.setattr(Job, "run", small)
    assert run.run(plan, given, CPU, lambda what, done, of, failed=0: told.append(what), workers=2) == wanted
    assert told[0] == "out of memory: one training at a time"
    monkeypatch.setattr(Job, "run", lambda job: (_ for _ in ()).throw(torch.OutOfMemoryError("CUDA out of memory")))
    with pytest.raises(torch.OutOfMemoryError):
        run.run(plan, given, CPU, workers=1)


@pytest.mark.parametrize(
    ("rates", "chosen"), [((1, 1, 1, 1), 1), ((1, 1.9, 2.0, 9), 2), ((1, 1.7, 3, 5), 8), ((1, 1.05, 4, 4), 1)]
)
def test_a_gpu_trains_as_many_at_a_time_as_a_probe_finds_faster(
    rates: tuple[float, ...], chosen: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, seen = brief(seeds=3), evidence(2)
    rate = dict(zip((1, 2, 4, 8), rates, strict=True))
    monkeypatch.setattr(prove, "seconds_per_epoch", lambda made, seen, victim, workers, device: workers / rate[workers])
    seconds, workers, each = prove._quickest(plan, seen, plan.cells(), CUDA)
    assert workers == chosen and seconds == pytest.approx(len(plan.cells()) * 2 / rate[chosen])
    assert each == {"tiny": chosen / rate[chosen]}
    assert prove._quickest(plan, seen, plan.cells()[:1], CUDA)[1] == 1

    def full(made: Plan, seen: Evidence, victim: str, workers: int, device: torch.device) -> float:
        if workers > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 1.0

    monkeypatch.setattr(prove, "seconds_per_epoch", full)
    assert prove._quickest(plan, seen, plan.cells(), CUDA)[1] == 2


def test_nothing_is_done_side_by_side_of_nothing() -> None:
    assert side_by_side(abs, [], CPU) == side_by_side(abs, [], CPU, 4) == []


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_streams_of_a_gpu_find_what_one_after_the_other_does() -> None:
    plan, given = brief(seeds=2, against=("cutout", "ueraser")), evidence(20)
    one, four = (run.run(plan, given, CUDA, workers=workers) for workers in (1, 4))
    for arm in one["arms"]:
        assert four["arms"][arm]["peak"]["mean"] == pytest.approx(one["arms"][arm]["peak"]["mean"], abs=0.05)
