"""Fields against a loop over pixels, and the filters that tell classes apart without training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from poison_kit import KEY, context

from unlearnable.errors import UsageError
from unlearnable.poisons import autoregressive
from unlearnable.poisons.autoregressive import Params
from unlearnable.types import Batch, Context, State

TEN = tuple(f"class {i}" for i in range(10))


def blank(labels: list[int], size: int) -> Batch:
    images = torch.zeros((len(labels), 3, size, size), dtype=torch.uint8)
    return Batch(tuple(f"train/{i}.png" for i in range(len(labels))), images, torch.tensor(labels))


@pytest.fixture(scope="module")
def ten() -> tuple[State, Context]:
    where = context(size=32, classes=TEN, levels=255)
    return autoregressive.fit(None, Params(), where), where


@pytest.mark.parametrize("size", [8, 13, 32])
def test_fields_against_loops(size: int) -> None:
    where = context(size=size, levels=255)
    state = autoregressive.fit(None, Params(), where)
    labels = [1, 0, 2]
    for n, found in enumerate(autoregressive.delta(blank(labels, size), state, Params(), where)):
        side = size + 4
        rng = KEY.rng("autoregressive", "image", f"train/{n}.png")
        field = np.zeros((3, side, side))
        for channel, drawn in enumerate(rng.standard_normal((3, 4 * side - 4), np.float32)):
            window = state["windows"][where.classes[labels[n]]][channel].double().numpy()
            field[channel, :2] = drawn[: 2 * side].reshape(2, side)
            field[channel, 2:, :2] = drawn[2 * side :].reshape(-1, 2)
            for y in range(2, side):
                for x in range(2, side):
                    field[channel, y, x] = (window * field[channel, y - 2 : y + 1, x - 2 : x + 1]).sum()
        kept = field[:, 4:, 4:]
        want = kept * size / 32 / np.linalg.norm(kept)
        np.testing.assert_allclose(found.numpy(), want, atol=2e-5 * abs(want).max())


def test_coefficients_sum_to_one_and_leave_the_value_itself_out(ten: tuple[State, Context]) -> None:
    windows = torch.stack(list(ten[0]["windows"].values()))
    assert windows.shape == (10, 3, 3, 3) and (windows[:, :, 2, 2] == 0).all()
    torch.testing.assert_close(windows.sum((2, 3)), torch.ones(10, 3), atol=1e-4, rtol=0)


def test_one_convolution_tells_classes_apart_without_training(ten: tuple[State, Context]) -> None:
    state, where = ten
    labels = torch.arange(200) % 10
    made = autoregressive.delta(blank(labels.tolist(), 32), state, Params(), where)
    answers = autoregressive.responses(made, torch.stack([state["windows"][name] for name in TEN]))
    own = answers[torch.arange(200), labels]
    others = answers[torch.nn.functional.one_hot(labels) == 0]
    assert own.max() < 0.001 < 0.5 < others.min()
    assert torch.equal(answers.argmin(1), labels)
    shipped = (made.clamp(-8 / 255, 8 / 255) * 255).round()
    answers_to_shipped = autoregressive.responses(shipped, torch.stack([state["windows"][name] for name in TEN]))
    assert torch.equal(answers_to_shipped.argmin(1), labels), "clipped and rounded they are still told apart"
    # later classes were chosen by what the filters of earlier ones answer to them
    later = [float(answers[labels == k, :k].mean(0).min()) for k in range(1, 10)]
    assert min(later) > 5


def test_responses_against_loops() -> None:
    generator = torch.Generator().manual_seed(0)
    field = torch.randn((2, 3, 6, 6), generator=generator)
    windows = torch.randn((1, 3, 3, 3), generator=generator)
    found = autoregressive.responses(field, windows)
    for n in range(2):
        total = 0.0
        for y in range(4):
            for x in range(4):
                part = field[n, :, y : y + 3, x : x + 3]
                predicted = (windows[0] * part).sum() - (windows[0, :, 2, 2] * part[:, 2, 2]).sum()
                total += max(0.0, float(predicted - part[:, 2, 2].sum()))
        assert found[n, 0].item() == pytest.approx(total / float(field[n].norm()) * 32 / 6, rel=1e-4)


def test_the_norm_is_as_asked_and_a_budget_clips_it(ten: tuple[State, Context]) -> None:
    state, where = ten
    batch = blank([i % 10 for i in range(50)], 32)
    free = autoregressive.delta(batch, state, Params(l2=1.5), where)
    torch.testing.assert_close(free.flatten(1).norm(dim=1), torch.full((50,), 1.5))
    bound = autoregressive.delta(batch, state, Params(l2=1.5), context(size=32, classes=TEN))
    torch.testing.assert_close(bound, free.clamp(-8 / 255, 8 / 255))
    largest = autoregressive.delta(batch, state, Params(scaling="max"), context(size=32, classes=TEN))
    torch.testing.assert_close(largest.abs().amax((1, 2, 3)), torch.full((50,), 8 / 255))
    ratio = largest / free
    torch.testing.assert_close(ratio, ratio[:, :1, :1, :1].expand_as(ratio), atol=0, rtol=1e-3)


def test_a_large_batch_is_the_same_as_single_images(ten: tuple[State, Context]) -> None:
    state, where = ten
    batch = blank([i * 7 % 10 for i in range(2 * autoregressive._IMAGES + 5)], 32)
    made = autoregressive.delta(batch, state, Params(), where)
    for n in (0, autoregressive._IMAGES - 1, autoregressive._IMAGES, len(batch) - 1):
        one = Batch(batch.ids[n : n + 1], batch.images[n : n + 1], batch.labels[n : n + 1])
        assert torch.equal(autoregressive.delta(one, state, Params(), where)[0], made[n])


def test_large_fields_do_not_run_away() -> None:
    where = context(size=96)
    state = autoregressive.fit(None, Params(), where)
    windows = torch.stack(list(state["windows"].values())).numpy()
    starts = np.random.default_rng(0).standard_normal((90, 4 * 100 - 4), np.float32)
    made = autoregressive.fields(starts, np.tile(windows.reshape(9, 3, 3), (10, 1, 1))).reshape(10, 3, -1)
    assert np.linalg.norm(made, axis=2).max() < 3 * autoregressive._LONGEST * 96 / 32
    wild = windows.copy()
    wild[0, 1, 1, 1] += 5
    kept, _ = autoregressive._calm(wild, 96, np.random.default_rng(0))
    assert (kept != wild[0]).any((1, 2, 3)).all() and len(kept)


def test_classes_can_be_added(ten: tuple[State, Context]) -> None:
    state, where = ten
    first = {"windows": {name: state["windows"][name] for name in TEN[:8]}}
    grown = autoregressive.extend(first, Params(), where)
    assert len(first["windows"]) == 8 and set(grown["windows"]) == set(TEN)
    assert all(torch.equal(grown["windows"][name], window) for name, window in first["windows"].items())
    with pytest.raises(UsageError, match="class 9"):
        autoregressive.delta(blank([9], 32), first, Params(), where)


def test_a_search_without_success_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autoregressive, "_ROUNDS", 2)
    monkeypatch.setattr(autoregressive, "responses", lambda field, windows: torch.zeros(len(field), len(windows)))
    with pytest.raises(UsageError, match="No process for class 'bee' differs enough from those of 1 classes"):
        autoregressive.fit(None, Params(), context())


@pytest.mark.parametrize("wrong", [{"l2": 0.0}, {"l2": 11.0}, {"scaling": "l3"}])
def test_ranges(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Params(**wrong)  # type: ignore[arg-type]
