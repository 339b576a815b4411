"""A mixture is the sum of its parts at their shares, and grows as they do."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from poison_kit import CLASSES, context, separable

from unlearnable.errors import UsageError
from unlearnable.poisons import grating, mix, regions

DATA = separable(12)


@pytest.mark.parametrize(("share", "levels"), [(0.5, (4, 4)), (0.75, (6, 2)), (0.01, (1, 7)), (0.99, (7, 1))])
def test_a_mixture_is_the_sum_of_its_parts(share: float, levels: tuple[int, int]) -> None:
    params, where = mix.Params("grating:high=7", "r4", share), context()
    made = mix.delta(DATA, mix.fit(None, params, where), params, where)
    want = torch.zeros_like(made)
    for module, values, part in ((grating, grating.Params(high=7), levels[0]), (regions, regions.Params(4), levels[1])):
        small = replace(where, levels=part)
        want += module.delta(DATA, module.fit(None, values, small), values, small)  # type: ignore[arg-type]
    assert torch.equal(made, want) and made.abs().max() * 255 == pytest.approx(8)


def test_classes_can_be_added() -> None:
    params = mix.Params()
    first = mix.fit(None, params, context(classes=CLASSES[:2]))
    grown = mix.extend(first, params, context())
    assert torch.equal(grown["second"]["patterns"]["ant"], first["second"]["patterns"]["ant"])
    assert set(grown["first"]["textures"]) == set(CLASSES)


@pytest.mark.parametrize("spec", ["p250", "mix", "cuda"])
def test_parts_train_nothing_and_keep_to_a_budget(spec: str) -> None:
    with pytest.raises(ValueError, match="second is a method that trains nothing"):
        mix.Params(second=spec)


def test_parts_that_do_not_exist_are_refused() -> None:
    with pytest.raises(UsageError, match="no preset called 'gratin'"):
        mix.Params("gratin")
    with pytest.raises(UsageError, match="'lov'"):
        params = mix.Params("grating:lov=3")
        mix.fit(None, params, context())
