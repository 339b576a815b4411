"""The rules of the house, held by reading the code: imports go one way, listing is light, files stay small."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from unlearnable import registry

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted([ROOT / "cli.py", *(ROOT / "unlearnable").rglob("*.py"), *(ROOT / "release").rglob("*.py")])


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path) -> set[str]:
    """Project modules that a file imports anywhere, `from a import b` counted as a.b where that is a module."""
    known = {module_of(file) for file in FILES}
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return {name for name in found if name in known}


# `from unlearnable import x` runs the root package, which offers its functions lazily: only x is an import
GRAPH = {module_of(path): imported(path) - {"unlearnable"} for path in FILES}
COMMANDS = [name for name in GRAPH if name.startswith("unlearnable.commands")]
API = [name for name in GRAPH if name == "unlearnable.api" or name.startswith("unlearnable.api_")]
UPPER = ["cli", "unlearnable", *API, *COMMANDS]
SCIENCE = [name for name in GRAPH if name.startswith("unlearnable") and name not in UPPER]
SHIPPING = [name for name in GRAPH if name.startswith("release")]
RELEASE_MAY = (
    "unlearnable.types",
    "unlearnable.errors",
    "unlearnable.imageio",
    "unlearnable.budget",
    "unlearnable.remote",
)
RELEASE_MAY += ("unlearnable.sources", "unlearnable.registry", "unlearnable.keys", "unlearnable.version")


def reachable(start: str) -> set[str]:
    seen: set[str] = set()
    todo = [start]
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += GRAPH.get(name, set())
    return seen


@pytest.mark.parametrize("module", SCIENCE)
def test_science_knows_nothing_of_shipping(module: str) -> None:
    assert not [name for name in GRAPH[module] if name.startswith("release") or name in UPPER]


@pytest.mark.parametrize("module", SHIPPING)
def test_shipping_knows_only_the_words_of_science(module: str) -> None:
    foreign = [name for name in GRAPH[module] if not name.startswith("release")]
    assert all(name in RELEASE_MAY or name.startswith("unlearnable.sources.") for name in foreign), foreign


def test_nothing_imports_the_command_line() -> None:
    assert not [module for module, names in GRAPH.items() if "cli" in names]
    commands = {*COMMANDS}
    assert not [module for module, names in GRAPH.items() if names & commands and module not in commands | {"cli"}]


def test_verification_never_learns_which_poison_was_used() -> None:
    assert not [name for name in reachable("unlearnable.verification.run") if name.startswith("unlearnable.poisons")]


def test_there_are_no_import_cycles() -> None:
    for start in GRAPH:
        for first in GRAPH[start]:
            assert start not in reachable(first) or first == start, f"{start} and {first} import each other"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_readable(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 310
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 70, node.name


@pytest.mark.parametrize("path", [p for p in FILES if p.name != "imageio.py"], ids=lambda p: str(p.relative_to(ROOT)))
def test_only_imageio_opens_or_saves_images(path: Path) -> None:
    """Three exceptions compute on pictures in memory: a scraper's JPEG, the check of a report's pictures, its plots."""
    allowed = {
        "unlearnable/defences/jpeg.py",
        "release/report.py",
        "release/drawing.py",
        "unlearnable/_containers.py",
        "unlearnable/_exif.py",
        *(f"unlearnable/_{part}.py" for part in ("encoding", "frames", "inks", "views")),  # parts of imageio
    }
    if str(path.relative_to(ROOT)) not in allowed:
        assert not re.search(r"import (.*, )?Image\b", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "command", [["--help"], ["methods"], ["defences", "--json"], ["victims"], ["protect", "--help"]]
)
def test_help_and_listings_import_nothing_heavy(command: list[str]) -> None:
    program = (
        "import sys; from cli import cli\n"
        f"try: cli({command!r})\n"
        "except SystemExit as done: assert not done.code, done.code\n"
        "heavy = {'torch', 'datasets', 'pyarrow', 'matplotlib', 'huggingface_hub'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_importing_the_package_is_light() -> None:
    program = "import sys, unlearnable; assert 'torch' not in sys.modules; assert unlearnable.Options().levels == 8"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


@pytest.mark.parametrize("kind", ["poisons", "defences", "nets", "sources"])
def test_a_method_is_found_by_its_file_name_and_describes_itself(kind: str) -> None:
    assert registry.names(kind)
    for name in registry.names(kind):
        described = registry.describe(kind, name)
        assert described.summary.endswith(".") or len(described.summary) > 20
        assert all(field.help for field in described.params), f"{name}: a parameter has no help"
