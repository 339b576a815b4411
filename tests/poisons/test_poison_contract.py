"""What holds for every poison, found by its file name."""

from __future__ import annotations

import io
from functools import cache
from typing import Any

import pytest
import torch
from poison_kit import KEY, OTHER_KEYS, context, separable, take
from torch import Tensor

from unlearnable import budget, params, registry
from unlearnable.keys import Key
from unlearnable.types import Batch, Context, State

NAMES = registry.names("poisons")
# (method, parameters) that are tried: every method at its defaults, cut down where it trains
CASES: list[tuple[str, dict[str, Any]]] = [
    ("autoregressive", {}),
    ("autoregressive", {"scaling": "max"}),
    ("clusters", {"net": "linear", "clusters": 3, "epochs": 2, "batch": 12, "noise": "direct"}),
    ("clusters", {"net": "small", "clusters": 2, "epochs": 1, "batch": 24}),
    ("convolution", {}),
    ("convolution", {"kernel": 5}),
    ("cw", {"net": "small", "steps": 3}),
    ("entangled_features", {"net": "small", "steps": 3, "epochs": 4}),
    ("entangled_features", {"net": "small", "steps": 3, "epochs": 4, "goal": "pull"}),
    ("error_min", {"net": "small", "rounds": 2, "train_steps": 2, "steps": 2, "batch": 16}),
    ("error_min", {"net": "small", "rounds": 2, "train_steps": 2, "level": "class", "batch": 16}),
    ("fgsm", {"net": "small"}),
    ("gradient_alignment", {"net": "small", "steps": 1}),
    ("functional", {"net": "small", "steps": 3, "targeted": True}),
    ("functional", {"net": "small", "steps": 2, "parts": "c", "targeted": True}),
    ("grating", {}),
    ("grating", {"low": 3.0, "high": 8.0, "colour": "any", "waves": 2, "octaves": 1, "crops": True, "softness": 0.5}),
    ("grating", {"jitter": 1.0}),
    ("in_phase", {}),
    ("in_phase", {"blue": True}),
    ("hypocritical", {"net": "small", "steps": 3}),
    ("linear_separable", {}),
    ("linear_separable", {"rms": 3.0, "patches": 3}),
    ("low_frequency", {}),
    ("low_frequency", {"n": 2, "scaling": "shape"}),
    ("mi_fgsm", {"net": "small", "steps": 3}),
    ("mix", {}),
    ("mix", {"first": "spectral:width=2", "second": "grating:low=5", "share": 0.25}),
    ("one_pixel", {}),
    ("one_pixel", {"pixels": 3}),
    ("random_noise", {}),
    ("random_noise", {"level": "class"}),
    ("regions", {}),
    ("regions", {"count": 2}),
    ("regions", {"count": 1024}),
    ("robust_error_min", {"net": "linear", "iterations": 4, "batch": 12, "steps": 3, "samples": 2, "attack_steps": 2}),
    (
        "robust_error_min",
        {"net": "small", "iterations": 4, "steps": 3, "samples": 0, "robust": False, "attacker": "before"},
    ),
    ("self_ensemble", {"net": "small", "steps": 2, "checkpoints": 3, "epochs": 6}),
    ("spectral", {}),
    ("spectral", {"colour": "opponent", "waves": 2, "octaves": 1, "crops": True, "softness": 0.5, "width": 2.0}),
    ("spectral", {"colour": "any", "duty": 0.3}),
    ("targeted", {"net": "small", "steps": 3, "batch": 16}),
    ("targeted", {"net": "small", "steps": 2, "restarts": 2}),
    ("targeted", {"net": "small*2", "steps": 2}),
    ("targeted", {"net": "small+linear", "steps": 2}),
    ("tensorclog", {"net": "small", "steps": 1}),
    ("texture", {}),
    ("texture", {"signs": "block"}),
    ("texture", {"signs": "fixed"}),
    ("untargeted", {"net": "small", "steps": 3}),
]
CASES += [(name, {}) for name in NAMES if name not in {method for method, _ in CASES}]
IDS = [f"{method}-{'-'.join(map(str, values.values()))}".rstrip("-") for method, values in CASES]
every = pytest.mark.parametrize(("method", "values"), CASES, ids=IDS)

DATA = separable(24)


def fit(method: str, values: dict[str, Any], where: Context) -> State:
    chosen = params.build("poisons", method, values)
    module = registry.load("poisons", method)
    state: State = module.fit(DATA if module.TRAINS else None, chosen, where)
    return state


def craft(method: str, values: dict[str, Any], where: Context, state: State, batch: Batch) -> Tensor:
    out: Tensor = registry.load("poisons", method).delta(batch, state, params.build("poisons", method, values), where)
    return out


@cache
def crafted(number: int, key: Key = KEY) -> tuple[State, Tensor]:
    method, values = CASES[number]
    state = fit(method, values, context(key=key))
    return state, craft(method, values, context(key=key), state, DATA)


@every
def test_delta_is_finite_and_within_the_budget(method: str, values: dict[str, Any]) -> None:
    _, delta = crafted(CASES.index((method, values)))
    assert delta.shape == DATA.images.shape and delta.is_floating_point() and not delta.requires_grad
    assert delta.isfinite().all()
    assert delta.abs().max() <= 8 / 255 + 1e-6, "the caller projects, but a poison that needs it wastes its budget"
    for image, found in zip(DATA.images, delta, strict=True):
        clean = image.permute(1, 2, 0).numpy()
        steps = budget.protect(found, clean, 8).astype(int) - clean
        assert abs(steps).max() <= 8 and steps.any()
    assert (delta > 0).any() and (delta < 0).any(), "noise is signed"


@every
def test_same_key_same_bytes_and_another_key_others(method: str, values: dict[str, Any]) -> None:
    _, delta = crafted(CASES.index((method, values)))
    again = fit(method, values, context())
    assert torch.equal(craft(method, values, context(), again, DATA), delta)
    keyed = registry.describe("poisons", method).facts.get("KEYED", True)  # else it follows from the images alone
    # three classes have two derangements: two keys may well draw the same one, four others hardly
    others = (crafted(CASES.index((method, values)), key)[1] for key in OTHER_KEYS)
    assert any(not torch.equal(other, delta) for other in others) is keyed


@every
def test_state_survives_a_file(method: str, values: dict[str, Any]) -> None:
    state, delta = crafted(CASES.index((method, values)))
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    assert torch.equal(craft(method, values, context(), torch.load(file, weights_only=True), DATA), delta)


@every
def test_order_and_size_of_batches_do_not_matter(method: str, values: dict[str, Any]) -> None:
    state, delta = crafted(CASES.index((method, values)))
    order = torch.randperm(len(DATA), generator=torch.Generator().manual_seed(3)).tolist()
    parts = [order[:7], order[7:8], order[8:]]
    shuffled = torch.cat([craft(method, values, context(), state, take(DATA, part)) for part in parts])
    if not registry.describe("poisons", method).facts["TRAINS"]:
        assert torch.equal(shuffled, delta[order])
    else:  # crafted: sums of another order may turn the sign of a gradient that is next to nothing
        assert ((shuffled - delta[order]).abs() > 0.5 / 255).float().mean() < 0.05


@pytest.mark.parametrize("name", [n for n in NAMES if not registry.describe("poisons", n).facts["NEEDS_LABELS"]])
def test_labels_are_needed_only_where_it_says_so(name: str) -> None:
    number = next(number for number, (method, _) in enumerate(CASES) if method == name)
    state, delta = crafted(number)
    blind = Batch(DATA.ids, DATA.images, torch.zeros_like(DATA.labels))
    assert torch.equal(craft(*CASES[number], context(), state, blind), delta)


@every
def test_classes_are_known_by_name(method: str, values: dict[str, Any]) -> None:
    state, delta = crafted(CASES.index((method, values)))
    turned = context(classes=("cat", "ant", "bee"))
    renamed = Batch(DATA.ids, DATA.images, (DATA.labels + 1) % 3)
    assert torch.equal(craft(method, values, turned, state, renamed), delta)


@pytest.mark.parametrize("name", NAMES)
def test_classes_are_counted_and_not_ten(name: str) -> None:
    classes = tuple(f"class {number}" for number in range(12))
    method, values = next(case for case in CASES if case[0] == name)
    data, where = separable(36, classes=12, size=8), context(classes=classes, size=8)
    module, chosen = registry.load("poisons", method), params.build("poisons", method, values)
    delta = module.delta(data, module.fit(data if module.TRAINS else None, chosen, where), chosen, where)
    assert delta.shape == data.images.shape and delta.isfinite().all() and delta.abs().amax((1, 2, 3)).min() > 0
    if module.NEEDS_LABELS:
        first = delta[:12].flatten(1)
        assert len(torch.unique(first, dim=0)) == 12


@pytest.mark.parametrize("name", NAMES)
def test_what_a_file_says_about_itself(name: str) -> None:
    said = registry.describe("poisons", name)
    assert said.summary.endswith(".") and len(said.summary) < 120
    assert said.params and all(field.help for field in said.params), "every parameter has its help"
    assert {"PAPER", "COST", "LEVEL", "NEEDS_LABELS", "TRAINS"} <= set(said.facts)
    assert said.facts["LEVEL"] in ("class", "sample")
    assert all(said.facts[fact] is not None for fact in said.facts), "literals, readable without importing"
    defaults = registry.load("poisons", name).Params()
    assert {field.name: field.default for field in said.params} == params.as_dict(defaults)
    for preset, values in said.presets.items():
        params.build("poisons", name, values)
        assert registry.find_preset("poisons", preset) == (name, values), "presets of two methods have different names"
    assert "arXiv" in (registry.load("poisons", name).__doc__ or "")
