"""The files of a release where they lie: on this machine, or (release.depot) on remote storage."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from release import hashing


class Tree:
    """A folder on this machine. Digests are found once: what is asked for again is not read again."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._digests: dict[str, str] = {}

    def __str__(self) -> str:
        return str(self.root)

    def walk(self, ignore: Sequence[str] = ()) -> dict[str, str]:
        """Path -> kind of every entry, see hashing.walk."""
        return hashing.walk(self.root, ignore)

    def read(self, path: str) -> bytes:
        return (self.root / path).read_bytes()

    def size(self, path: str) -> int:
        return os.lstat(f"{self.root}{os.sep}{path}").st_size

    def digests(self, paths: Sequence[str], *, durable: bool = False) -> Iterator[tuple[str, str | OSError]]:
        """(path, SHA-256) in the order given; the error in place of a digest that failed. durable: see hashing.sha256."""
        known = self._digests
        found = hashing.digests(self.root, [path for path in paths if path not in known], durable=durable)
        for path in paths:
            digest = known[path] if path in known else next(found)[1]
            if isinstance(digest, str):
                known[path] = digest
            yield path, digest

    @contextmanager
    def here(self, path: str) -> Iterator[Path]:
        """The file on this machine, for as long as the block lasts."""
        yield self.root / path
