"""What every countermeasure keeps, found by its file name: it repeats itself, changes nothing it is given, states its cost."""

from __future__ import annotations

import importlib.util
import math

import pytest
import torch
from defence_kit import job, patterned, pictures

from unlearnable import params, registry
from unlearnable.train import History

NAMES = registry.names("defences")
PRESETS = [(name, preset) for name in NAMES for preset in registry.describe("defences", name).presets]
QUICK: dict[str, dict[str, int]] = {
    "projection": {"steps": 20},
    "adversarial": {"steps": 2},
    "detector": {"epochs": 1},
    "ueraser": {"draws": 2},
    "purify": {"steps": 4},
}


def load(name: str):  # type: ignore[no-untyped-def]
    needs = registry.describe("defences", name).facts.get("NEEDS")
    if needs and importlib.util.find_spec(needs) is None:
        pytest.skip(f"{needs} is not installed")
    return registry.load("defences", name)


@pytest.mark.parametrize("name", NAMES)
def test_a_countermeasure_repeats_itself_and_leaves_its_inputs_alone(name: str) -> None:
    module = load(name)
    clean, labels = pictures(20)
    protected = patterned(clean, labels)
    made = job(protected, clean, labels)
    values = module.Params(**QUICK.get(name, {}))
    before = [t.clone() for t in (made.images, made.clean, made.labels, *made.test)]
    one, two = (module.victim(made, values) for _ in range(2))
    assert isinstance(one, History) and len(one.accuracy) == len(one.train_loss) >= 2
    assert (one.train_loss, one.accuracy, one.figures) == (two.train_loss, two.accuracy, two.figures)
    assert all(math.isfinite(value) for value in [*one.train_loss, *one.figures.values()])
    assert all(0 <= value <= 1 for value in [*one.accuracy, *one.figures.values()])
    assert one.train_loss != made.run().train_loss, "it changes something"
    after = (made.images, made.clean, made.labels, *made.test)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_the_clean_arm_gets_the_same_treatment(name: str) -> None:
    """One call, with nothing that would tell the arms apart, and a word after every epoch."""
    module = load(name)
    clean, labels = pictures(10)
    told: list[int] = []
    made = job(clean, clean, labels, on_epoch=lambda epoch, history: told.append(len(history.accuracy)))
    history = module.victim(made, module.Params(**QUICK.get(name, {})))
    assert told == [1, 2] and all(math.isfinite(loss) for loss in history.train_loss)


@pytest.mark.parametrize("name", NAMES)
def test_a_countermeasure_states_cost_and_presets(name: str) -> None:
    described = registry.describe("defences", name)
    cost = described.facts["COST"]
    assert isinstance(cost, float) and 1 <= cost <= 50
    assert described.presets and described.summary.endswith(".")
    module = registry.load("defences", name)
    for values in described.presets.values():
        assert params.build("defences", name, values) is not None
    for field in described.params:  # every number has a range
        with pytest.raises(ValueError, match=field.name):
            module.Params(**{field.name: -1})


def test_a_countermeasure_with_clean_images_states_what_they_are_worth_alone() -> None:
    own = [name for name in NAMES if registry.describe("defences", name).facts.get("OWN_CLEAN")]
    assert own == ["detector", "dfr", "dilution", "partial"]
    clean, labels = pictures(20)
    made = job(patterned(clean, labels), clean, labels)
    for name in own:
        figures = load(name).victim(made, load(name).Params(**QUICK.get(name, {}))).figures
        assert {"clean_alone_peak", "clean_alone_final"} <= set(figures)


@pytest.mark.parametrize(
    "name", [name for name in NAMES if not registry.describe("defences", name).facts.get("OWN_CLEAN")]
)
def test_all_others_do_without_the_originals(name: str) -> None:
    """A scraper does not have them: with other images in their place, the figures are the same."""
    module = load(name)
    clean, labels = pictures(10)
    values = module.Params(**QUICK.get(name, {}))
    arm = patterned(clean, labels)
    one, two = (module.victim(job(arm, other, labels), values) for other in (clean, torch.zeros_like(clean)))
    assert one.train_loss == two.train_loss and one.accuracy == two.accuracy
