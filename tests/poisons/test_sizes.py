"""Every method at very small and larger working sizes: a perturbation, or one sentence that says why not."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from poison_kit import context, separable
from test_poison_contract import CASES, IDS

from unlearnable import params, registry
from unlearnable.errors import UsageError


@pytest.mark.parametrize("size", [8, 72])
@pytest.mark.parametrize(("method", "values"), CASES, ids=IDS)
def test_a_perturbation_or_a_reason(method: str, values: dict[str, Any], size: int) -> None:
    data, where = separable(9, size=size), context(size=size)
    module = registry.load("poisons", method)
    try:
        chosen = params.build("poisons", method, values)
        state = module.fit(data if module.TRAINS else None, chosen, where)
        delta = module.delta(data, state, chosen, where)
    except UsageError as why:
        assert re.search(rf"\b{size}\b", why.message) and why.hint
        return
    assert delta.shape == data.images.shape and delta.isfinite().all() and bool((delta != 0).any())
    assert delta.abs().max() <= where.eps + 1e-6


@pytest.mark.parametrize("kind", ["black", "white", "grey"])
@pytest.mark.parametrize(("method", "values"), CASES, ids=IDS)
def test_flat_and_grey_pictures_are_no_exception(method: str, values: dict[str, Any], kind: str) -> None:
    data, where = separable(9), context()
    module, chosen = registry.load("poisons", method), params.build("poisons", method, values)
    state = module.fit(data if module.TRAINS else None, chosen, where)
    grey = data.images.float().mean(1, keepdim=True).byte().expand(-1, 3, -1, -1).contiguous()
    flat = {"black": torch.zeros_like(grey), "white": torch.full_like(grey, 255), "grey": grey}[kind]
    data.images.copy_(flat)
    delta = module.delta(data, state, chosen, where)
    assert delta.isfinite().all() and delta.abs().max() <= where.eps + 1e-6
