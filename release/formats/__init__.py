"""Layouts of the data inside a release: one module a layout, found by its file name.

A module holds MAX_ROWS and MAX_BYTES (limits of a shard), `refuse(source) -> str | None` (why it cannot hold this
source), `write(root, shard, source, items) -> list[Placed]`, `always(shard) -> list[str]` (files that `write` makes even
without an item), `read(root, placed) -> Iterator[bytes]` and `configs(paths) -> list[dict]` (split to file pattern, for
the card). The shard is the unit of work and of resuming: writing it again writes the same files. A file has its final
name only when it is whole.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import pkgutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import BinaryIO

from unlearnable.errors import UsageError
from unlearnable.registry import nearest
from unlearnable.types import Record, Source


@dataclass(frozen=True)
class Shard:
    """Records of one split that are written together. index counts over the release, number_in_split in its split."""

    index: int
    split: str
    number_in_split: int
    of_in_split: int
    records: tuple[Record, ...]


@dataclass(frozen=True)
class Item:
    """One protected image: its record, its file's bytes, and `suffix_for(record.id, container)` as its name."""

    record: Record
    data: bytes
    name: str


@dataclass(frozen=True)
class Placed:
    """Where a record's image lies: a path relative to the release, and the row of a parquet file."""

    id: str
    path: str
    row: int | None = None


def names() -> list[str]:
    """Layouts, from file names; helpers start with an underscore."""
    return sorted(m.name for m in pkgutil.iter_modules([str(Path(__file__).parent)]) if not m.name.startswith("_"))


def load(name: str) -> ModuleType:
    """Imports a layout's module. Raises UsageError, with the nearest name, when there is none."""
    if name not in names():
        raise UsageError(f"There is no layout called {name!r}.", nearest(name, names()))
    return importlib.import_module(f"release.formats.{name}")


def shards(source: Source, layout: str) -> list[Shard]:
    """The source cut by split, in its order, so that each shard keeps the layout's limits of rows and source bytes."""
    module = load(layout)
    by_split: dict[str, list[list[Record]]] = {}
    room: dict[str, int] = {}
    for record in source.records:
        parts = by_split.setdefault(record.split, [])
        if not parts or len(parts[-1]) >= module.MAX_ROWS or room[record.split] < record.size:
            parts.append([])
            room[record.split] = module.MAX_BYTES
        parts[-1].append(record)
        room[record.split] -= record.size
    cut = [(split, n, len(parts), part) for split, parts in by_split.items() for n, part in enumerate(parts)]
    return [Shard(index, split, n, of, tuple(part)) for index, (split, n, of, part) in enumerate(cut)]


def stamp(source: Source, shard: Shard) -> str:
    """Changes when a file of the shard does, so that what was made of the old one is made again."""
    of = getattr(source, "stamp", None)
    seen = [[record.id, of(record)] for record in shard.records] if of else []
    return hashlib.sha256(json.dumps(seen, ensure_ascii=True).encode()).hexdigest()


def always(source: Source, layout: str) -> list[str]:
    """Release paths of the data files that are written whether or not an image of them could be protected."""
    module = load(layout)
    return [path for shard in shards(source, layout) for path in module.always(shard)]


def inside(root: Path, name: str) -> Path:
    """root/name. Raises UsageError when the name would leave the release or is not a plain relative POSIX path."""
    parts = name.split("/")
    if not name or "\0" in name or PurePosixPath(name).is_absolute() or any(p in ("", ".", "..") for p in parts):
        raise UsageError(f"{name!r} cannot be a file's path inside a release.", "Rename it in the source.")
    return root.joinpath(*parts)


@contextmanager
def whole_file(path: Path, *, durable: bool) -> Iterator[BinaryIO]:
    """Opens a file that takes its name only when the block ends well; otherwise nothing is left.

    durable: on the disk, and not only in the system's memory, before it takes its name. The temporary name is short,
    so that a name at the file system's limit still works, and always the same, so that a rerun replaces a leftover.
    """
    partial = path.with_name(".partial-" + hashlib.sha256(path.name.encode()).hexdigest()[:16])
    try:
        opened = partial.open("wb")
    except FileNotFoundError:  # asking for the folder first would take as long as a thumbnail's pixels
        path.parent.mkdir(parents=True, exist_ok=True)
        opened = partial.open("wb")
    try:
        with opened as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
