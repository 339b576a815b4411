"""Filtered images against loops over pixels and taps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from poison_kit import context, separable

from unlearnable.errors import UsageError
from unlearnable.poisons import convolution
from unlearnable.poisons.convolution import Params


@pytest.mark.parametrize(("size", "kernel"), [(8, 3), (11, 5), (8, 15)])
def test_filtering_against_loops(size: int, kernel: int) -> None:
    params, where, data = Params(kernel=kernel), context(size=size, levels=255), separable(4, size=size)
    state = convolution.fit(None, params, where)
    edge = kernel // 2
    for n, found in enumerate(convolution.delta(data, state, params, where)):
        taps = state["kernels"][where.classes[n % 3]].tolist()
        clean = data.images[n].double().numpy() / 255
        filtered = np.zeros_like(clean)
        for channel in range(3):
            for y in range(size):
                for x in range(size):
                    for i in range(kernel):
                        for j in range(kernel):
                            row, column = y + i - edge, x + j - edge
                            if 0 <= row < size and 0 <= column < size:
                                filtered[channel, y, x] += taps[i][j] * clean[channel, row, column]
        np.testing.assert_allclose(found.numpy(), filtered / filtered.max() - clean, atol=1e-6)


def test_kernels_are_one_tap_of_one_and_the_rest_small() -> None:
    names = tuple(f"class {i}" for i in range(200))
    kernels = torch.stack(list(convolution.fit(None, Params(), context(classes=names))["kernels"].values()))
    assert ((kernels == 1).sum((1, 2)) == 1).all()
    small = kernels[kernels < 1]
    assert small.min() >= 0 and small.max() <= 0.3 and small.mean().item() == pytest.approx(0.15, rel=0.05)
    assert (kernels == 1).any(0).all(), "any tap may be the one of 1"
    assert len({tuple(k.ravel().tolist()) for k in kernels}) == 200


def test_the_result_is_a_picture_and_black_stays_black() -> None:
    data, where = separable(9), context(levels=255)
    data.images[4] = 0
    delta = convolution.delta(data, convolution.fit(None, Params(), where), Params(), where)
    shipped = data.images.float() / 255 + delta
    assert delta.isfinite().all() and shipped.min() > -1e-6
    assert (delta[4] == 0).all()
    brightest = shipped.amax((1, 2, 3))
    torch.testing.assert_close(brightest[torch.arange(9) != 4], torch.ones(8))


def test_a_budget_cuts_the_change_down() -> None:
    data = separable(6)
    state = convolution.fit(None, Params(), context())
    free = convolution.delta(data, state, Params(), context(levels=255))
    assert free.abs().max() > 0.2
    torch.testing.assert_close(
        convolution.delta(data, state, Params(), context(levels=8)), free.clamp(-8 / 255, 8 / 255)
    )


def test_a_large_batch_is_the_same_as_single_images() -> None:
    data, where = separable(130), context(levels=255)
    state = convolution.fit(None, Params(), where)
    made = convolution.delta(data, state, Params(), where)
    assert 1.05 * convolution._BYTES / (12 * 19**2) < 130, "more than one part"
    single = [
        convolution.convolve(data.images[n : n + 1].numpy(), state["kernels"]["ant"][None].numpy()) for n in (0, 3)
    ]
    for n, filtered in zip((0, 3), single, strict=True):
        want = filtered[0] / filtered.max() - data.images[n].numpy() * np.float32(1 / 255)
        assert np.array_equal(made[n].numpy(), want)


def test_classes_can_be_added() -> None:
    first = convolution.fit(None, Params(), context())
    wider = context(classes=("ant", "bee", "cat", "dog"))
    grown = convolution.extend(first, Params(), wider)
    assert set(grown["kernels"]) == {"ant", "bee", "cat", "dog"} and len(first["kernels"]) == 3
    assert all(torch.equal(grown["kernels"][name], kernel) for name, kernel in first["kernels"].items())
    with pytest.raises(UsageError, match="dog"):
        convolution.delta(separable(4, classes=4), first, Params(), wider)


@pytest.mark.parametrize("wrong", [{"blur": 0.0}, {"blur": 1.5}, {"kernel": 4}, {"kernel": 1}, {"kernel": 17}])
def test_ranges(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Params(**wrong)  # type: ignore[arg-type]
