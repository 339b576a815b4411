"""The part of JSON Schema (draft 2020-12) that manifest.schema.json uses, so that the schema is what the code enforces.

A schema that only documents goes stale; one that every `Manifest.from_bytes` runs through cannot. A manifest has an entry for
each of maybe millions of files: `_test` makes one function of what is asked of an entry, and only where that says no is it
looked for what is wrong.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


def problems(value: Any, schema: Mapping[str, Any], where: str = "") -> Iterator[str]:
    """What is wrong with a JSON value, one sentence a fault. Fields that the schema does not name are allowed."""
    kinds = [schema["type"]] if isinstance(schema.get("type"), str) else schema.get("type", [])
    if kinds and not any(_is(value, kind) for kind in kinds):
        yield f"{where or 'the document'} should be {' or '.join(kinds)}, not {type(value).__name__}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{where} should be one of {schema['enum']}, not {value!r}"
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        yield f"{where} should match {schema['pattern']}, not {value!r}"
    if isinstance(value, int | float) and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        yield f"{where} is out of range: {value}"
    if isinstance(value, list) and "items" in schema:
        holds = _test(schema["items"])
        for index, item in enumerate(value):
            if not holds(item):
                yield from problems(item, schema["items"], f"{where}[{index}]")
    if isinstance(value, dict):
        yield from _fields(value, schema, where)


def _fields(value: dict[str, Any], schema: Mapping[str, Any], where: str) -> Iterator[str]:
    named = schema.get("properties", {})
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{where + '.' if where else ''}{name} is missing"
    for name, item in value.items():
        rule = named.get(name, schema.get("additionalProperties"))
        if rule is not None:
            yield from problems(item, rule, f"{where}.{name}" if where else name)


def _test(schema: Mapping[str, Any]) -> Callable[[Any], bool]:
    """A function that is true only of values without problems, and may be false of others. It knows plain schemas."""
    named = [schema["type"]] if isinstance(schema.get("type"), str) else schema.get("type", [])
    kinds = frozenset(kind for name in named for kind in _TYPES[name])
    if kinds == {dict} and "enum" not in schema and "additionalProperties" not in schema:
        return _of_fields(schema)
    if not kinds or not kinds <= {str, int, float, type(None)}:
        return lambda value: False
    allowed, matches = schema.get("enum"), re.compile(schema.get("pattern", "")).search
    low, high = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)

    def holds(value: Any) -> bool:
        kind = type(value)  # of True it is not int
        if kind not in kinds or (allowed is not None and value not in allowed):
            return False
        return bool(matches(value)) if kind is str else value is None or low <= value <= high

    return holds


def _of_fields(schema: Mapping[str, Any]) -> Callable[[Any], bool]:
    """The same for an object whose fields are plain."""
    tests = {name: _test(rule) for name, rule in schema.get("properties", {}).items()}
    required = schema.get("required", ())

    def holds(value: Any) -> bool:
        if type(value) is not dict:
            return False
        whole = all(name in value for name in required)
        return whole and all(tests[name](item) for name, item in value.items() if name in tests)

    return holds


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):  # Python counts True as an integer; JSON does not
        return kind == "boolean"
    return isinstance(value, _TYPES[kind])
