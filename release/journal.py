"""log.jsonl in the owner folder: what every run did, one JSON object a line, 0600, appended to and never sent anywhere.

It names stages with their times, everything that was left out with the reason, versions, and how a run ended; a run
without an end was killed. It holds no key, nothing that makes one, and no picture. docs/output.md lists the events.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from release.manifest import utc_now
from release.progress import Pace, stage_of
from unlearnable.errors import UnlearnableError, disk_error
from unlearnable.types import Skipped, Tell

_EVERY = 30.0  # seconds between two lines of one stage that is under way


@contextmanager
def keep(path: Path, tell: Tell, **facts: Any) -> Iterator[Journal]:
    """Opens the log of one run; `facts` go into its first line. How the block ends is its last line.

    Raises UnlearnableError when the disk fails.
    """
    journal = Journal(path, tell)
    started = time.monotonic()
    journal.write("begin", **facts)
    ended: dict[str, Any] = {"how": "finished"}
    try:
        yield journal
    except KeyboardInterrupt:
        ended = {"how": "interrupted"}
        raise
    except UnlearnableError as why:
        ended = {"how": "failed", "code": why.exit_code, "message": why.message}
        raise
    except Exception as why:
        ended = {"how": "failed", "code": 1, "message": f"{type(why).__name__}: {why}"}
        raise
    finally:
        with contextlib.suppress(UnlearnableError):  # on a full disk there is a better error than this one
            journal.write("end", **ended, seconds=round(time.monotonic() - started, 2))


class Journal:
    """The log of one run, and a `tell` that notes stages in it before it hands them on."""

    def __init__(self, path: Path, tell: Tell) -> None:
        self._path, self._next = path, tell
        self._paces: dict[str, Pace] = {}
        self._last: dict[str, float] = {}

    def write(self, kind: str, **facts: Any) -> None:
        """One line, written at once, so that two runs never share one. A line that a killed run left torn is ended."""
        line = json.dumps({"time": utc_now(), "event": kind, **facts}, ensure_ascii=True) + "\n"
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                end = os.lseek(descriptor, 0, os.SEEK_END)
                torn = end > 0 and os.pread(descriptor, 1, end - 1) != b"\n"
                os.write(descriptor, ("\n" * torn + line).encode("ascii"))
            finally:
                os.close(descriptor)
        except OSError as why:
            raise disk_error(why, self._path) from why

    def tell(self, what: str, done: int, of: int, failed: int = 0) -> None:
        """Hears progress, notes the first and last step of a stage and some between, and hands it on."""
        stage, now = stage_of(what), time.monotonic()
        pace = self._paces.setdefault(stage, Pace()).at(done, of, failed)
        if stage not in self._last or now - self._last[stage] >= _EVERY or done == of:
            self._last[stage] = now
            self.write("stage" if of else "message", **pace.facts(what))
        self._next(what, done, of, failed)

    def skipped(self, items: Sequence[Skipped]) -> None:
        """Everything that was found and left out. image: false for what never was an image."""
        for item in items:
            self.write("skipped", id=item.id, reason=item.reason, image=item.image)
