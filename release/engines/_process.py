"""Processes of ours and the lines to them, for engines and for what looks for images that kill.

A forked one has all that its parent has at once, and is for Linux and parents with little else going on. A fresh one starts
anew, imports what it needs and is sent the rest pickled: for parents that hold a GPU or run many threads. It needs no
guarded `__main__`, as multiprocessing's does. Both hear no Ctrl-C and end with their parent.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import pickle
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import is_dataclass, replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from unlearnable.errors import UnlearnableError

if TYPE_CHECKING:
    from release.build import Work

_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG
_ROOT = str(Path(__file__).resolve().parents[2])
_PROGRAM = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[2]); from release.engines import _process as p; p.begin()"
)

Life = Callable[..., None]  # the child's end of the line and what was given with it: all that a child does


class Child(Protocol):
    """A process and the parent's end of its line."""

    line: Connection

    def end(self) -> int:
        """Waits until it has ended; its exit code, or minus the signal that ended it."""

    def kill(self) -> None:
        """Ends it, if it has not ended."""


class Forked:
    """A copy of this process that lives `life`. It ends without Python's way of ending: that flushes streams, which wait for
    ever where a thread of the parent, the one that draws the live progress line, was writing at the moment of the fork."""

    def __init__(self, life: Life, *given: Any) -> None:
        self.line, theirs = Pipe()
        self._code: int | None = None
        self._pid = os.fork()
        if not self._pid:
            code = 1
            try:
                self.line.close()
                _take_leave()
                life(theirs, *given)
                code = 0
            finally:
                os._exit(code)
        theirs.close()

    def end(self) -> int:
        if self._code is None:
            self._code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        return self._code

    def kill(self) -> None:
        if self._code is None:
            os.kill(self._pid, signal.SIGKILL)
            self.end()


class Fresh:
    """A new Python that lives `life`, a module's own function; it and what is given must pickle."""

    def __init__(self, life: Life, *given: Any) -> None:
        sent = pickle.dumps((life, given))
        self.line, theirs = Pipe()
        words = [sys.executable, "-c", _PROGRAM, str(theirs.fileno()), json.dumps([_ROOT, *sys.path])]
        # whatever it prints is no result of ours
        self._process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=2, pass_fds=[theirs.fileno()])
        theirs.close()
        with contextlib.suppress(OSError):  # it is dead, which `end` tells
            self.line.send_bytes(sent)

    def end(self) -> int:
        return self._process.wait()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


def begin() -> None:
    """What a fresh process does first: it reads its life and lives it."""
    _take_leave()
    line = Connection(int(sys.argv[1]))
    sent = line.recv_bytes()
    life, given = pickle.loads(sent)
    life(line, *given)


def _take_leave() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)


def portable(work: Work, device: str | None = None) -> Work:
    """The work as it can be sent: its perturbations tell nobody how they get on, and are made on `device`, if that is given."""
    context = getattr(work.perturb, "context", None)
    if context is None or not is_dataclass(work.perturb):
        return work
    context = replace(context, device=device or context.device, tell=type(context).tell)
    return replace(work, perturb=replace(work.perturb, context=context))


def sendable(why: Exception) -> Exception:
    """The exception, or what it says, where it cannot be sent or is a fault of ours."""
    if isinstance(why, UnlearnableError | OSError):
        return why
    return RuntimeError("".join(traceback.format_exception(why)))


def set_threads(count: int = 1) -> None:
    import torch

    torch.set_num_threads(count)


def threads() -> int:
    """How many threads torch has here. Crafting has as many everywhere, or sums might be added up in another order."""
    import torch

    return torch.get_num_threads()


@contextmanager
def spread(workers: int, *, one: bool) -> Iterator[Callable[..., Iterator[Any]]]:
    """A `map` over threads that encode. one: torch has one thread in here too: closed forms must not depend on how many
    there are, and threads not fight."""
    before = threads()
    if one:
        set_threads()
    try:
        if one and workers == 1:  # a thread of its own would only wait for this one, and this one for it
            yield map
            return
        with ThreadPoolExecutor(workers, initializer=set_threads) as pool:
            yield pool.map
    finally:
        set_threads(before)
