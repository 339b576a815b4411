"""Runs of `protect` in processes that can be stopped at any moment, and what a finished one must look like."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cli import cli
from release import layout
from release.check import check
from release.engines import local
from release.formats import folder, parquet, webdataset
from unlearnable.commands import protect  # noqa: F401 - here, so that no child imports it anew
from unlearnable.sources import _stamps

KEY = "5a" * 32
USUAL = ("--preset", "r16", "--verify", "none", "--progress", "plain", "--workers", "2")


class Trouble(AssertionError):
    """A promise was broken."""


def hold(true: bool, what: str, *more: object) -> None:
    if not true:
        raise Trouble(" ".join([what, *(str(each) for each in more)]))


@dataclass
class Job:
    """One `protect` and its place. words: further options."""

    source: Path
    out: Path
    key: Path
    words: tuple[str, ...] = ()
    prepare: Callable[[], None] = field(default=lambda: None)  # in the child, before it begins
    apart: bool = False  # workers in processes of their own, although there are few images
    beside: Path | None = None  # for its messages and its owner's keys, else the folder of `out`

    @property
    def log(self) -> Path:
        return (self.beside or self.out.parent) / f"{self.out.name}.stderr"

    def start(self) -> int:
        """The number of the process, which leads a group of its own."""
        pid = os.fork()
        if pid == 0:
            os.setpgid(0, 0)
            signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's jobs in the background are deaf to it
            code = 1
            try:
                with self.log.open("wb") as file:
                    os.dup2(file.fileno(), 1)
                    os.dup2(file.fileno(), 2)
                os.environ["UNLEARNABLE_CONFIG"] = str(self.log.with_suffix(".config"))
                folder.MAX_ROWS = parquet.MAX_ROWS = webdataset.MAX_ROWS = 4
                if self.apart:
                    local.FEW_IMAGES = local.FEW_BYTES = 0
                self.prepare()
                cli(["protect", str(self.source), str(self.out), "--key", str(self.key), *USUAL, *self.words])
            except SystemExit as done:
                code = done.code if isinstance(done.code, int) else 1
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        return pid

    def run(self) -> int:
        """Its exit code."""
        return os.waitstatus_to_exitcode(os.waitpid(self.start(), 0)[1])

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def finish(self, codes: tuple[int, ...] = (0,)) -> int:
        code = self.run()
        hold(code in codes, f"exit code {code}:", self.said())
        return code


def stopped(pid: int, after: float, how: int) -> int | None:
    """Sends the signal to a run after so many seconds; its exit code, None where the signal killed it."""
    end = time.monotonic() + after
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.001)
    os.kill(pid, how)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    for _ in range(500):  # its workers, if it had any, must not outlive it
        try:
            os.killpg(pid, 0)
        except ProcessLookupError:
            return None if code == -how else code
        time.sleep(0.01)
    os.killpg(pid, signal.SIGKILL)
    raise Trouble("processes of a run that was stopped live on")


def state(out: Path) -> tuple[dict[str, bytes], list[Any]]:
    """The data files, and their entries in the manifest."""
    data = {str(p.relative_to(out)): p.read_bytes() for p in sorted((out / layout.DATA).rglob("*")) if p.is_file()}
    entries = [e for e in json.loads((out / layout.MANIFEST).read_text())["files"] if e["path"].startswith("data/")]
    return data, entries


def same(out: Path, whole: tuple[dict[str, bytes], list[Any]]) -> None:
    data, entries = state(out)
    hold(data.keys() == whole[0].keys(), "other files:", sorted(data.keys() ^ whole[0].keys()))
    hold(data == whole[0], "other bytes:", [name for name in data if data[name] != whole[0][name]])
    hold(entries == whole[1], "other entries of the manifest")
    hold(check(out).ok, "the check fails")
    hold(not layout.staging_folder(out).exists(), "the staging folder is still there")
    hold(not list(out.parent.glob(f".{out.name}.*")), "something is left over")
    for line in (layout.owner_folder(out) / layout.LOG).read_text().splitlines():
        hold(KEY not in line, "the key is in the log")


def clear(out: Path) -> None:
    for each in out.parent.glob(f"*{out.name}*"):
        shutil.rmtree(each) if each.is_dir() else each.unlink()


def write_pictures(tree: Path) -> Path:
    """Three classes of 20 small pictures each, PNG and JPEG, a sidecar and a text."""
    for kind in ("ash", "elm", "oak"):
        (tree / kind).mkdir(parents=True)
        for number in range(20):
            options = {"quality": 95, "subsampling": 0} if number > 15 else {}
            Image.fromarray(picture(number)).save(
                tree / kind / f"{number:03d}{'.jpg' if number > 15 else '.png'}", **options
            )
    (tree / "ash/notes.txt").write_text("no image")
    (tree / "ash/000.png.xmp").write_text("<x/>")
    return tree


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)


def stage(out: Path) -> str:
    """How far a killed run had come."""
    staging, owner = layout.staging_folder(out), layout.owner_folder(out)
    if out.exists():
        return "tidying up"
    if (staging / layout.PUBLIC_KEY).exists() or (owner / layout.UNFINISHED / layout.RECEIPT).exists():
        return "sealing"
    marks = list((owner / layout.UNFINISHED / layout.SHARDS).glob("*.json"))
    return "writing" if marks or staging.exists() else "preparing" if owner.exists() else "starting"


def rewrite(victim: Path) -> None:
    """Another picture, of another size in bytes or, with luck, the same."""
    Image.fromarray(picture(int(time.time_ns() % 1_000_000))).save(victim)


def at_read(number: int, victim: Path, act: Callable[[Path], None]) -> None:
    """In this process: does that to the file when so many files have been read."""
    real, count = _stamps.Files.__call__, [0]

    def read(self: _stamps.Files, name: str) -> bytes:
        count[0] += 1
        if count[0] == number + 1 and victim.exists():
            act(victim)
        return real(self, name)

    _stamps.Files.__call__ = read  # type: ignore[method-assign]
