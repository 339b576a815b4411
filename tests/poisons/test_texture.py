"""Tiled cosines against a pixel loop, and what the signs are for."""

from __future__ import annotations

import math

import pytest
import torch

from unlearnable.errors import UsageError
from unlearnable.keys import Key
from unlearnable.poisons import texture
from unlearnable.types import Batch, Context

KEY = Key(bytes(range(32)))


def context(classes: int = 10, size: int = 32) -> Context:
    return Context(KEY, tuple(f"class {i:02}" for i in range(classes)), 8, size)


def batch(labels: list[int], size: int = 32) -> Batch:
    ids = tuple(f"train/{i}" for i in range(len(labels)))
    return Batch(ids, torch.zeros(len(labels), 3, size, size).byte(), torch.tensor(labels))


@pytest.mark.parametrize("signs", ["fixed", "image", "block"])
def test_blocks_against_loops(signs: str) -> None:
    params, where = texture.Params(signs), context(3, 20)  # type: ignore[arg-type]
    state = texture.fit(None, params, where)
    made = texture.delta(batch([2, 0, 1, 2], 20), state, params, where)
    for n, label in enumerate([2, 0, 1, 2]):
        u, v = state["functions"][f"class {label:02}"].tolist()
        side = {"fixed": 1, "image": 1, "block": 3}[signs]
        turned = KEY.rng("texture", "image", f"train/{n}").integers(0, 2, (1, side, side))[0]
        for row, column in ((0, 0), (3, 9), (8, 7), (19, 18)):
            value = math.cos((2 * (row % 8) + 1) * v * math.pi / 16) * math.cos(
                (2 * (column % 8) + 1) * u * math.pi / 16
            )
            at = (row // 8, column // 8) if signs == "block" else (0, 0)
            sign = 1 if signs == "fixed" or turned[at] else -1
            assert made[n, :, row, column].tolist() == pytest.approx([math.copysign(8 / 255, value * sign)] * 3)


def test_classes_have_the_lowest_functions_each_its_own() -> None:
    found = texture.fit(None, texture.Params(), context())["functions"]
    pairs = {tuple(pair.tolist()) for pair in found.values()}
    lowest = {(u, v) for u in range(4) for v in range(4) if 0 < u + v <= 3}
    assert len(pairs) == 10 and len(pairs & lowest) == 9 and max(sum(pair) for pair in pairs) == 4
    others = texture.fit(None, texture.Params(), Context(Key(bytes(32)), context().classes, 8, 32))["functions"]
    assert any(not torch.equal(found[name], others[name]) for name in found), "the key deals them"


@pytest.mark.parametrize("signs", ["image", "block"])
def test_random_signs_leave_nothing_in_the_mean(signs: str) -> None:
    params, where = texture.Params(signs), context()  # type: ignore[arg-type]
    made = texture.delta(batch([4] * 600), texture.fit(None, params, where), params, where)
    assert made.mean(0).abs().max() < 0.2 * 8 / 255


def test_classes_can_be_added_until_there_are_none_left() -> None:
    params = texture.Params()
    first = texture.fit(None, params, context(4))
    grown = texture.extend(first, params, context(63))
    assert all(torch.equal(grown["functions"][name], value) for name, value in first["functions"].items())
    assert len({tuple(pair.tolist()) for pair in grown["functions"].values()}) == 63
    with pytest.raises(UsageError, match="63 functions"):
        texture.fit(None, params, context(64))
