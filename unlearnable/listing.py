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
    """The same as text for a terminal."""
    out = []
    for method in found:
        out.append(f"{method['name']}: {method['summary']}")
        if method["presets"]:
            out.append(f"    presets: {', '.join(method['presets'])}")
        for fact in ("paper", "cost"):
            if method.get(fact):
                out.append(f"    {fact}: {method[fact]}")
        if method.get("unbounded"):
            out.append("    not bounded: the change is visible; --eps caps it")
        for field in method["parameters"]:
            out.append(f"    --set {field['name']}={field['default']}  {field['help']}")
    return out
