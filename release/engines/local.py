"""This machine: a process a core, each with whole shards; a process a GPU; or one process with the shards one after another.

Closed forms: workers are forked, as a process that started anew would import torch for seconds and hold it again. They have
one thread each, hear no Ctrl-C (the shard under way is finished) and end with their parent. A worker that dies, killed by
hand or for want of memory, costs its shard one more try by another; after the second the images that kill are looked for and
left out. Where systems have no safe fork, and where few images are not worth it, threads encode in this process.

Methods that are crafted on networks: on more than one GPU (a device without a number: cuda, not cuda:1), a fresh process a
GPU does whole shards; on one device, this process does. In both, the next images are decoded while these are crafted and
encoded.
"""

from __future__ import annotations

import contextlib
import importlib
import pickle
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

from release import formats
from release.build import Work
from release.engines import _pills
from release.engines._process import Child, Forked, Fresh, portable, set_threads, spread, threads
from release.formats import Shard
from release.room import Room
from unlearnable.errors import UnlearnableError

FEW_IMAGES, FEW_BYTES = 200, 8 << 20  # below both, starting workers takes longer than the work


def run(work: Work, shards: Sequence[Shard]) -> Iterator[Shard]:
    """Does the shards and yields each when it is done, in any order.

    Raises what a shard raised, when those under way are done, and UnlearnableError for one that killed its workers even
    without the images that kill, when all others are.
    """
    count = processes(work, shards)
    if count == 1:
        return _threads(work, shards)
    return _many(work, shards, count) if work.apart else _on_devices(work, shards, devices(work)[:count])


def processes(work: Work, shards: Sequence[Shard]) -> int:
    """How many `run` will use."""
    if not work.apart:
        return max(1, min(len(devices(work)), len(shards)))
    images = sum(len(shard.records) for shard in shards)
    size = sum(record.size for shard in shards for record in shard.records)
    few = images < FEW_IMAGES and size < FEW_BYTES
    return 1 if few or sys.platform != "linux" else max(1, min(work.settings.workers, len(shards)))


def devices(work: Work) -> tuple[str, ...]:
    """The devices that a crafted method is spread over: every GPU that is visible, where it was given none by its number."""
    device = getattr(getattr(work.perturb, "context", None), "device", "cpu")
    if device != "cuda":
        return (device,)
    import torch

    return tuple(f"cuda:{number}" for number in range(torch.cuda.device_count()))


def _threads(work: Work, shards: Sequence[Shard]) -> Iterator[Shard]:
    with spread(work.settings.workers, one=work.apart) as over:
        for shard in shards:
            work.shard(shard, over)
            yield shard


def _many(work: Work, shards: Sequence[Shard], count: int) -> Iterator[Shard]:
    """On so many forked processes, which share the room in memory for large pictures."""
    source = pickle.dumps(work.source)
    for name in ("pyarrow", *getattr(formats.load(work.settings.layout), "IMPORTS", ())):
        importlib.import_module(name)  # else every worker does it for itself, a third of a second long
    with TemporaryDirectory(prefix="unlearnable-") as room:
        starts = [lambda: Forked(_serve, work, source, shards, Path(room))] * count
        yield from _workers(starts, shards)


def _on_devices(work: Work, shards: Sequence[Shard], names: Sequence[str]) -> Iterator[Shard]:
    """On a fresh process for each of these devices: what holds a GPU cannot be forked."""
    at_once = max(1, work.settings.workers // len(names))

    def start(name: str) -> Callable[[], Child]:
        there = portable(replace(work, settings=replace(work.settings, workers=at_once)), name)
        return lambda: Fresh(_serve_device, there, shards, threads())

    return _workers([start(name) for name in names], shards)


class _Worker:
    """A process that does one shard after another; started anew when it dies."""

    def __init__(self, start: Callable[[], Child]) -> None:
        self._start = start
        self.child = start()
        self.number: int | None = None

    def give(self, number: int | None, careful: bool = False) -> None:
        """The number of its next shard, and whether that has killed two; None: it may go."""
        self.number = number
        with contextlib.suppress(OSError):  # it is dead, which `wait` tells
            self.child.line.send(None if number is None else (number, careful))

    def again(self) -> int:
        """A new process in the place of one that died, whose exit code it returns."""
        code = self.child.end()
        self.child.line.close()
        self.child = self._start()
        return code


def _workers(starts: Sequence[Callable[[], Child]], shards: Sequence[Shard]) -> Iterator[Shard]:
    todo, died = deque(range(len(shards))), Counter[int]()
    killed: list[UnlearnableError] = []
    failed: list[Exception] = []
    workers: list[_Worker] = []
    try:
        for start in starts:
            workers.append(_Worker(start))
            workers[-1].give(todo.popleft())
        while busy := {worker.child.line: worker for worker in workers if worker.number is not None}:
            for line in wait(list(busy)):
                worker = busy[cast(Connection, line)]
                number = cast(int, worker.number)
                try:
                    why = worker.child.line.recv()
                except (EOFError, OSError):
                    worker.number = None
                    code = worker.again()
                    died[number] += 1
                    if died[number] <= _pills.TRIES:
                        todo.append(number)
                    else:
                        killed.append(_pills.killed(shards[number], _pills.how(code)))
                else:
                    if why is None:
                        yield shards[number]
                    else:
                        failed.append(why)
                following = todo.popleft() if todo and not failed else None
                worker.give(following, following is not None and died[following] >= _pills.TRIES)
    finally:
        _dismiss(workers)
    for why in [*failed, *killed]:
        raise why


def _dismiss(workers: Sequence[_Worker]) -> None:
    """Lets every worker finish its shard; if that is interrupted, they are killed."""
    try:
        for worker in workers:
            worker.give(None)
        for worker in workers:
            worker.child.end()
    finally:
        for worker in workers:
            worker.child.kill()
            worker.child.line.close()


def _serve(line: Connection, work: Work, source: bytes, shards: Sequence[Shard], folder: Path) -> None:
    """A forked worker's whole life."""
    set_threads()
    work = replace(work, source=pickle.loads(source))  # an archive that is open here would share its place with others
    with contextlib.closing(Room(folder)) as room:
        for number, careful in _given(line):
            line.send(_pills.attempt(work, shards[number], map, room, Forked, careful))


def _serve_device(line: Connection, work: Work, shards: Sequence[Shard], torchs: int) -> None:
    """The life of a worker with a device of its own."""
    set_threads(torchs)
    with spread(work.settings.workers, one=False) as over:
        for number, careful in _given(line):
            line.send(_pills.attempt(work, shards[number], over, Room(), Fresh, careful))


def _given(line: Connection) -> Iterator[tuple[int, bool]]:
    """The shards that come over the line, until the parent says that this was all, or is gone."""
    while True:
        try:
            job = line.recv()
        except EOFError:
            return
        if job is None:
            return
        yield job
