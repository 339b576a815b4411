"""Names, presets and parameters: right ones become typed values, wrong ones a sentence with the nearest right one."""

from __future__ import annotations

import pytest

from unlearnable import params, registry
from unlearnable.errors import UsageError


@pytest.mark.parametrize(("preset", "method"), [("r16", "regions"), ("p250", "targeted"), ("su", "error_min")])
def test_presets_lead_to_their_method(preset: str, method: str) -> None:
    assert registry.find_preset("poisons", preset)[0] == method


def test_every_preset_has_one_owner_and_builds() -> None:
    owners: dict[str, str] = {}
    for kind in ("poisons", "defences"):
        for name in registry.names(kind):
            for preset, values in registry.describe(kind, name).presets.items():
                assert owners.setdefault(f"{kind}/{preset}", name) == name
                params.build(kind, name, values)


@pytest.mark.parametrize("kind", ["poisons", "defences"])
def test_what_a_file_says_of_itself_is_what_it_does(kind: str) -> None:
    """Descriptions are read from the text of a file; they must agree with the module that is imported."""
    for name in registry.names(kind):
        module = registry.load(kind, name)
        described = registry.describe(kind, name)
        assert described.presets == module.PRESETS
        made = params.as_dict(module.Params())
        assert {field.name: field.default for field in described.params} == made


def test_another_default_keeps_the_help_of_the_shared_parameter() -> None:
    mine, shared = ({f.name: f for f in registry.describe("poisons", name).params} for name in ("grating", "spectral"))
    assert (mine["low"].default, shared["low"].default) == (3.0, 4.0)
    assert mine["low"].help == shared["low"].help != ""


def test_a_misspelled_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="Did you mean 'regions'"):
        registry.load("poisons", "region")
    with pytest.raises(UsageError, match="Did you mean 'r16'"):
        registry.find_preset("poisons", "r166")


def test_assignments_become_typed_values() -> None:
    made = params.build("defences", "jpeg", params.parse_assignments(["quality=30"]))
    assert made.quality == 30


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["quality"], "NAME=VALUE"),
        (["qualty=3"], "Did you mean 'quality'"),
        (["quality=x"], "number"),
        (["quality=0"], "1 to"),
    ],
)
def test_wrong_parameters_are_refused_in_a_sentence(pairs: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        params.build("defences", "jpeg", params.parse_assignments(pairs))
