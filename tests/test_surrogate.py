"""Surrogates are trained once for a content, and again when anything that matters differs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from poison_kit import separable

from unlearnable import cache, surrogate
from unlearnable.errors import TrainingError, UnlearnableError
from unlearnable.nets import Network
from unlearnable.types import Batch

DATA, HELD = separable(60), separable(30, seed=1)


class Trainings:
    """Counts trainings, runs them in two epochs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count, train = 0, surrogate.train

        def counted(*arguments: Any, **more: Any) -> Any:
            self.count += 1
            return train(*arguments, **more)

        monkeypatch.setattr(surrogate, "train", counted)

    def __call__(self, data: Batch = DATA, net: str = "small", held: Batch = HELD, **more: Any) -> list[Network]:
        self.said: list[str] = []
        make = surrogate.trainer((held.images, held.labels), 3, device=torch.device("cpu"), tell=self.said.append)
        found, self.accuracy = make(data, net, **{"epochs": 10} | more)
        return found


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Trainings:
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    return Trainings(monkeypatch)


def same(a: Network, b: Network) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_a_second_run_takes_it_from_the_cache(trainings: Trainings) -> None:
    (first,) = trainings()
    (second,) = trainings()
    assert trainings.count == 1 and same(first, second) and not second.training
    assert "taken from" in trainings.said[0]


@pytest.mark.parametrize(
    "other",
    [
        {"data": separable(60, seed=5)},
        {"data": replace(DATA, images=DATA.images ^ 1)},
        {"held": separable(30, seed=2)},
        {"number": 1},
        {"epochs": 11},
        {"milestones": (0.5,)},
        {"robust": 2 / 255},
        {"checkpoints": 2},
    ],
    ids=lambda other: next(iter(other)),
)
def test_whatever_matters_makes_another_one(trainings: Trainings, other: dict[str, Any]) -> None:
    (first,) = trainings()
    found = trainings(**other)
    assert trainings.count == 2 and not same(first, found[-1])


def test_a_damaged_entry_is_made_again(trainings: Trainings, tmp_path: Path) -> None:
    (first,) = trainings()
    (entry,) = (tmp_path / "cache").glob("*.pt")
    entry.write_bytes(entry.read_bytes()[:1000])
    (second,) = trainings()
    assert trainings.count == 2 and same(first, second)


def test_the_cache_is_the_owners_alone_and_can_be_turned_off(
    trainings: Trainings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainings()
    (entry,) = (tmp_path / "cache").glob("*.pt")
    assert entry.stat().st_mode & 0o777 == 0o600 and entry.parent.stat().st_mode & 0o777 == 0o700
    monkeypatch.setenv(cache.VARIABLE, "off")
    trainings()
    assert trainings.count == 2 and cache.folder() is None


def test_old_entries_make_room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path))
    for number in range(30):
        cache.save(cache.digest(str(number)), {"accuracy": number})
    assert len(list(tmp_path.iterdir())) == 24
    assert cache.load(cache.digest("29")) == {"accuracy": 29}


def test_checkpoints_are_of_one_training(trainings: Trainings) -> None:
    found = trainings(checkpoints=2)
    (end,) = trainings(checkpoints=1)
    assert trainings.count == 2 and len(found) == 2 and not same(found[0], found[1])
    assert end.training is False


def test_a_robust_surrogate_resists_better(trainings: Trainings) -> None:
    from unlearnable.adversarial import attacked
    from unlearnable.train import accuracy

    data, held = separable(120, contrast=120), separable(60, seed=1, contrast=120)
    resisted = []
    for radius in (0.0, 16 / 255):
        (net,) = trainings(data, held=held, robust=radius, epochs=10)
        generator = torch.Generator().manual_seed(0)
        worst = attacked(net, data.images / 255, data.labels, 8 / 255, 5, generator)
        assert (worst - data.images / 255).abs().max() <= 8 / 255 + 1e-6 and worst.min() >= 0 and worst.max() <= 1
        resisted.append(accuracy(net, (worst * 255).round().byte(), data.labels))
    assert resisted[1] > resisted[0] + 0.1


class SmallMachine:
    """Trainings of more than `room` images at once fail as torch does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int, error: BaseException) -> None:
        self.batches = list[int]()
        train = surrogate.train

        def tried(net: Network, images: Any, labels: Any, recipe: Any, **more: Any) -> Any:
            self.batches.append(recipe.batch)
            if recipe.batch > room:
                raise error
            return train(net, images, labels, recipe, **more)

        monkeypatch.setattr(surrogate, "train", tried)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()], ids=["GPU", "machine"])
def test_too_little_memory_halves_the_batch(
    trainings: Trainings, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    machine = SmallMachine(monkeypatch, 9, error)
    trainings(separable(150))
    assert machine.batches == [18, 9]
    told = [line for line in trainings.said if "out of memory" in line]
    assert len(told) == 1 and told[0].endswith("batches of 9")


def test_a_surrogate_of_which_no_two_images_fit_is_said(trainings: Trainings, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = SmallMachine(monkeypatch, 1, torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(UnlearnableError, match=r"surrogate small cannot be trained in this memory, 2 images") as why:
        trainings()
    assert machine.batches == [16, 8, 4, 2] and "--size" in str(why.value)


def test_other_failures_of_a_training_are_not_taken_for_a_full_memory(
    trainings: Trainings, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = SmallMachine(monkeypatch, 1, RuntimeError("shape mismatch"))
    with pytest.raises(RuntimeError, match="shape mismatch"):
        trainings()
    assert len(machine.batches) == 1


def test_one_that_does_not_learn_stops_with_what_to_do(trainings: Trainings) -> None:
    blind = replace(DATA, images=torch.full_like(DATA.images, 128))
    with pytest.raises(TrainingError, match=r"The surrogate small reached 3\d% on held-out images") as why:
        trainings(blind, held=replace(HELD, images=torch.full_like(HELD.images, 128)))
    assert "r16" in why.value.hint
