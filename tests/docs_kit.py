"""What the tests of the documentation read of it: pages as the site has them, blocks, commands with what they print."""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
HAND_WRITTEN = sorted(DOCS.glob("*.md"))


@functools.cache
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@functools.cache
def site() -> dict[str, str]:
    """Every page as the site has it."""
    known = dict(generator().pages())
    for path in HAND_WRITTEN:
        known[path.name] = generator().filled(path.read_text(encoding="utf-8"))
    return known


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """Language and text of every fenced block, and "" with those that are indented by four."""
    fenced = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", flags=re.M | re.S)
    yield from ((found[2], found[3]) for found in fenced.finditer(text))
    for found in re.finditer(r"(?:^ {4,}\S.*\n?)+", fenced.sub("", text), flags=re.M):
        yield "", re.sub(r"^ +", "", found[0], flags=re.M) if "import" not in found[0] else found[0]


def steps(text: str) -> Iterator[tuple[str, str]]:
    """Every command of the page's console blocks with what it is to print."""
    for language, block in blocks(text):
        if language == "console":
            for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
                command, *below = part.rstrip("\n").split("\n")
                while below and below[0].startswith(">"):
                    command += "\n" + below.pop(0)[2:]
                yield command, "\n".join(below)


def lines(text: str) -> Iterator[list[str]]:
    """The words of every line of any block that calls `unlearnable`."""
    for _, block in blocks(text):
        for line in re.findall(r"^(?:\$ )?(unlearnable .*)$", block, flags=re.M):
            words = shlex.split(line, comments=True)
            ends = [index for index, word in enumerate(words) if word in ("&&", "|", ">", ";")]
            yield words[1 : min(ends, default=len(words))]


def matches(printed: str, expected: str) -> bool:
    anything = re.escape(expected).replace(r"\.\.\.", ".*")
    return re.fullmatch(anything, printed.strip(), flags=re.S) is not None


def call(command: str, folder: Path, env: dict[str, str] | None = None) -> tuple[int, str]:
    """A command in a process of its own, by the checkout that is tested: its exit code, and what it printed."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    known = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)} | (env or {})
    done = subprocess.run(["bash", "-c", command], env=known, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout if done.returncode == 0 else done.stdout + done.stderr
