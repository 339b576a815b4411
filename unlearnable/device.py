"""Where to compute, and in which precision."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, CancelledError, ThreadPoolExecutor, wait
from functools import cache
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor

from unlearnable.errors import UnlearnableError, UsageError


def pick(name: str) -> torch.device:
    """ "auto" is CUDA, else MPS, else CPU. Raises UsageError when the named device is not there."""
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device("cuda" if present["cuda"] else "mps" if present["mps"] else "cpu")
    if not present.get(name.partition(":")[0], False):
        here = ", ".join(kind for kind, there in present.items() if there)
        raise UsageError(f"There is no device {name!r} here.", f"Present: {here}; --device auto picks the fastest.")
    return torch.device(name)


def autocast(device: torch.device) -> torch.autocast:
    """bfloat16 for convolutions and products where it is faster and costs no accuracy; float32 elsewhere and on MPS."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type != "mps")


@cache
def keep_memory() -> bool:
    """Has glibc keep what is freed between two steps of a network; False elsewhere. For the rest of the process.

    It would hand the activations of every step back to the system and ask for them again, page by page: 5 % of the time of
    crafting on a CPU. What stays is memory that was needed a moment before, and what comes next uses it.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # not glibc's, or not Linux
        return False
    return all(mallopt(*option) for option in ((_MMAP_THRESHOLD, 32 << 20), (_TRIM_THRESHOLD, 512 << 20)))


_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h; glibc itself moves the second up to these 32 MB
_FEWER = "Take smaller batches with --set batch=, a smaller --size or network, or another --device."

_worker = threading.local()
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def side_by_side(
    work: Callable[[_Item], _Result], items: Sequence[_Item], device: torch.device, workers: int | None = None
) -> list[_Result]:
    """Results of `work` in the order of `items`, `workers` of them at a time: `at_once` of them unless told otherwise.

    Small networks scale badly over threads, and two threads on a busy machine wait for each other: training six victims
    two by two is quicker than one after the other, and much quicker when something else runs. On a GPU each worker has a
    stream of its own, as small networks leave most of it idle. No work may draw from a generator that others see.

    When one fails no other is begun, and those under way are finished first: they may keep what they found.
    """
    workers = min(len(items), workers or at_once(len(items), device))
    before, stop = torch.get_num_threads(), threading.Event()
    if workers <= 1:
        return [work(item) for item in items]
    if device.type == "cuda":
        torch.cuda.synchronize(device)  # other streams do not wait for what this one still copies

    def begin() -> None:
        _worker.stop = stop
        if device.type == "cuda":
            torch.cuda.set_stream(torch.cuda.Stream(device))  # type: ignore[no-untyped-call]
        else:
            torch.set_num_threads(1)

    failures: list[BaseException] = []

    def one(item: _Item) -> _Result:
        if failures:
            raise CancelledError
        try:
            return work(item)
        except BaseException as why:
            failures.append(why)
            raise

    pool = ThreadPoolExecutor(workers, initializer=begin)
    try:
        futures = [pool.submit(one, item) for item in items]
        wait(futures, return_when=FIRST_EXCEPTION)
        if failures:
            if isinstance(failures[0], Exception):
                pool.shutdown(cancel_futures=True)
            raise failures[0]
        return [each.result() for each in futures]
    except BaseException as why:
        if not isinstance(why, Exception):
            stop.set()  # an interruption must not wait for trainings that may take hours
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)


def at_once(items: int, device: torch.device) -> int:
    """How many of them `side_by_side` works on at a time, unless told: on a CPU one per core, on a GPU one."""
    return min(items, os.cpu_count() or 1) if device.type == "cpu" and torch.get_num_threads() > 1 else 1


def stopped() -> bool:
    """Whether the `side_by_side` that this thread works for has been given up. Long work asks now and then."""
    stop: threading.Event | None = getattr(_worker, "stop", None)
    return stop is not None and stop.is_set()


def out_of_memory(why: BaseException) -> bool:
    """Whether a computation failed for want of memory, on a GPU or in the machine."""
    return isinstance(why, torch.OutOfMemoryError | MemoryError) or (
        isinstance(why, RuntimeError) and "can't allocate memory" in str(why)
    )


class Room:
    """How many images are worked on at once: `size`, or all that come, and half as many from where memory ran out.

    least: the fewest that it goes down to. Raises UnlearnableError where these do not fit either.
    """

    def __init__(self, tell: Callable[[str], None], size: int = sys.maxsize, least: int = 1) -> None:
        self.tell, self.size, self.least = tell, size, least

    def parts(self, work: Callable[[slice], _Result], count: int) -> list[_Result]:
        """Results of `work` on slices of at most `size` that cover 0..count."""
        results: list[_Result] = []
        first = 0
        while first < count:
            part = slice(first, min(first + self.size, count))
            try:
                results.append(work(part))
            except (RuntimeError, MemoryError) as why:
                self._halve(why, count - first)
            else:
                first = part.stop
        return results

    def gradients(self, loss: Callable[[slice], Tensor], count: int, optimiser: torch.optim.Optimizer) -> Tensor:
        """Puts the gradients of the mean loss of `count` images where the optimiser takes them; that loss.

        loss: the mean over a slice. Where memory runs out the step begins again in even parts, each weighed by its images:
        the same step, but that batch normalisation sees every part on its own.
        """

        def one(part: slice) -> Tensor:
            mean: Tensor = loss(part) * ((part.stop - part.start) / count)
            mean.backward()  # type: ignore[no-untyped-call]
            return mean.detach()

        while True:
            optimiser.zero_grad(set_to_none=True)
            parts = max(1, min(-(-count // self.size), count // self.least))
            ends = [count * number // parts for number in range(parts + 1)]
            try:
                return torch.stack([one(slice(*part)) for part in pairwise(ends)]).sum()
            except (RuntimeError, MemoryError) as why:
                self._halve(why, count)

    def _halve(self, why: BaseException, count: int) -> None:
        """Raises what is no want of memory again. count: the images that were left."""
        if not out_of_memory(why):
            raise why
        tried = min(self.size, count)
        if tried <= self.least:
            few = "One image alone does not fit" if tried == 1 else f"{tried} images at once do not fit"
            way = "Choose a smaller --size, or another --device." if tried == 1 else _FEWER
            raise UnlearnableError(f"{few} in the memory.", way) from why
        self.size = max(self.least, (tried + 1) // 2)
        self.tell(f"out of memory: going on with {self.size} images at once")
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def in_parts(
    work: Callable[[slice], _Result], count: int, size: int, tell: Callable[[str], None] = lambda message: None
) -> list[_Result]:
    """Results of `work` on slices of at most `size` that cover 0..count; where memory runs out, on half as many at once."""
    return Room(tell, size).parts(work, count)


def describe(device: torch.device) -> str:
    """The device in words, for receipts: crafted bytes repeat only on the same kind."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
