"""Killed without warning at any moment, a rerun of the same command ends in the same bytes."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from made_pictures import write_tree

from release import layout

ROOT = Path(__file__).resolve().parents[1]
KEY = "0f" * 32


def command(source: Path, out: Path, key: Path) -> list[str]:
    # one image a shard, so that there are many moments between done-marks
    program = "from release.formats import folder; folder.MAX_ROWS = 1\nfrom cli import cli\ncli()"
    options = ["--preset", "r16", "--verify", "none", "--key", str(key), "-q"]
    return [sys.executable, "-c", program, "protect", str(source), str(out), *options]


def data(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted((out / "data").rglob("*")) if p.is_file()}


def kill_and_resume(tmp_path: Path, moments: list[float], classes: int = 3, each: int = 40, pack: str = "") -> None:
    source, key = write_tree(tmp_path / "pictures", classes, each), tmp_path / "key"
    if pack:
        source = Path(shutil.make_archive(str(tmp_path / "packed"), pack, source))
    key.write_text(KEY)
    whole = tmp_path / "whole"
    started = time.monotonic()
    subprocess.run(command(source, whole, key), cwd=ROOT, check=True, capture_output=True)
    length = time.monotonic() - started
    for number, moment in enumerate(moments):
        out = tmp_path / f"out{number}"
        for _ in range(2):  # killed twice: once while starting fresh, once while resuming
            process = subprocess.Popen(
                command(source, out, key), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            try:
                process.wait(moment * length)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
            if out.exists():
                break  # it was quicker than its killer; and it is whole, or the comparison below fails
        if not out.exists():
            done = subprocess.run(command(source, out, key), cwd=ROOT, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
        assert data(out) == data(whole)
        assert not layout.staging_folder(out).exists()
        check = [sys.executable, "cli.py", "check", str(out)]
        assert subprocess.run(check, cwd=ROOT, capture_output=True, check=False).returncode == 0


def test_killed_while_writing_it_resumes(tmp_path: Path) -> None:
    kill_and_resume(tmp_path, [0.9])


@pytest.mark.slow
def test_killed_at_many_random_moments_it_resumes(tmp_path: Path) -> None:
    rng = random.Random(0)
    kill_and_resume(tmp_path, [rng.uniform(0.3, 1.05) for _ in range(12)])


@pytest.mark.slow
@pytest.mark.parametrize("pack", ["zip", "tar", "gztar"])
def test_killed_on_an_archive_it_resumes(tmp_path: Path, pack: str) -> None:
    rng = random.Random(1)
    kill_and_resume(tmp_path, [rng.uniform(0.3, 1.05) for _ in range(4)], pack=pack)
