"""SHA-256 of files and of trees: streamed, threaded, always in the same order."""

from __future__ import annotations

import ctypes
import hashlib
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

_BATCH = 4096  # files queued at a time, so that memory stays flat on a tree of millions
_TASK = 32  # files a thread takes at once: handing over one thumbnail takes longer than hashing it
_SMALL = 1 << 16  # bytes, read in one piece
_FEW = 8  # files that are brought to the disk one by one
_syncfs = getattr(ctypes.CDLL(None), "syncfs", None) if sys.platform == "linux" else None


def sha256(path: Path, *, durable: bool = False) -> str:
    """Hexadecimal SHA-256 of a file, read in pieces. `durable` also forces it to the disk. Raises OSError."""
    return _sha256(str(path), durable)


def settle(root: Path, paths: Sequence[str]) -> None:
    """Returns when these files below `root` are on the disk, and not only in the system's memory. Raises OSError.

    Many at once take one request to the file system where there is such a thing (Linux), for one each is what protecting
    small photos would spend a fifth of its time on.
    """
    if len(paths) > _FEW and _syncfs is not None:
        descriptor = os.open(root, os.O_RDONLY)
        try:
            if _syncfs(descriptor) == 0:
                return
        finally:
            os.close(descriptor)
    for path in paths:  # also after a failure: that names the file
        with (root / path).open("rb") as file:
            os.fsync(file.fileno())


def _sha256(path: str, durable: bool) -> str:
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        start = os.read(descriptor, _SMALL)
        digest = hashlib.sha256(start)
        if len(start) == _SMALL:
            with open(descriptor, "rb", buffering=0, closefd=False) as file:  # from where the first piece ended
                digest = hashlib.file_digest(file, lambda: digest)
            start = b""
        while start:  # a disk may give less than was asked for
            start = os.read(descriptor, _SMALL)
            digest.update(start)
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return digest.hexdigest()


def digests(root: Path, paths: Sequence[str], *, durable: bool = False) -> Iterator[tuple[str, str | OSError]]:
    """(path, digest) for paths below `root`, in the order given; the error in place of a digest that failed."""
    above = str(root) + os.sep

    def some(named: Sequence[str]) -> list[str | OSError]:
        found: list[str | OSError] = []
        for path in named:
            try:
                found.append(_sha256(above + path, durable))
            except OSError as why:
                found.append(why)
        return found

    # hashlib and the file system release the interpreter, so threads are enough; more of them than cores hide the disk.
    with ThreadPoolExecutor(min(16, 2 * (os.cpu_count() or 1))) as pool:
        for start in range(0, len(paths), _BATCH):
            batch = paths[start : start + _BATCH]
            # of small files, threads spend more on waiting for the interpreter than the hashing takes
            over = map if _are_small(above, batch) else pool.map
            tasks = [batch[at : at + _TASK] for at in range(0, len(batch), _TASK)]
            for named, found in zip(tasks, over(some, tasks), strict=True):
                yield from zip(named, found, strict=True)


def _are_small(above: str, paths: Sequence[str]) -> bool:
    """Whether these files are small, judged by sixteen of them."""
    sizes = []
    for path in paths[:: len(paths) // 16 + 1]:
        with suppress(OSError):
            sizes.append(os.lstat(above + path).st_size)
    return sum(sizes) <= _SMALL * len(sizes)


def walk(root: Path, ignore: Sequence[str] = ()) -> dict[str, str]:
    """Every entry below `root` that is not a folder: sorted POSIX path -> "file", "link", "special" or "unreadable".

    Links are named and never followed. `ignore` are paths, relative to `root`, that are left out with all below them.
    A folder that cannot be listed is an entry itself, "unreadable". Names that are not UTF-8 are spelled with escapes.
    """
    found: dict[str, str] = {}
    waiting = [""]
    above = str(root) + os.sep  # no Path for each entry: it would take longer than the hashing of small files
    while waiting:
        folder = waiting.pop()
        try:
            entries = list(os.scandir(above + folder))
        except OSError:
            found[_spell(folder or ".")] = "unreadable"
            continue
        for entry in entries:
            name = f"{folder}/{entry.name}" if folder else entry.name
            relative = _spell(name)
            if relative in ignore:
                continue
            if entry.is_dir(follow_symlinks=False):
                waiting.append(name)
            else:
                found[relative] = _kind(entry)
    return dict(sorted(found.items()))


def _kind(entry: os.DirEntry[str]) -> str:
    return "link" if entry.is_symlink() else "file" if entry.is_file(follow_symlinks=False) else "special"


def _spell(relative: str) -> str:
    return relative if relative.isascii() else os.fsencode(relative).decode("utf-8", "backslashreplace")
