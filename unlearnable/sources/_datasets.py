"""Rows of a `datasets.Dataset`, undecoded: its Arrow storage, which lies memory-mapped on the disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from unlearnable.sources import _schema
from unlearnable.sources._table import Rows

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH = 1_000


class DatasetRows:
    def __init__(self, dataset: Any) -> None:
        self.schema: pa.Schema = dataset.features.arrow_schema
        self._rows = dataset.with_format("arrow")

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, rows: Sequence[int], columns: Sequence[str]) -> pa.Table:
        run = list(rows) == list(range(rows[0], rows[0] + len(rows)))
        found = self._rows[rows[0] : rows[0] + len(rows)] if run else self._rows[list(rows)]
        return found.select(list(columns))

    def batches(self, column: str) -> Iterator[pa.ChunkedArray]:
        for start in range(0, len(self), _BATCH):
            yield self._rows[start : start + _BATCH].column(column)


def splits(loaded: Any) -> Mapping[str, Rows]:
    """Rows by split of a DatasetDict, or of a Dataset, whose split is "train" unless it says otherwise."""
    if isinstance(loaded, dict):
        return {str(split): DatasetRows(dataset) for split, dataset in loaded.items()}
    named = str(loaded.split) if loaded.split is not None else ""
    return {named if named.isidentifier() else "train": DatasetRows(loaded)}


def require() -> Any:
    """The `datasets` library, imported when it is needed."""
    return _schema.library("datasets", "Reading saved and Hub datasets")
