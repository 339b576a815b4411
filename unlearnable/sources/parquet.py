"""Parquet files named as on the Hub: one .parquet file, or a folder with some at its top or in data/.

Read with pyarrow directly: row group by row group, with a bounded cache, and no copy in the user's cache folder.
"""

from __future__ import annotations

import bisect
import re
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import accumulate, groupby
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from unlearnable.errors import UsageError
from unlearnable.sources import SPLIT_NAMES, Options, _schema, _stamps
from unlearnable.sources._table import TableSource

if TYPE_CHECKING:
    import pyarrow as pa

_CACHE_BYTES = 256 << 20
_PART = re.compile(r"(?P<split>\w+(?:\.\w+)*?)-(?P<n>\d{5,})-of-(?P<of>\d{5,})(?:-[0-9a-f]+)?")


def matches(spec: str) -> bool:
    return bool(_files(Path(spec).expanduser()))


def open(spec: str, options: Options) -> TableSource:
    """Opens the files of every split. Raises UsageError when one is missing or no parquet."""
    _schema.arrow()
    root = Path(spec).expanduser()
    splits: dict[str, list[Path]] = {}
    for file in _files(root):
        splits.setdefault(_split_of(file), []).append(file)
    for split, files in splits.items():
        _check_complete(split, files)
    rows = {split: ParquetRows(splits[split]) for split in sorted(splits, key=_split_order)}
    return TableSource(spec, "parquet", rows, options, beside=root if root.is_dir() else root.parent)


class ParquetRows:
    """The rows of several files in a row. Threads may share it."""

    def __init__(self, files: Sequence[Path], seen: Sequence[_stamps.Stamp] = ()) -> None:
        self._groups: list[tuple[int, int]] = []  # (file, row group)
        counts: list[int] = []
        self._files, self._footers = list(files), []
        self._seen = list(seen) or [_stamps.of(path) for path in files]
        self.schema: pa.Schema = None
        for number, path in enumerate(files):
            with _opened(path) as file:
                self._footers.append(file.metadata)
                schema = file.schema_arrow
            if self.schema is None:
                self.schema = schema
            elif not schema.equals(self.schema):
                raise UsageError(f"The columns of {path.name} differ from those of {files[0].name}.")
            for group in range(self._footers[-1].num_row_groups):
                self._groups.append((number, group))
                counts.append(self._footers[-1].row_group(group).num_rows)
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
                while len(self._cache) > 1 and sum(t.nbytes for t in self._cache.values()) > _CACHE_BYTES:
                    self._cache.popitem(last=False)
            self._cache.move_to_end(key)
            return self._cache[key]

    def _read(self, place: int, columns: tuple[str, ...]) -> pa.Table:
        file_number, group = self._groups[place]
        _stamps.require(self._files[file_number], self._seen[file_number])
        with _opened(self._files[file_number], self._footers[file_number]) as file:
            return file.read_row_group(group, columns=list(columns), use_threads=False)


def _opened(path: Path, footer: Any = None) -> Any:
    """A file opened for reading. Raises UsageError when it is no parquet file or was cut short."""
    pa = _schema.arrow()
    import pyarrow.parquet

    try:
        return pyarrow.parquet.ParquetFile(path, metadata=footer, memory_map=True)
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


def _split_of(file: Path) -> str:
    """From train-00000-of-00003.parquet "train"; else the one word in the name that is a split's; else "train"."""
    part = _PART.fullmatch(file.stem)
    if part:
        return part["split"]
    words = [word for word in re.split(r"[^a-z]+", file.stem.lower()) if word in SPLIT_NAMES]
    return words[0] if len(words) == 1 else "train"


def _split_order(split: str) -> tuple[int, str]:
    return (SPLIT_NAMES.index(split) if split in SPLIT_NAMES else len(SPLIT_NAMES), split)


def _check_complete(split: str, files: Sequence[Path]) -> None:
    parts = [part for part in (_PART.fullmatch(file.stem) for file in files) if part]
    if parts and len(parts) != int(parts[0]["of"]):
        raise UsageError(f"Split {split} has {len(parts)} of {int(parts[0]['of'])} parquet files.", "Fetch the others.")
