"""Images that kill the process which touches them: a codec that crashes on a damaged file, a picture too large for memory.

After a shard has killed two workers, its images are tried one by one in a process of their own, which says which it is about
to touch. One on which it dies twice is a pill: it is left out, with the reason, and all others are protected. Trying an image
is the work of a shard that holds it alone, in a folder that is thrown away: the very code that crashed.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

from release.build import Spread, Work
from release.engines._process import Child, sendable
from release.formats import Shard
from release.room import Room
from unlearnable.errors import UnlearnableError
from unlearnable.types import Record

TRIES = 2  # workers that a shard may kill, and processes that an image may

Start = Callable[..., Child]


def attempt(work: Work, shard: Shard, spread: Spread, room: Room, start: Start, careful: bool) -> Exception | None:
    """Does a shard; what it raised, as it can be sent to another process.

    careful: the shard has killed its workers, and the images that did it are looked for first and left out. start: makes
    the process that tries them.
    """
    try:
        if careful:
            work = replace(work, left_out={**work.left_out, **find(work, shard.records, start)})
        work.shard(shard, spread, room)
    except Exception as why:  # noqa: BLE001 - the parent raises it
        return sendable(why)
    return None


def find(work: Work, records: Sequence[Record], start: Start) -> dict[str, str]:
    """Reasons by the ids of the records that kill. Raises UnlearnableError when no process can be started."""
    found: dict[str, str] = {}
    first, deaths = 0, 0
    with TemporaryDirectory(prefix="unlearnable-") as scratch:
        while first < len(records):
            child = start(_try, work, tuple(records[first:]), scratch)
            try:
                reached = _heard(child.line)
                code = child.end()
            finally:
                child.kill()
                child.line.close()
            if code == 0:
                break
            if reached is None:
                raise UnlearnableError(
                    f"The process that tries images one by one ended before the first ({how(code)}).",
                    "Repeat the command; if it happens again, look whether memory is short.",
                )
            deaths = deaths + 1 if reached == 0 else 1  # the first of a new process is where the last one died
            first += reached
            if deaths == TRIES:
                found[records[first].id] = _reason(code)
                first, deaths = first + 1, 0
    return found


def killed(shard: Shard, how: str) -> UnlearnableError:
    """For a shard that killed its workers even without the images that kill."""
    first, last = shard.records[0].id, shard.records[-1].id
    return UnlearnableError(
        f"Workers died ({how}) on the {len(shard.records)} images from {first} to {last}, though none of them kills one "
        "when it is tried alone; all others are done.",
        "If memory ran out, repeat the command with --workers 1.",
    )


def how(code: int) -> str:
    """An exit code in words."""
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _reason(code: int) -> str:
    ended = how(code)
    why = "memory ran out, or somebody killed it" if ended == "SIGKILL" else "the codec crashed"
    return (
        f"reading or encoding it ends the process that does it ({ended}: {why}), twice when tried alone; "
        "save it anew with another program, or make it smaller, and repeat with --retry-failed"
    )


def _heard(line: Connection) -> int | None:
    """The last record that was announced before the line broke."""
    reached = None
    with suppress(EOFError, OSError):
        while True:
            reached = line.recv()
    return reached


def _try(line: Connection, work: Work, records: Sequence[Record], scratch: str) -> None:
    """The life of the process: each record announced, and then done."""
    _first_to_go()
    for number, record in enumerate(records):
        line.send(number)
        with TemporaryDirectory(dir=scratch) as folder, suppress(Exception):  # errors are raised again with the shard
            alone = replace(work, staging=Path(folder) / "staging", marks=Path(folder), depot=None)
            alone.shard(Shard(0, record.split, 0, 1, (record,)))


def _first_to_go() -> None:
    """Where memory runs out, the system ends this process and not one with a shard in hand."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
