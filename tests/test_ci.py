"""`.ci/run`: the README's own test command, and nothing that fails is passed over."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
STEPS = ("pip", "python", "ruff", "mypy")


def run(folder: Path, failing: str) -> tuple[int, list[str]]:
    """`.ci/run` with tools that only write down their names, one of which fails: its exit status, and what ran."""
    tools = folder / ".venv-ci" / "bin"
    tools.mkdir(parents=True)
    for name in STEPS:
        tool = tools / name
        tool.write_text(f'#!/bin/sh\necho {name} >>"{folder}/ran"\nexit {7 if name == failing else 0}\n')
        tool.chmod(0o755)
    elsewhere = folder / "bin"
    elsewhere.mkdir()
    shutil.copy("/bin/true", elsewhere / "python3")  # the environment is there
    (folder / ".ci").mkdir()
    script = shutil.copy(ROOT / ".ci" / "run", folder / ".ci" / "run")
    path = f"{elsewhere}{os.pathsep}{os.environ['PATH']}"
    code = subprocess.run([script], env={"PATH": path}, capture_output=True, check=False).returncode
    return code, (folder / "ran").read_text().split()


@pytest.mark.parametrize("failing", STEPS)
def test_what_fails_ends_the_run(failing: str, tmp_path: Path) -> None:
    code, ran = run(tmp_path, failing)
    assert code == 7 and ran[-1] == failing


def test_all_is_run(tmp_path: Path) -> None:
    assert run(tmp_path, "") == (0, ["pip", "python", "ruff", "ruff", "mypy"])


def test_it_is_the_command_of_the_readme() -> None:
    line = next(line for line in (ROOT / "README.md").read_text().splitlines() if line.endswith("-m pytest"))
    _, _, command = line.strip().partition("&& ")
    assert command.replace(".venv/", ".venv-ci/") in (ROOT / ".ci" / "run").read_text()
