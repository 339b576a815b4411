"""Progress on stderr: a live line for each stage on a terminal, plain lines elsewhere, or one JSON object a line.

All of them hear one function, `tell(what, done, of, failed)`: what is going on, how much of it is done, of how much (0
where that cannot be said), and how many images failed. The words before a colon in `what` name the stage.
docs/output.md has the schema of the JSON events.
"""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from unlearnable.types import Tell, silent

_PLAIN_EVERY, _JSON_EVERY = 10.0, 1.0  # seconds between two reports of one stage
_WINDOW = 60.0  # seconds that the rate is taken over: shards that were there already are soon forgotten


@contextmanager
def progress(style: str) -> Iterator[Tell]:
    """A function that shows progress in a style: none, json, plain, or auto, the live line on a terminal and else plain."""
    if style == "none":
        yield silent
    elif style == "json":
        yield _reporter(_JSON_EVERY, lambda what, pace: event("progress" if pace.of else "message", **pace.facts(what)))
    elif style == "plain" or not sys.stderr.isatty():
        yield _reporter(_PLAIN_EVERY, lambda what, pace: _line(what + pace.words()))
    else:
        with _live() as tell:
            yield tell


def event(kind: str, **facts: Any) -> None:
    """One JSON object on a line of stderr."""
    _line(json.dumps({"event": kind, **facts}, ensure_ascii=True))


class Pace:
    """How far one stage is and how fast it goes. rate: a second; left: seconds; both None where nobody can say."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._begun = clock, clock()
        self._seen: deque[tuple[float, int]] = deque()
        self.done = self.of = self.failed = 0

    def at(self, done: int, of: int, failed: int) -> Pace:
        now = self._clock()
        self.done, self.of, self.failed = done, of, max(failed, self.failed)
        self._seen.append((now, done))
        while len(self._seen) > 2 and now - self._seen[0][0] > _WINDOW:
            self._seen.popleft()
        return self

    @property
    def seconds(self) -> float:
        return self._clock() - self._begun

    @property
    def rate(self) -> float | None:
        (before, first), (now, last) = self._seen[0], self._seen[-1]
        return (last - first) / (now - before) if now > before and last > first else None

    @property
    def left(self) -> float | None:
        rate = self.rate
        return (self.of - self.done) / rate if rate and self.done < self.of else None

    def words(self) -> str:
        """For people, after what is going on: " (20/60, 3.1 a second, 13 s left, 2 failed)"; "" without a count."""
        if not self.of:
            return ""
        parts = [f"{self.done:,}/{self.of:,}"]
        parts += [f"{self.rate:.3g} a second"] if self.rate else []
        parts += [f"{self.left:.0f} s left"] if self.left is not None else []
        parts += [f"{self.failed:,} failed"] if self.failed else []
        return f" ({', '.join(parts)})"

    def facts(self, what: str) -> dict[str, Any]:
        """For programs."""
        counts = {"done": self.done, "of": self.of, "failed": self.failed} if self.of else {}
        paces = {"seconds": self.seconds, "rate": self.rate, "left": self.left} if self.of else {}
        rounded = {name: None if value is None else round(value, 3) for name, value in paces.items()}
        return {"stage": stage_of(what), "what": what, **counts, **rounded}


def stage_of(what: str) -> str:
    return what.partition(":")[0]


def _reporter(every: float, report: Callable[[str, Pace], None]) -> Tell:
    """Reports each stage's first and last step, and others now and then."""
    paces: dict[str, Pace] = {}
    last: dict[str, float] = {}

    def tell(what: str, done: int, of: int, failed: int = 0) -> None:
        stage, now = stage_of(what), time.monotonic()
        pace = paces.setdefault(stage, Pace()).at(done, of, failed)
        if stage not in last or now - last[stage] >= every or of == done:
            last[stage] = now
            report(what, pace)

    return tell


@contextmanager
def _live() -> Iterator[Tell]:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[pace]}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        paces: dict[str, Pace] = {}
        tasks: dict[str, TaskID] = {}

        def tell(what: str, done: int, of: int, failed: int = 0) -> None:
            stage = stage_of(what)
            if stage in ("plan", "interrupted", "keys"):  # stays when the line has gone
                bar.console.print(what, markup=False, highlight=False)
                return
            if stage not in tasks:
                for task in bar.tasks:  # a stage whose steps nobody counted is over when the next one begins
                    if not task.total:
                        bar.update(task.id, visible=False)
                paces[stage] = Pace()
                tasks[stage] = bar.add_task("", total=of or None, pace="")
            pace = paces[stage].at(done, of, failed)
            described = what.replace("[", "\\[")
            bar.update(
                tasks[stage], description=described, completed=done, total=of or None, pace=pace.words().strip(" ()")
            )

        yield tell


def _line(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
