from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from poison_kit import context
from torch import Tensor

from unlearnable.errors import UsageError
from unlearnable.poisons import low_frequency
from unlearnable.poisons.low_frequency import Params
from unlearnable.types import Batch


def one_of_each(classes: int, size: int) -> Batch:
    images = torch.zeros((classes, 3, size, size), dtype=torch.uint8)
    return Batch(tuple(map(str, range(classes))), images, torch.arange(classes))


def scale(frequency: int, size: int) -> float:
    return math.sqrt((1 if frequency == 0 else 2) / size)


def cosine(frequency: int, position: int, size: int) -> float:
    return scale(frequency, size) * math.cos(math.pi * (2 * position + 1) * frequency / (2 * size))


def slow_inverse(coefficients: Tensor, size: int) -> Tensor:
    """Orthonormal inverse DCT by its double sum."""
    n = coefficients.shape[-1]
    out = torch.zeros((3, size, size), dtype=torch.float64)
    for channel, y, x in itertools.product(range(3), range(size), range(size)):
        out[channel, y, x] = sum(
            coefficients[channel, v, u].item() * cosine(v, y, size) * cosine(u, x, size)
            for v, u in itertools.product(range(n), range(n))
        )
    return out


def test_waves_against_a_double_sum() -> None:
    where, params = context(size=8), Params(n=3, scaling="shape")
    state = low_frequency.fit(None, params, where)
    delta = low_frequency.delta(one_of_each(3, 8), state, params, where)
    for label, name in enumerate(where.classes):
        slow = slow_inverse(state["patterns"][name], 8)
        torch.testing.assert_close(delta[label].double(), slow * (8 / 255 / slow.abs().max()), atol=1e-6, rtol=1e-4)
    saturated = low_frequency.delta(one_of_each(3, 8), state, Params(n=3, scaling="sign"), where)
    assert torch.equal(saturated.sign(), torch.where(delta < 0, -1.0, 1.0))
    assert torch.allclose(saturated.abs(), torch.tensor(8 / 255))


@settings(deadline=None, max_examples=20)
@given(st.integers(2, 8), st.integers(8, 48))
def test_all_energy_is_in_the_lowest_frequencies(n: int, size: int) -> None:
    where, params = context(size=size), Params(n=n, scaling="shape")
    delta = low_frequency.delta(one_of_each(3, size), low_frequency.fit(None, params, where), params, where).double()
    matrix = torch.tensor([[cosine(u, x, size) for x in range(size)] for u in range(size)], dtype=torch.float64)
    spectrum = (matrix @ delta @ matrix.T) ** 2
    assert spectrum[:, :, :n, :n].sum() == pytest.approx(spectrum.sum().item(), rel=1e-6)
    assert delta.abs().amax((1, 2, 3)).tolist() == pytest.approx([8 / 255] * 3), "the whole budget is used"


@pytest.mark.parametrize(("n", "classes", "most"), [(2, 10, 0.6), (4, 10, 0.2), (8, 10, 0.1), (2, 100, 0.95)])
def test_classes_differ_even_when_mirrored(n: int, classes: int, most: float) -> None:
    where = context(classes=tuple(f"c{i}" for i in range(classes)))
    patterns = list(low_frequency.fit(None, Params(n=n), where)["patterns"].values())
    odd = (-1.0) ** torch.arange(n)
    for a, b in itertools.combinations(patterns, 2):
        assert max((a * b).sum(), (a * b * odd).sum()) <= most + 1e-4


def test_a_later_class_leaves_the_others_alone() -> None:
    first = low_frequency.fit(None, Params(), context(classes=("cat", "dog")))
    more = low_frequency.extend(first, Params(), context(classes=("ant", "cat", "dog")))
    assert set(more["patterns"]) == {"ant", "cat", "dog"}
    assert all(torch.equal(more["patterns"][name], first["patterns"][name]) for name in first["patterns"])


def test_ranges() -> None:
    with pytest.raises(ValueError, match="n is"):
        Params(n=1)
    with pytest.raises(UsageError, match="do not fit"):
        low_frequency.fit(None, Params(n=16), context(size=8))
