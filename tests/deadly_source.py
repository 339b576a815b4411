"""Sources that do harm to the process that reads them, and perturbations, all of which can be sent to another process."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from release import build
from unlearnable.keys import Key
from unlearnable.sources import open_source
from unlearnable.types import Context, Pixels, Record


class Deadly:
    """A folder of images, and what reading some of them does.

    pill: ends the process, always. once: ends the first that does. hold: the first that does names its Ray node in `held`
    and waits to be killed. slow: waits until `until` shards have done-marks in `marks`. full: fails as a full disk does.
    """

    def __init__(self, root: Path, marks: Path = Path(), until: int = 0, **harm: str) -> None:
        self.real, self.marks, self.until, self.harm = open_source(str(root)), marks, until, harm
        self.died, self.held = root.with_name("died"), root.with_name("held")

    def __getattr__(self, name: str) -> object:
        if name == "real":  # while it is unpickled there is none yet
            raise AttributeError(name)
        return getattr(self.real, name)

    def read(self, record: Record) -> bytes:
        does = {name for name, of in self.harm.items() if of == record.id}
        if "pill" in does:
            os.kill(os.getpid(), signal.SIGSEGV)
        if "once" in does and not self.died.exists():
            self.died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if "hold" in does and not self.held.exists():
            import ray

            self.held.with_name("partial").write_text(ray.get_runtime_context().get_node_id())
            self.held.with_name("partial").rename(self.held)
            wait_for(lambda: False)
        if "slow" in does:
            wait_for(lambda: len(list(self.marks.glob("*.json"))) >= self.until)
        if "full" in does:
            raise OSError(28, "No space left on device")
        return self.real.read(record)


def wait_for(there: Callable[[], bool]) -> None:
    """Until it is true; no longer than two minutes."""
    for _ in range(1200):
        if there():
            return
        time.sleep(0.1)
    raise TimeoutError("what was waited for did not happen")


@dataclass(frozen=True)
class Ripples:
    """Perturbations that follow from an image's id and the device alone, as a crafter has them."""

    context: Context = field(default_factory=lambda: Context(Key(bytes(32)), ("a", "b"), 8, 16, "cpu"))

    def __call__(self, records: Sequence[Record], pictures: Sequence[Pixels]) -> torch.Tensor:
        drawn = [self.context.key.rng("ripples", record.id).uniform(-1, 1, (3, 16, 16)) for record in records]
        return torch.from_numpy(np.stack(drawn)).float() * self.context.eps


def work_on(source: object, out: Path, *, apart: bool = True, address: str | None = None) -> build.Work:
    """A run that is about to begin, in a folder of its own."""
    for name in ("staging", "marks"):
        (out / name).mkdir(parents=True)
    settings = build.Settings("folder", "auto", 8, workers=2)
    return build.Work(source, Ripples(), settings, out / "staging", out / "marks", None, apart, address)  # type: ignore[arg-type]


def made(work: build.Work) -> tuple[dict[str, bytes], dict[str, str]]:
    """Every data file, and every done-mark."""
    files = {str(p.relative_to(work.staging)): p.read_bytes() for p in work.staging.rglob("*") if p.is_file()}
    return files, {p.name: p.read_text() for p in work.marks.glob("*.json")}
