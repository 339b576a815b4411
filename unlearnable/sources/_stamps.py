"""Whether a file is still the one that was listed: by its size and its time, as `make` and `rsync` tell.

A photo that is edited while a run goes on must neither ship half old and half new, nor beside images that were fitted to
its old self; it is reported, and the next run takes it as it then is.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from unlearnable.errors import ImageError, IntegrityError

Stamp = tuple[int, int]  # bytes, modification time in nanoseconds


def of(path: Path) -> Stamp:
    """Raises OSError when there is no such file."""
    return _stamp(path.stat())


def require(path: Path, seen: Stamp) -> None:
    """Raises IntegrityError when the archive or table was changed: its records may lie elsewhere in it now."""
    if of(path) != seen:
        raise IntegrityError(f"{path} was changed while we ran.", "Repeat the command.")


class Files:
    """Files below `root`, each as it was when this was made. Call it with a name for the bytes."""

    def __init__(self, root: Path, names: Iterable[str]) -> None:
        self._root = root
        self._seen: dict[str, Stamp] = {}
        for name in names:
            self._seen[name] = _found(root / name)

    def stamp(self, name: str) -> Stamp:
        """Of a file beside the images, as it is now."""
        return self._seen.get(name) or _found(self._root / name)

    def __call__(self, name: str) -> bytes:
        """The bytes of root/name. Raises ImageError when it has vanished, cannot be read or was changed."""
        try:
            with (self._root / name).open("rb") as file:
                before, data, after = os.fstat(file.fileno()), file.read(), os.fstat(file.fileno())
        except OSError as why:
            raise ImageError(f"{name} cannot be read ({why.strerror}).", "Was it moved while we ran?") from why
        if name in self._seen and not self._seen[name] == _stamp(before) == _stamp(after):
            raise ImageError(f"{name} was changed while we ran.", "Protect it as it now is: --retry-failed.")
        return data


def _found(path: Path) -> Stamp:
    try:
        return of(path)
    except OSError:  # it has just gone; reading it will say so
        return 0, 0


def _stamp(found: os.stat_result) -> Stamp:
    return found.st_size, found.st_mtime_ns
