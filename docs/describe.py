"""Texts for the site out of the code and the results: Markdown of plain words, Python, the manifest's schema, benchmarks.

Nothing of the project is imported here, only read.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
NO_WORDS = "(no description)"
OPTIONS = "Frozen; made anew with `dataclasses.replace`. Wrong values raise `UsageError` at once.\n\n"


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def prose(text: str) -> str:
    """Plain text as Markdown: only `code` and indented blocks mean something, arXiv numbers become links."""
    blocks = []
    for block in text.strip().split("\n\n"):
        if block.startswith("    "):
            blocks.append(block)
            continue
        parts = re.split(r"(`[^`]+`)", block)
        plain = [escaped(part) if not i % 2 else part for i, part in enumerate(parts)]
        blocks.append(linked("".join(plain)))
    return "\n\n".join(blocks)


def escaped(text: str) -> str:
    return re.sub(r"([\\*_\[#])", r"\\\1", text).replace("<", "&lt;")


def linked(text: str) -> str:
    text = re.sub(r"arXiv[:\s]\s*(\d{4}\.\d{4,5})", r"[arXiv \1](https://arxiv.org/abs/\1)", text)
    return re.sub(r"openreview (\w{10})", r"[openreview \1](https://openreview.net/forum?id=\1)", text)


def defined(term: str, meaning: str) -> str:
    """An entry of a definition list: easier to read on a phone than a table."""
    return f"`{term}`\n:   {meaning or NO_WORDS}\n\n"


# --- Python ---


def python_sections(protect: click.Command) -> str:
    """The public functions of unlearnable.api by their signatures and docstrings, and Options with the options' help."""
    tree = ast.parse(text_of("unlearnable/api.py"))
    exported = next(
        node for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    made = []
    for name in ast.literal_eval(exported.value):
        node = definition(tree, name)
        said = prose(ast.get_docstring(node) or NO_WORDS)
        if isinstance(node, ast.FunctionDef):
            made.append(f"## {name}\n\n```python\n{signature(name, node)}\n```\n\n{said}\n\n")
        else:
            made.append(f"## {name}\n\n{said}\n\n{OPTIONS}{''.join(option_fields(node, protect))}")
    return "".join(made)


def definition(tree: ast.Module, name: str) -> ast.FunctionDef | ast.ClassDef:
    """Where a name is defined: in this module, or in the project's module that it is imported from."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            return node
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return definition(ast.parse(text_of(node.module.replace(".", "/") + ".py")), alias.name)
    raise LookupError(f"{name} is defined nowhere")


def signature(name: str, node: ast.FunctionDef) -> str:
    """A line for every argument."""
    given = node.args
    defaults = [None] * (len(given.args) - len(given.defaults)) + given.defaults
    lines = [argument(one, default) for one, default in zip(given.args, defaults, strict=True)]
    lines += ["*"] * bool(given.kwonlyargs)
    lines += [argument(one, default) for one, default in zip(given.kwonlyargs, given.kw_defaults, strict=True)]
    returns = ast.unparse(node.returns) if node.returns else "None"
    return f"{name}(\n" + "".join(f"    {line},\n" for line in lines) + f") -> {returns}"


def argument(one: ast.arg, default: ast.expr | None) -> str:
    typed = f"{one.arg}: {ast.unparse(one.annotation)}" if one.annotation else one.arg
    return typed if default is None else f"{typed} = {written(default)}"


def written(value: ast.expr) -> str:
    return ast.unparse(value).replace("'", '"')


def option_fields(node: ast.ClassDef, protect: click.Command) -> Iterator[str]:
    """Every field with the help of the option of the same name, or what is noted beside it."""
    options = {param.name: param for param in protect.params if isinstance(param, click.Option)}
    source = text_of("unlearnable/options.py").splitlines()
    for field in node.body:
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and field.value:
            name, default = field.target.id, written(field.value).replace("field(default_factory=dict)", "{}")
            option = options.get("assignments" if name == "set" else name)
            if option and isinstance(field.value, ast.Attribute):
                default = str(option.default)  # a constant of another module
            meaning = (option.help or "") if option else source[field.lineno - 1].partition("  # ")[2]
            term = f"{name}: {ast.unparse(field.annotation)} = {default}"
            yield defined(term, prose(meaning.partition("  [default")[0]))


# --- the release format ---


def manifest_fields() -> str:
    schema = json.loads(text_of("release/manifest.schema.json"))
    return f"{schema['title']}:\n\n{''.join(schema_entries(schema, ''))}"


def schema_entries(schema: dict[str, Any], prefix: str) -> Iterator[str]:
    """An entry for every property, and for those inside it."""
    for name, field in schema.get("properties", {}).items():
        types = field.get("type", "any")
        shown = " or ".join(types) if isinstance(types, list) else types
        if "enum" in field:
            shown = ", ".join(f"`{value}`" for value in field["enum"])
        said = [] if name in schema.get("required", ()) else ["may be absent"]
        said += [text for text in (prose(field.get("description", "")), limits(field)) if text]
        yield defined(prefix + name, f"{shown}{': ' if said else ''}{'; '.join(said)}")
        inner = field.get("items", field)
        yield from schema_entries(inner, f"{prefix}{name}{'[]' if 'items' in field else ''}.")


def limits(field: dict[str, Any]) -> str:
    """What a schema says of a value that it has no words for."""
    said = [f"at least {field['minimum']}"] if "minimum" in field else []
    said += [f"at most {field['maximum']}"] if "maximum" in field else []
    said += [f"`{field['pattern']}`"] if "pattern" in field else []
    said += ["holds " + ", ".join(f"`{name}`" for name in field["required"])] if "required" in field else []
    return "; ".join(said)


# --- benchmarks ---


def proofs() -> Iterator[tuple[str, dict[str, Any]]]:
    """The runs of the main job that were verified."""
    for path in sorted(RESULTS.glob("*.json")):
        run = json.loads(path.read_text(encoding="utf-8"))
        if "command" in run and run.get("verification"):
            yield path.stem, run


def main_job() -> str:
    rows = ["| data | method | clean | noise | protected | hardware | command |\n|---|---|---|---|---|---|---|\n"]
    for name, run in proofs():
        arms = " | ".join(peak(run["verification"]["arms"][arm]) for arm in ("clean", "noise", "protected"))
        rows.append(f"| {name} | {run['method']} | {arms} | {run['hardware']} | `{run['command']}` |\n")
    return "".join(rows)


def under_countermeasures() -> str:
    rows = ["| data | countermeasure | clean | protected |\n|---|---|---|---|\n"]
    for name, run in proofs():
        for against, tried in run["verification"]["against"].items():
            rows.append(f"| {name} | {against} | {peak(tried['clean'])} | {peak(tried['protected'])} |\n")
    return "".join(rows)


def longer_tables() -> str:
    return "".join(f"- [{path.stem}](results/{path.name})\n" for path in sorted(RESULTS.glob("*.md")))


def benchmark_commands() -> str:
    return text_of("benchmarks/README.md").partition("\n")[2].strip()


def peak(arm: dict[str, Any]) -> str:
    spread = "" if arm["peak"]["std"] is None else f" ± {arm['peak']['std']:.3f}"
    return f"{arm['peak']['mean']:.3f}{spread}"
