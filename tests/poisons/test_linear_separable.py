"""Patches against loops, and a linear model that tells draws apart which it has never seen."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from poison_kit import KEY, context

from unlearnable.errors import UsageError
from unlearnable.poisons import linear_separable
from unlearnable.poisons.linear_separable import Params
from unlearnable.types import Batch

TEN = tuple(f"class {i}" for i in range(10))


def blank(labels: list[int], size: int, first: int = 0) -> Batch:
    ids = tuple(f"train/{first + i}.png" for i in range(len(labels)))
    return Batch(ids, torch.zeros((len(labels), 3, size, size), dtype=torch.uint8), torch.tensor(labels))


@pytest.mark.parametrize(("size", "patches"), [(8, 0), (16, 4), (21, 5), (32, 0)])
def test_draws_against_loops(size: int, patches: int) -> None:
    params, where = Params(patches=patches), context(size=size)
    state = linear_separable.fit(None, params, where)
    labels, side = [2, 0, 1, 0], patches or 4
    for n, found in enumerate(linear_separable.delta(blank(labels, size), state, params, where)):
        cloud = state["clouds"][where.classes[labels[n]]].tolist()
        normal = KEY.rng("linear_separable", "image", f"train/{n}.png").standard_normal(3 * side * side)
        point = [
            sum(z * row[i] for z, row in zip(normal, cloud[:-1], strict=True)) + cloud[-1][i]
            for i in range(3 * side * side)
        ]
        want = np.empty((3, size, size))
        for channel in range(3):
            for y in range(size):
                for x in range(size):
                    want[channel, y, x] = point[channel * side * side + y * side // size * side + x * side // size]
        want *= 6 / 255 * np.sqrt(3 * size * size) / np.sqrt((want**2).sum())
        np.testing.assert_allclose(found.numpy(), np.clip(want, -8 / 255, 8 / 255), atol=1e-6)


def test_a_linear_model_tells_apart_draws_that_it_has_never_seen() -> None:
    where = context(size=32, classes=TEN)
    state = linear_separable.fit(None, Params(), where)
    seen, unseen = blank([i % 10 for i in range(600)], 32), blank([i % 10 for i in range(400)], 32, first=600)

    def features(batch: Batch) -> torch.Tensor:
        patches = linear_separable.delta(batch, state, Params(), where)[:, :, ::8, ::8].flatten(1) * 255
        return torch.cat([patches, torch.ones(len(batch), 1)], 1)

    weights = torch.linalg.lstsq(features(seen), torch.nn.functional.one_hot(seen.labels).float()).solution
    assert torch.equal((features(unseen) @ weights).argmax(1), unseen.labels)


def test_clouds_are_those_of_make_classification() -> None:
    state = linear_separable.fit(None, Params(), context(size=32, classes=TEN))
    clouds = torch.stack(list(state["clouds"].values()))
    assert clouds.shape == (10, 49, 48) and set(clouds[:, -1].abs().ravel().tolist()) == {10.0}
    assert clouds[:, :-1].abs().max() <= 1 and clouds[:, :-1].var().item() == pytest.approx(1 / 3, rel=0.02)
    corners = clouds[:, -1].sign()
    apart = (48 - corners @ corners.T) / 2 + 48 * torch.eye(10)
    assert apart.min() >= 20, "half of the bits is 24"


def test_the_length_is_as_asked_and_only_a_small_budget_clips() -> None:
    batch, params = blank([i % 10 for i in range(200)], 32), Params(rms=6)
    state = linear_separable.fit(None, params, context(size=32, classes=TEN))
    free, bound = (
        linear_separable.delta(batch, state, params, context(size=32, classes=TEN, levels=levels)) * 255
        for levels in (24, 8)
    )
    torch.testing.assert_close(free.square().mean((1, 2, 3)).sqrt(), torch.full((200,), 6.0))
    assert free.abs().max() < 24
    torch.testing.assert_close(bound, free.clamp(-8, 8))
    assert 1 / 10 < (free.abs() > 8).float().mean() < 1 / 5


def test_a_class_may_have_any_number_of_images() -> None:
    where = context(size=16)
    state = linear_separable.fit(None, Params(), where)
    made = linear_separable.delta(blank([0] + [1] * 99, 16), state, Params(), where)
    assert len({tuple(draw.ravel().tolist()) for draw in made}) == 100
    torch.testing.assert_close(made[:1], linear_separable.delta(blank([0], 16), state, Params(), where))


def test_patches_of_small_and_large_images() -> None:
    for size, side in {8: 4, 32: 4, 96: 4, 224: 7}.items():
        state = linear_separable.fit(None, Params(), context(size=size))
        assert state["clouds"]["ant"].shape == (3 * side * side + 1, 3 * side * side)


def test_classes_can_be_added_until_it_is_full() -> None:
    first = linear_separable.fit(None, Params(), context(classes=TEN[:4]))
    grown = linear_separable.extend(first, Params(), context(classes=TEN))
    assert all(torch.equal(grown["clouds"][name], cloud) for name, cloud in first["clouds"].items())
    assert set(first["clouds"]) == set(TEN[:4]) and set(grown["clouds"]) == set(TEN)
    with pytest.raises(UsageError, match="class 9"):
        linear_separable.delta(blank([9], 16), first, Params(), context(classes=TEN))
    with pytest.raises(UsageError, match="1 x 1 patches are too few for 10 classes"):
        linear_separable.fit(None, Params(patches=1), context(classes=TEN))


@pytest.mark.parametrize("wrong", [{"rms": 0}, {"rms": 65}, {"patches": -1}, {"patches": 17}])
def test_ranges(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Params(**wrong)
