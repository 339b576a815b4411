"""Rows of parquet files on remote storage, fetched row group by row group and column by column, and never kept on the disk.

Listing fetches footers and the columns that are asked for, several at a time; images come when their row is read, one row
group at once, which stays in memory for its neighbours. How large an image is, is guessed from the footer: the mean of its row
group. A guess decides where the files of a release are cut, and nothing in an image.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from unlearnable.errors import IntegrityError
from unlearnable.remote import Place
from unlearnable.sources import _stamps
from unlearnable.sources.parquet import ParquetRows, opened

if TYPE_CHECKING:
    import pyarrow as pa

_AT_ONCE = 8  # requests
_LENGTH = 4  # bytes that parquet stores before each value


class RangeRows(ParquetRows):
    """The rows of several remote files in a row. Threads may share it; another process gets the footers with it."""

    cache_bytes = 64 << 20  # a process for each core has its own

    def __reduce__(self) -> tuple[Any, ...]:
        return RangeRows, (self._files, self._seen, self._footers)

    def batches(self, column: str) -> Iterator[pa.ChunkedArray]:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for start in range(0, len(self._groups), _AT_ONCE):
                some = range(start, min(start + _AT_ONCE, len(self._groups)))
                yield from pool.map(lambda place: self._read(place, (column,)).column(0), some)

    def sizes(self, column: str) -> Iterator[int]:
        """About the stored bytes of each row of a column of images."""
        for number, group in self._groups:
            footer = self._footers[number].row_group(group)
            parts = [footer.column(i) for i in range(footer.num_columns)]
            names = (column, f"{column}.bytes")
            total = sum(part.total_uncompressed_size for part in parts if part.path_in_schema in names)
            yield from [max(0, total // max(1, footer.num_rows) - _LENGTH)] * footer.num_rows

    def _look(self, files: Sequence[Any]) -> list[_stamps.Stamp]:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(lambda file: file.look().stamp, files))

    def _read_footers(self) -> list[Any]:
        def footer(number: int) -> Any:
            with self._open(number) as file:
                return file.metadata

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(footer, range(len(self._files))))

    def _require(self, number: int) -> None:
        if not self._files[number].fixed and self._files[number].look().stamp != self._seen[number]:
            raise IntegrityError(f"{self._files[number]} was changed while we ran.", "Repeat the command.")

    def _open(self, number: int, footer: Any = None) -> Any:
        file = self._files[number]
        return opened(file, RangeFile(file, self._seen[number][0]), footer)


class RangeFile(io.RawIOBase):
    """A remote file for readers that jump about in it: each read is one request for just that."""

    def __init__(self, place: Place, size: int) -> None:
        self._place, self._size, self._at = place, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        end = self._size if size is None or size < 0 else min(self._size, self._at + size)
        if end <= self._at:
            return b""
        data = self._place.read(self._at, end, size=self._size)
        if len(data) != end - self._at:
            raise IntegrityError(f"{self._place} was changed while we ran.", "Repeat the command.")
        self._at = end
        return data
