"""One process a core, each with whole shards; or, where that does not pay, one process with the shards one after another.

Workers are forked: a process that started anew would import torch for seconds and hold it again. They have one thread each,
hear no Ctrl-C (the shard under way is finished) and end with their parent. A worker that dies, killed by hand or for want of
memory, costs its shard one more try by another. Where systems have no safe fork, and for methods that are crafted on a
device, threads in this process encode while the next images are read.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import pickle
import signal
import sys
import traceback
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from typing import Any, cast

from release.build import Work
from release.formats import Shard
from release.room import Room
from unlearnable.errors import UnlearnableError

FEW_IMAGES, FEW_BYTES = 200, 8 << 20  # below both, starting workers takes longer than the work
_TRIES = 2
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


def run(work: Work, shards: Sequence[Shard]) -> Iterator[Shard]:
    """Does the shards and yields each when it is done, in any order.

    Raises what a shard raised, when those under way are done, and UnlearnableError for one that killed two workers, when
    all others are.
    """
    if processes(work, shards) == 1:
        return _threads(work, shards)
    return _workers(work, shards, processes(work, shards))


def processes(work: Work, shards: Sequence[Shard]) -> int:
    """How many `run` will use."""
    images = sum(len(shard.records) for shard in shards)
    size = sum(record.size for shard in shards for record in shard.records)
    few = images < FEW_IMAGES and size < FEW_BYTES
    return 1 if few or not work.apart or sys.platform != "linux" else max(1, min(work.settings.workers, len(shards)))


def _threads(work: Work, shards: Sequence[Shard]) -> Iterator[Shard]:
    with _alone(work.apart), ThreadPoolExecutor(work.settings.workers, initializer=_one_thread) as pool:
        for shard in shards:
            work.shard(shard, pool.map)
            yield shard


class _Worker:
    """A process that does one shard after another, and the parent's end of its line."""

    def __init__(self, work: Work, source: bytes, shards: Sequence[Shard]) -> None:
        context = multiprocessing.get_context("fork")
        self.line, theirs = context.Pipe()
        self.process = context.Process(target=_live, args=(work, source, shards, theirs, self.line), daemon=True)
        self.process.start()
        theirs.close()
        self.number: int | None = None

    def give(self, number: int | None) -> None:
        """The number of its next shard; None: it may go."""
        self.number = number
        with contextlib.suppress(OSError):  # it is dead, which `wait` tells
            self.line.send(number)


def _workers(work: Work, shards: Sequence[Shard], count: int) -> Iterator[Shard]:
    source = pickle.dumps(work.source)
    todo, tried = deque(range(len(shards))), Counter[int]()
    killed: list[UnlearnableError] = []
    failed: list[Exception] = []
    workers: list[_Worker] = []
    try:
        for _ in range(count):
            workers.append(_Worker(work, source, shards))
            workers[-1].give(todo.popleft())
        while busy := {worker.line: worker for worker in workers if worker.number is not None}:
            for line in wait(list(busy)):
                worker = busy[cast(Connection, line)]
                number = cast(int, worker.number)
                try:
                    why = worker.line.recv()
                except (EOFError, OSError):  # it died
                    worker.process.join()
                    tried[number] += 1
                    if tried[number] < _TRIES:
                        todo.append(number)
                    else:
                        killed.append(_killed(shards[number], worker.process.exitcode))
                    workers.remove(worker)
                    workers.append(worker := _Worker(work, source, shards))
                else:
                    if why is None:
                        yield shards[number]
                    else:
                        failed.append(why)
                worker.give(todo.popleft() if todo and not failed else None)
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
            worker.process.join()
    finally:
        for worker in workers:
            worker.process.kill()
            worker.line.close()


def _killed(shard: Shard, code: int | None) -> UnlearnableError:
    first, last = shard.records[0].id, shard.records[-1].id
    how = signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"
    return UnlearnableError(
        f"Two workers died ({how}) on the {len(shard.records)} images from {first} to {last}; all others are done.",
        "If memory ran out, repeat the command with --workers 1; else find the image that does it and leave it out.",
    )


def _live(*given: Any) -> None:
    """A worker's whole life. It ends without Python's way of ending: that flushes streams, which wait for ever where a
    thread of the parent, the one that draws the live progress line, was writing at the moment of the fork."""
    code = 1
    try:
        _serve(*given)
        code = 0
    finally:
        os._exit(code)


def _serve(work: Work, source: bytes, shards: Sequence[Shard], line: Connection, parents: Connection) -> None:
    parents.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    _one_thread()
    room = Room(work.marks)
    work = replace(work, source=pickle.loads(source))  # an archive that is open here would share its place with others
    while True:
        try:
            number = line.recv()
        except EOFError:
            return
        if number is None:
            return
        try:
            work.shard(shards[number], map, room)
        except Exception as why:  # noqa: BLE001 - the parent raises it
            line.send(_sendable(why))
        else:
            line.send(None)


def _sendable(why: Exception) -> Exception:
    """The exception, or what it says, where it cannot be sent or is a fault of ours."""
    if isinstance(why, UnlearnableError | OSError):
        return why
    return RuntimeError("".join(traceback.format_exception(why)))


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@contextmanager
def _alone(yes: bool) -> Iterator[None]:
    """One thread of torch in here too: closed forms must not depend on how many there are, and threads not fight."""
    import torch

    before = torch.get_num_threads()
    if yes:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
