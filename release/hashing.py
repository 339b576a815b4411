"""SHA-256 of files and of trees: streamed, threaded, always in the same order."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_BATCH = 4096  # files queued at a time, so that memory stays flat on a tree of millions


def sha256(path: Path, *, durable: bool = False) -> str:
    """Hexadecimal SHA-256 of a file, read in pieces. `durable` also forces it to the disk. Raises OSError."""
    with path.open("rb", buffering=0) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        if durable:
            os.fsync(file.fileno())
    return digest


def digests(root: Path, paths: Sequence[str], *, durable: bool = False) -> Iterator[tuple[str, str | OSError]]:
    """(path, digest) for paths below `root`, in the order given; the error in place of a digest that failed."""

    def one(path: str) -> str | OSError:
        try:
            return sha256(root / path, durable=durable)
        except OSError as why:
            return why

    # hashlib and the file system release the interpreter, so threads are enough; more of them than cores hide the disk.
    with ThreadPoolExecutor(min(16, 2 * (os.cpu_count() or 1))) as pool:
        for start in range(0, len(paths), _BATCH):
            batch = paths[start : start + _BATCH]
            yield from zip(batch, pool.map(one, batch), strict=True)


def walk(root: Path, ignore: Sequence[str] = ()) -> dict[str, str]:
    """Every entry below `root` that is not a folder: sorted POSIX path -> "file", "link", "special" or "unreadable".

    Links are named and never followed. `ignore` are paths, relative to `root`, that are left out with all below them.
    A folder that cannot be listed is an entry itself, "unreadable". Names that are not UTF-8 are spelled with escapes.
    """
    found: dict[str, str] = {}
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError:
            found[_spell(folder.relative_to(root))] = "unreadable"
            continue
        for entry in entries:
            path = Path(entry.path)
            relative = _spell(path.relative_to(root))
            if relative in ignore:
                continue
            if entry.is_dir(follow_symlinks=False):
                waiting.append(path)
            else:
                found[relative] = _kind(entry)
    return dict(sorted(found.items()))


def _kind(entry: os.DirEntry[str]) -> str:
    mode = entry.stat(follow_symlinks=False).st_mode
    return "link" if stat.S_ISLNK(mode) else "file" if stat.S_ISREG(mode) else "special"


def _spell(relative: Path) -> str:
    return os.fsencode(relative.as_posix()).decode("utf-8", "backslashreplace")
