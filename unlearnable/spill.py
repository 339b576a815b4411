"""Sets of pictures as tensors: in memory, or in a file of the owner's where they would take too much of it.

A set that would take more than SHARE of the free memory is mapped from a file instead: every picture is decoded once, by
several workers, and read as often as there are epochs and networks. Decoding in every epoch would need no disk, but a hundred
epochs of nine networks would decode each photo nine hundred times, where its view has 12 kB. The tensor is one like any other,
so that what is trained on it is the same to the bit; `ahead` has its batches read while the last one is learned from.

The file holds clean pixels: it lies in the owner's own folder, may be read by them alone, and loses its name before anything is
written to it, so that it is gone with the process, however that ends.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from math import prod
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from unlearnable import cache
from unlearnable.errors import UnlearnableError

SHARE = 0.25  # of the memory that is free: a study has four sets, a countermeasure one more
_LEAST = 64 << 20  # bytes that no file is worth
_MOST_WORKERS = 8
_EACH_AHEAD = 4
_AT_ONCE = 2000  # pictures that are copied together
_folders: list[Path] = []

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@contextmanager
def into(folder: Path) -> Iterator[None]:
    """Inside, files lie in this folder, whichever thread makes them; otherwise, in the owner's cache."""
    _folders.append(folder)
    try:
        yield
    finally:
        _folders.pop()


def empty(*shape: int, dtype: torch.dtype = torch.uint8, device: torch.device | None = None) -> Tensor:
    """A tensor that is to be filled, in memory (of the device) or in a file. Raises UnlearnableError where it fits neither."""
    size = prod(shape) * dtype.itemsize
    if (device is not None and device.type != "cpu") or size <= room():
        return torch.empty(shape, dtype=dtype, device=device)
    folder = _folders[-1] if _folders else cache.folder() or Path(tempfile.gettempdir())
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, name = tempfile.mkstemp(prefix=".pictures.", dir=folder)
        with closing(os.fdopen(handle, "wb")) as file:
            try:
                _reserve(file.fileno(), folder, size)  # a page that finds no room when it is written ends the process
                flat = torch.from_file(name, shared=True, size=prod(shape), dtype=dtype)
            finally:
                Path(name).unlink()
    except OSError as why:
        there = shutil.disk_usage(folder).free if folder.is_dir() else 0
        raise UnlearnableError(
            f"{size / 1e9:.1f} GB of pictures do not fit in memory, nor into {folder} ({there / 1e9:.1f} GB free: "
            f"{why.strerror or why}).",
            "Free space there, or look at fewer images: --protocol (of protect: --verify) quick, or a file with train_images.",
        ) from why
    return flat.view(shape)


def spilled(images: Tensor) -> bool:
    """Whether they lie in a file, as a whole or a part of what `empty` gave."""
    return images.device.type == "cpu" and images.untyped_storage().filename is not None


def take(images: Tensor, chosen: Tensor) -> Tensor:
    """A copy of the chosen pictures: positions, or a bool for each."""
    where = chosen.nonzero()[:, 0] if chosen.dtype == torch.bool else chosen
    out = empty(len(where), *images.shape[1:], dtype=images.dtype, device=images.device)
    for to, which in zip(torch.split(out, _AT_ONCE), torch.split(where, _AT_ONCE), strict=True):
        to.copy_(images[which])
    return out


def ahead(work: Callable[[_Item], _Result], items: Iterable[_Item], workers: int | None = None) -> Iterator[_Result]:
    """Results of `work` in the order of `items`, some of them done by threads before they are asked for."""
    count = workers or min(_MOST_WORKERS, os.cpu_count() or 1)
    waiting: deque[Future[_Result]] = deque()
    with ThreadPoolExecutor(count) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > _EACH_AHEAD * count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for each in waiting:
                each.cancel()


def fits(size: int, device: torch.device) -> bool:
    """Whether so many bytes of pictures may lie on the device that networks are trained on."""
    return device.type != "cuda" or size <= SHARE * torch.cuda.mem_get_info(device)[0]


def room() -> float:
    """Bytes that one set may take of the memory."""
    return max(_LEAST, SHARE * _free())


def _free() -> int:
    """Bytes of memory that may still be taken: of the machine's, and of what a container is given."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    with suppress(OSError):
        facts = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        found.append(int(facts["MemAvailable"].split()[0]) << 10)
    with suppress(OSError, ValueError):  # "max" is no number: no limit
        group = Path("/sys/fs/cgroup")
        facts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        taken = int((group / "memory.current").read_text()) - int(facts["inactive_file"]) - int(facts["active_file"])
        found.append(int((group / "memory.max").read_text()) - taken)
    return max(0, min(found))


def _reserve(file: int, folder: Path, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    elif size > shutil.disk_usage(folder).free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    else:
        os.ftruncate(file, size)
