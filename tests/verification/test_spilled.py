"""Pictures that fit neither in memory nor on a GPU: the plan says so, and the figures are the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from verification_kit import CPU, brief, evidence

from unlearnable import nets, spill
from unlearnable.defences import projection, shift_jpeg
from unlearnable.defences._job import Job, changed, mixed
from unlearnable.train import Recipe
from unlearnable.verification import prove, run
from unlearnable.verification.cells import Cells
from unlearnable.verification.evidence import Evidence


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(spill, "room", lambda: 1000)
    monkeypatch.setenv("UNLEARNABLE_CACHE", str(tmp_path / "cache"))


def on_disk(given: Evidence) -> Evidence:
    return replace(
        given, arms={arm: spill.take(images, torch.arange(len(images))) for arm, images in given.arms.items()}
    )


def test_figures_from_the_disk_are_those_from_memory(little: None, monkeypatch: pytest.MonkeyPatch) -> None:
    given, plan = evidence(8), replace(brief(against=("jpeg10", "dilution20")), recipe=Recipe(epochs=1, batch=8))
    spilled, seen = on_disk(given), list[bool]()
    batches = Job.run

    def spy(job: Job, **changes: object) -> object:
        images = changes.get("images")
        seen.append(spill.spilled(images if isinstance(images, torch.Tensor) else job.images))
        return batches(job, **changes)  # type: ignore[arg-type]

    monkeypatch.setattr(Job, "run", spy)
    from_disk = run.run(plan, spilled, CPU)
    assert all(seen) and len(seen) > len(plan.cells()), "what countermeasures make of them lies there too"
    monkeypatch.setattr(spill, "room", lambda: 1 << 30)
    assert run.run(plan, given, CPU) == from_disk


MADE = {
    "changed": lambda x: changed(lambda part: 255 - part, x),
    "mixed": lambda x: mixed(torch.arange(len(x)) % 3 == 0, x, x.flip(0)),
    "projected": lambda x: projection.projected(x, x[:2].flatten(1).float()),
    "moved": lambda x: shift_jpeg.moved(x, shift_jpeg.Params(), torch.Generator().manual_seed(0)),
}


@pytest.mark.parametrize("how", MADE)
def test_whole_sets_that_countermeasures_make_lie_there_too(
    how: str, little: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = evidence(3).arms["clean"]
    on_disk = MADE[how](images)
    monkeypatch.setattr(spill, "room", lambda: 1 << 30)
    in_memory = MADE[how](images)
    assert spill.spilled(on_disk) and not spill.spilled(in_memory) and torch.equal(on_disk, in_memory)


def test_the_plan_says_where_pictures_are_read_from(little: None, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, given = brief(), evidence(10)
    found = prove.estimate([(plan, given)], Cells(), CPU)
    size = sum(images.nbytes for images in (*given.arms.values(), given.test[0], given.select[0]))  # type: ignore[index]
    assert found["pictures"] == {"bytes": size, "read_from": "device", "words": ""}
    assert "pictures" not in prove.words(plan, found)
    found = prove.estimate([(plan, on_disk(given))], Cells(), CPU)
    assert found["pictures"]["read_from"] == "disk" and found["seconds"] > 0
    assert prove.words(plan, found).endswith("; 0.0 GB of pictures do not fit in memory: they are read from disk")
    monkeypatch.setattr(spill, "fits", lambda size, device: False)
    assert given.to(torch.device("cuda")) is given
    words = prove._pictures(given, torch.device("cuda"))["words"]
    assert words.endswith("do not fit on the GPU: they are read from memory")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", ["jpeg10", "dilution20", "dfr", "detector", "ueraser"])
def test_what_does_not_fit_on_a_gpu_is_trained_there_all_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, cuda = brief(against=(name,)), torch.device("cuda")
    there = run.run(plan, evidence(20), cuda)
    monkeypatch.setattr(spill, "fits", lambda size, device: False)
    made: list[str] = []
    create = nets.create
    monkeypatch.setattr(nets, "create", lambda *a, **k: made.append(a[0]) or create(*a, **k))
    beside = run.run(plan, evidence(20), cuda)
    assert made
    for arm in there["arms"]:
        assert beside["arms"][arm]["peak"]["mean"] == pytest.approx(there["arms"][arm]["peak"]["mean"], abs=0.2)
