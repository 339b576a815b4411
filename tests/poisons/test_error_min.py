from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from poison_kit import context, little_memory, separable, take
from torch.nn import functional as F

from unlearnable import nets, train
from unlearnable.distributed import World
from unlearnable.errors import TrainingError, UnlearnableError, UsageError
from unlearnable.nets import Network
from unlearnable.poisons import _noise, _surrogates, error_min
from unlearnable.poisons.error_min import Params
from unlearnable.types import Batch, State

EPS = 8 / 255


def hard(count: int = 60, seed: int = 0) -> Batch:
    """Images without classes: only noise can make them learnable."""
    data = separable(count, contrast=0, seed=seed)
    return replace(data, labels=torch.arange(count) % 3)


QUICK = {"net": "small", "train_steps": 20, "batch": 20, "rounds": 20}


def losses(state: State, batch: Batch, delta: torch.Tensor) -> tuple[float, float]:
    """Of the final network, clean and under the noise."""
    (net,) = _surrogates.unpack(state, context())
    noisy = (batch.images.float() + (delta * 255).round()).clamp(0, 255).byte()
    return tuple(F.cross_entropy(train.predict(net, x), batch.labels).item() for x in (batch.images, noisy))  # type: ignore[return-value]


@pytest.mark.parametrize("level", ["sample", "class"])
def test_noise_makes_the_loss_small_and_stops_when_it_is(level: str) -> None:
    lines: list[str] = []
    data, params = hard(), Params(**QUICK, level=level)  # type: ignore[arg-type]
    where = context(tell=lines.append)
    state = error_min.fit(data, params, where)
    assert state["converged"] and state["error"] <= 0.01 and state["rounds"] < 20
    assert len(lines) == state["rounds"] and "misread" in lines[-1]
    delta = error_min.delta(data, state, params, where)
    assert delta.abs().max() <= EPS + 1e-6
    assert (delta < -4 / 255).float().mean() > 0.05, "the negative half is not thrown away"
    clean, noisy = losses(state, data, delta)
    assert noisy < 0.2 and noisy < 0.5 * clean


@pytest.mark.parametrize("level", ["sample", "class"])
def test_the_loss_falls_from_round_to_round(level: str) -> None:
    lines: list[str] = []
    small = {"train_steps": 5, "steps": 1, "step": 0.05, "rounds": 6, "stop_error": 0.0}
    state = error_min.fit(hard(), Params(**QUICK | small, level=level), context(tell=lines.append))  # type: ignore[arg-type]
    losses = [float(line.rpartition(" loss ")[2]) for line in lines if "round" in line]
    assert losses[0] == pytest.approx(math.log(3), abs=0.1), "at first the images are as good as noise"
    assert losses == sorted(losses, reverse=True) and losses[-1] < 0.8 * losses[0]
    assert losses[-1] == pytest.approx(state["loss"], abs=1e-3)


def test_images_outside_the_fit_get_noise_too() -> None:
    data, params = hard(), Params(**QUICK)  # type: ignore[arg-type]
    state = error_min.fit(data, params, context())
    later = hard(seed=5)
    assert not set(later.ids) & set(data.ids)
    delta = error_min.delta(later, state, params, context())
    clean, noisy = losses(state, later, delta)
    assert noisy < 0.5 * clean and (delta.abs() > 4 / 255).float().mean() > 0.3
    mixed = Batch(
        data.ids[:3] + later.ids[:3],
        *(torch.cat([getattr(data, k)[:3], getattr(later, k)[:3]]) for k in ("images", "labels")),
    )
    both = error_min.delta(mixed, state, params, context())
    assert torch.equal(both[:3], error_min.delta(take(data, [0, 1, 2]), state, params, context()))
    assert ((both[3:] - delta[:3]).abs() > 0.5 / 255).float().mean() < 0.05


def test_class_noise_depends_on_the_label_alone() -> None:
    data, params = hard(), Params(**{**QUICK, "rounds": 2}, level="class")  # type: ignore[arg-type]
    state = error_min.fit(data, params, context())
    other = replace(separable(9, seed=7), labels=data.labels[:9])
    delta = error_min.delta(other, state, params, context())
    assert torch.equal(delta, error_min.delta(take(data, list(range(9))), state, params, context()))
    assert torch.equal(delta[0], delta[3]) and not torch.equal(delta[0], delta[1])


def test_class_noise_is_searched_on_a_share_of_every_class() -> None:
    data = hard(50)
    noise = error_min._ClassNoise(data, Params(subset=0.2), context())
    assert torch.bincount(data.labels[noise.searched], minlength=3).tolist() == [4, 4, 4]
    assert len(set(noise.searched.tolist())) == 12


def test_one_class_wise_step_is_the_mean_of_the_images_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(error_min, "_CLASS_BATCHES", 1)
    data, where, params = hard(30), context(), Params(net="small", level="class", subset=1.0, batch=30)
    state = error_min.fit(data, replace(params, rounds=1, train_steps=1), where)
    (net,) = _surrogates.unpack(state, where)
    noise = error_min._ClassNoise(data, params, where)
    noise.improve(net)
    for label in range(3):
        images = data.images[data.labels == label].float() / 255
        images.requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = F.cross_entropy(net(images).float(), torch.full((len(images),), label), reduction="sum")
        (gradient,) = torch.autograd.grad(loss, images)
        expected = (-0.1 * EPS * gradient.sign()).mean(0)
        assert ((noise.noise[label] - expected).abs() > 0.1 * EPS * 0.35).float().mean() < 0.02


def test_the_cap_is_told() -> None:
    lines: list[str] = []
    params = Params(**{**QUICK, "rounds": 1, "train_steps": 1}, stop_error=0.0)  # type: ignore[arg-type]
    state = error_min.fit(hard(), params, context(tell=lines.append))
    assert not state["converged"] and state["rounds"] == 1
    assert "stopped after 1 rounds" in lines[-1] and "--set rounds=2" in lines[-1]


def test_a_network_whose_loss_is_no_number_gives_later_images_a_sentence_not_silence() -> None:
    params = Params(net="linear", train_steps=2, batch=12, rounds=1, steps=2)
    state = error_min.fit(hard(12), params, context())
    weights = state["weights"][0]
    state["weights"] = [{**weights, "head.weight": torch.full_like(weights["head.weight"], torch.inf)}]
    later = hard(6, seed=5)
    with pytest.raises(TrainingError, match=rf"error_min: the loss of {later.ids[0]} was not finite"):
        error_min.delta(later, state, params, context())


@pytest.mark.parametrize("level", ["sample", "class"])
def test_a_loss_that_is_no_number_ends_the_fit_with_a_sentence(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Network, "forward", lambda self, x: self.head(self.features(x)) * torch.nan)
    said = {"sample": r"the loss of train/0-0\.png was not finite", "class": r"the loss was nan in round 1\."}[level]
    with pytest.raises(TrainingError, match=f"error_min: {said}"):
        error_min.fit(hard(12), Params(net="linear", train_steps=1, batch=12, steps=1, level=level), context())  # type: ignore[arg-type]


def test_a_loss_that_breaks_after_the_steps_of_the_noise_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(error_min, "_measure", lambda net, noise: (0.5, float("inf")))
    with pytest.raises(TrainingError, match=r"the loss was inf in round 1\. Try another network"):
        error_min.fit(hard(12), Params(net="linear", train_steps=1, batch=12, steps=1), context())


@pytest.mark.parametrize("level", ["sample", "class"])
def test_where_memory_runs_out_it_goes_on_with_fewer_images_to_the_same_noise(
    level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = Params(net="linear", train_steps=3, batch=20, rounds=2, steps=3, level=level, stop_error=0.0)  # type: ignore[arg-type]
    data, later, lines = hard(40), hard(20, seed=5), list[str]()
    state = error_min.fit(data, params, context())
    wanted = [error_min.delta(batch, state, params, context()) for batch in (data, later)]
    little_memory(monkeypatch)
    where = context(tell=lines.append)
    state = error_min.fit(data, params, where)
    found = [error_min.delta(batch, state, params, where) for batch in (data, later)]
    assert "out of memory: going on with 5 images at once" in lines
    assert sum("out of memory" in line for line in lines) <= 8, "what does not fit is remembered"
    for ours, theirs in zip(found, wanted, strict=True):
        assert ((ours - theirs).abs() > 0.5 / 255).float().mean() < 0.02 and theirs.any()


def test_a_network_that_takes_no_image_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    little_memory(monkeypatch, 1)
    with pytest.raises(UnlearnableError, match=r"2 images at once do not fit in the memory.*--set batch="):
        error_min.fit(hard(12), Params(net="linear", batch=12), context())


def test_several_processes_take_no_step_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others would wait for gradients that are sent once for every part."""
    data, net = hard(12), nets.create("linear", 3, 16, 0)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    little_memory(monkeypatch)
    with pytest.raises(UnlearnableError, match="12 images at once do not fit"):
        _noise.learn(net, optimiser, data.images / 255, data.labels, _noise.room(context(), World(0, 2)))
    assert _noise.learn(net, optimiser, data.images / 255, data.labels, _noise.room(context())).isfinite()


def test_class_noise_is_refused_where_a_class_has_no_image() -> None:
    where = context(classes=("ant", "bee", "cat", "dog"))
    with pytest.raises(UsageError, match=r"Class 'dog' has no image .* --preset su"):
        error_min.fit(hard(12), Params(net="linear", level="class"), where)
    quick = Params(net="linear", train_steps=2, batch=12, rounds=1, steps=2)
    assert error_min.fit(hard(12), quick, where)["noise"].any(), "noise of its own needs no class"


@pytest.mark.parametrize("wrong", [{"rounds": 0}, {"stop_error": 1.0}, {"subset": 0.0}, {"level": "x"}, {"steps": -1}])
def test_ranges(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Params(**wrong)
