"""Parquet files named as on the Hub: one .parquet file, or a folder with some at its top or in data/.

Read with pyarrow directly: row group by row group, with a bounded cache, and no copy in the user's cache folder.
"""

from __future__ import annotations

import bisect
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, groupby
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeAlias

from unlearnable.errors import UsageError
from unlearnable.remote import Place
from unlearnable.sources import SPLIT_NAMES, Options, _schema, _stamps
from unlearnable.sources._table import Rows, TableSource

if TYPE_CHECKING:
    import pyarrow as pa

File: TypeAlias = Path | Place

_PART = re.compile(r"(?P<split>\w+(?:\.\w+)*?)-(?P<n>\d{5,})-of-(?P<of>\d{5,})(?:-[0-9a-f]+)?")


def matches(spec: str) -> bool:
    return bool(_files(Path(spec).expanduser()))


def open(spec: str, options: Options) -> TableSource:
    """Opens the files of every split. Raises UsageError when one is missing or no parquet."""
    root = Path(spec).expanduser()
    return source(spec, _files(root), options, ParquetRows, beside=root if root.is_dir() else root.parent)


def source(
    spec: str,
    files: Sequence[File],
    options: Options,
    rows: Callable[[Sequence[File]], Rows],
    beside: Path | None = None,
) -> TableSource:
    """A source of these files, whose names tell their splits. beside: what paths stored without bytes are relative to."""
    _schema.arrow()
    splits: dict[str, list[File]] = {}
    for file in files:
        splits.setdefault(_split_of(file), []).append(file)
    for split, parts in splits.items():
        _check_complete(split, parts)
    found = {split: rows(splits[split]) for split in sorted(splits, key=_split_order)}
    return TableSource(spec, "parquet", found, options, beside=beside)


class ParquetRows:
    """The rows of several files in a row. Threads may share it."""

    cache_bytes = 256 << 20  # of row groups in memory; one is kept, however large

    def __init__(self, files: Sequence[Any], seen: Sequence[_stamps.Stamp] = (), footers: Sequence[Any] = ()) -> None:
        """seen, footers: of the files, where another process has found them already."""
        self._files, self._seen = list(files), list(seen) or self._look(files)
        self._footers = list(footers) or self._read_footers()
        self._groups: list[tuple[int, int]] = []  # (file, row group)
        counts: list[int] = []
        self.schema: pa.Schema = self._footers[0].schema.to_arrow_schema()
        for number, footer in enumerate(self._footers):
            if not footer.schema.to_arrow_schema().equals(self.schema):
                raise UsageError(f"The columns of {files[number].name} differ from those of {files[0].name}.")
            for group in range(footer.num_row_groups):
                self._groups.append((number, group))
                counts.append(footer.row_group(group).num_rows)
        self._starts: list[int] = [0, *accumulate(counts)]
        self._cache: OrderedDict[tuple[int, tuple[str, ...]], pa.Table] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return self._starts[-1]

    def __reduce__(self) -> tuple[Any, ...]:
        return ParquetRows, (self._files, self._seen)  # another process opens the files itself

    def take(self, rows: Sequence[int], columns: Sequence[str]) -> pa.Table:
        pa = _schema.arrow()
        parts = []
        for place, wanted in groupby(rows, key=lambda row: bisect.bisect_right(self._starts, row) - 1):
            local = [row - self._starts[place] for row in wanted]
            group = self._cached(place, tuple(columns))
            run = local == list(range(local[0], local[0] + len(local)))
            parts.append(group.slice(local[0], len(local)) if run else group.take(local))
        return pa.concat_tables(parts) if len(parts) != 1 else parts[0]

    def stamp(self, row: int) -> _stamps.Stamp:
        """What changes when the row's file does."""
        return self._seen[self._groups[bisect.bisect_right(self._starts, row) - 1][0]]

    def batches(self, column: str) -> Iterator[pa.ChunkedArray]:
        for place in range(len(self._groups)):
            yield self._read(place, (column,)).column(0)

    def _cached(self, place: int, columns: tuple[str, ...]) -> pa.Table:
        """One row group, kept for the next rows: they are read in order, or at random from a small set."""
        with self._lock:
            key = (place, columns)
            if key not in self._cache:
                self._cache[key] = self._read(place, columns)
                while len(self._cache) > 1 and sum(t.nbytes for t in self._cache.values()) > self.cache_bytes:
                    self._cache.popitem(last=False)
            self._cache.move_to_end(key)
            return self._cache[key]

    def _read(self, place: int, columns: tuple[str, ...]) -> pa.Table:
        number, group = self._groups[place]
        self._require(number)
        with self._open(number, self._footers[number]) as file:
            return file.read_row_group(group, columns=list(columns), use_threads=False)

    def _read_footers(self) -> list[Any]:
        footers = []
        for number in range(len(self._files)):
            with self._open(number) as file:
                footers.append(file.metadata)
        return footers

    def _look(self, files: Sequence[Any]) -> list[_stamps.Stamp]:
        return [_stamps.of(path) for path in files]

    def _require(self, number: int) -> None:
        """Raises IntegrityError when the file was changed since it was opened first."""
        _stamps.require(self._files[number], self._seen[number])

    def _open(self, number: int, footer: Any = None) -> Any:
        return opened(self._files[number], self._files[number], footer, memory_map=True)


def opened(path: File, content: Any, footer: Any, **how: Any) -> Any:
    """A file opened for reading. Raises UsageError when it is no parquet file or was cut short."""
    pa = _schema.arrow()
    import pyarrow.parquet

    try:
        return pyarrow.parquet.ParquetFile(content, metadata=footer, **how)
    except (pa.ArrowInvalid, OSError) as why:
        raise UsageError(f"{path} cannot be read as parquet ({why}).", "Replace it by a whole copy.") from why


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix.lower() == ".parquet" else []
    for folder in (path, path / "data"):
        # metadata.parquet describes image files that lie beside it (an image folder's convention).
        found = sorted(
            p for p in folder.glob("*.parquet") if p.name != "metadata.parquet" and not p.name.startswith(".")
        )
        if found:
            return found
    return []


def _split_of(file: File) -> str:
    """From train-00000-of-00003.parquet "train"; else the one word in the name that is a split's; else "train"."""
    part = _PART.fullmatch(file.stem)
    if part:
        return part["split"]
    words = [word for word in re.split(r"[^a-z]+", file.stem.lower()) if word in SPLIT_NAMES]
    return words[0] if len(words) == 1 else "train"


def _split_order(split: str) -> tuple[int, str]:
    return (SPLIT_NAMES.index(split) if split in SPLIT_NAMES else len(SPLIT_NAMES), split)


def _check_complete(split: str, files: Sequence[File]) -> None:
    parts = [part for part in (_PART.fullmatch(file.stem) for file in files) if part]
    if parts and len(parts) != int(parts[0]["of"]):
        raise UsageError(f"Split {split} has {len(parts)} of {int(parts[0]['of'])} parquet files.", "Fetch the others.")
