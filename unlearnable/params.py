"""`--set steps=20` into the typed, frozen `Params` of a method, with every mistake named."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from unlearnable import registry
from unlearnable.errors import UsageError


def parse_assignments(pairs: Sequence[str]) -> dict[str, str]:
    """("steps=20", "net=small") -> {"steps": "20", "net": "small"}. Raises UsageError on anything else."""
    out: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise UsageError(f"--set takes NAME=VALUE, not {pair!r}.")
        out[name.strip()] = value.strip()
    return out


def build(kind: str, method: str, values: Mapping[str, Any]) -> Any:
    """The method's `Params` with `values` (strings or typed) over its defaults. Imports the method's module."""
    check_names(kind, method, values)
    params = registry.load(kind, method).Params
    hints = typing.get_type_hints(params)
    typed = {name: _convert(f"{method}.{name}", value, hints[name]) for name, value in values.items()}
    try:
        return params(**typed)
    except ValueError as why:  # a Params class states its ranges in __post_init__
        raise UsageError(f"{method}: {why}.") from why


def check_method(method: str | None, preset: str | None, values: Mapping[str, Any]) -> str | None:
    """Checks the names of a method, a preset and parameters without importing any; the method's name, or None for `auto`."""
    if method in (None, "auto") and preset is None:
        if values:
            raise UsageError("--set needs a --method or a --preset to set parameters of.")
        return None
    if preset is not None:
        name, _ = registry.find_preset("poisons", preset)
        if method not in (None, "auto", name):
            raise UsageError(
                f"The preset {preset!r} belongs to {name}, not to {method}.", f"Leave out --method {method}."
            )
    else:
        assert method is not None
        presets = {p for known in registry.names("poisons") for p in registry.describe("poisons", known).presets}
        if method not in presets:  # a preset's name given as the method is what most people try first
            registry.require("poisons", method)
        name = registry.find_preset("poisons", method)[0]
    check_names("poisons", name, values)
    return name


def check_names(kind: str, method: str, values: Mapping[str, Any]) -> None:
    """Refuses a parameter that the method does not have. Reads the method's file, imports nothing."""
    known = [field.name for field in registry.describe(kind, method).params]
    for name in values:
        if name not in known:
            raise UsageError(f"{method} has no parameter {name!r}.", registry.nearest(name, known))


def as_dict(params: Any) -> dict[str, Any]:
    return dataclasses.asdict(params)


def _convert(where: str, value: Any, hint: Any) -> Any:
    if not isinstance(value, str):
        return value
    choices = typing.get_args(hint) if typing.get_origin(hint) is typing.Literal else ()
    if choices:
        if value not in choices:
            raise UsageError(f"{where} is one of {', '.join(choices)}, not {value!r}.")
        return value
    if hint is bool:
        if value.lower() not in ("true", "false", "yes", "no", "1", "0"):
            raise UsageError(f"{where} is true or false, not {value!r}.")
        return value.lower() in ("true", "yes", "1")
    if hint is str:
        return value
    try:
        return hint(value)
    except (TypeError, ValueError) as why:
        raise UsageError(f"{where} is a number ({hint.__name__}), not {value!r}.") from why
