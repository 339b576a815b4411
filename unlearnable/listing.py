"""What there is, for people and programs: methods, defences and networks as their files describe themselves."""

from __future__ import annotations

from typing import Any

from unlearnable import registry


def described(kind: str) -> list[dict[str, Any]]:
    """Every "poisons", "defences" or "nets": name, summary, presets, parameters, facts. Imports none of them."""
    out = []
    for name in registry.names(kind):
        found = registry.describe(kind, name)
        fields = [{"name": f.name, "type": f.type, "default": f.default, "help": f.help} for f in found.params]
        facts = {key.lower(): value for key, value in found.facts.items() if value is not None}
        if kind == "poisons":
            facts.setdefault("unbounded", False)
        out.append({"name": name, "summary": found.summary, "presets": found.presets, "parameters": fields, **facts})
    return out


def lines(found: list[dict[str, Any]]) -> list[str]:
    """The same as text for a terminal, two lines each."""
    out = []
    for method in found:
        presets = f" ({', '.join(method['presets'])})" if method["presets"] else ""
        mark = ": not bounded, visible" if method.get("unbounded") else ""
        out += [method["name"] + presets + mark, f"    {method['summary']}"]
    return out


def details(kind: str, name: str) -> list[str]:
    """All that a file says of its method, which is named by itself or by one of its presets."""
    known = registry.names(kind)
    module = name if name in known or kind == "nets" else registry.find_preset(kind, name)[0]
    registry.require(kind, module)
    (method,) = [each for each in described(kind) if each["name"] == module]
    out = [f"{module}: {registry.describe(kind, module).text}", ""]
    for fact in ("paper", "cost"):
        if method.get(fact):
            unit = " plain trainings" if isinstance(method[fact], float) else ""
            out.append(f"{fact}: {method[fact]}{unit}")
    if method.get("unbounded"):
        out.append("not bounded: the change is visible; --eps caps it")
    for preset, values in method["presets"].items():
        out.append(f"preset {preset}: {', '.join(f'{key}={value}' for key, value in values.items()) or 'as it is'}")
    for field in method["parameters"]:
        out.append(f"--set {field['name']}={field['default']}  {field['help']}")
    return out
