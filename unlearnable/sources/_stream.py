"""A Hub dataset read over the network: its parquet files where they lie, at one commit, as `datasets` would load them.

`datasets` says which files make which split of which configuration, and refuses loading scripts; the files are then read as
those of any remote storage (`_ranges`). Of a dataset that is not parquet the Hub keeps a parquet copy, on the branch
refs/convert/parquet; a partial copy, which it makes of large datasets, is refused. Only the card lands in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from unlearnable.errors import HubError, UsageError
from unlearnable.remote import Gone, Place, Stamp, locate
from unlearnable.sources import _schema
from unlearnable.sources._ranges import RangeRows
from unlearnable.sources._table import Rows

if TYPE_CHECKING:
    import pyarrow as pa

_CONVERTED = "refs/convert/parquet"
_WHOLE = "Leave out --streaming to download it whole."


def splits(library: Any, repo: str, config: str | None, revision: str | None) -> Mapping[str, Rows]:
    """Rows by split, in the order of `datasets`. library: `datasets`.

    Raises what `datasets` does, and UsageError where there is no parquet to read.
    """
    if library.config.HF_HUB_OFFLINE:
        raise HubError("--streaming reads over the network, and the Hub is switched off.", "Unset HF_HUB_OFFLINE.")
    builder = library.load_dataset_builder(repo, config, revision=revision)
    files = {str(split): [Place(str(file)) for file in found] for split, found in builder.config.data_files.items()}
    if not all(file.suffix == ".parquet" for found in files.values() for file in found):
        files = _converted(repo, builder.config.name, list(files), revision)
    rows = {split: RangeRows(found) for split, found in files.items()}
    first = next(iter(rows.values()))
    features = builder.info.features or library.Features.from_arrow_schema(first.schema)
    return {split: CastRows(part, features) for split, part in rows.items()}


class CastRows:
    """Parquet rows with the columns and types that the dataset's card states, as `datasets` casts them."""

    def __init__(self, rows: RangeRows, features: Any) -> None:
        """features: of `datasets`. Raises UsageError where the files cannot be read as they say."""
        self._rows, self._features = rows, features
        self.schema: pa.Schema = features.arrow_schema
        names, stored = self.schema.names, rows.schema.names
        if sorted(names) != sorted(stored):
            raise UsageError(
                f"The card states the columns {', '.join(names)}, the files hold {', '.join(stored)}.", _WHOLE
            )
        try:
            self._cast(rows.schema.empty_table().select(names), names)
        except (TypeError, ValueError) as why:
            said = " ".join(str(why).split())
            raise UsageError(f"The files do not hold what the dataset's card states ({said}).", _WHOLE) from why

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, rows: Sequence[int], columns: Sequence[str]) -> pa.Table:
        return self._cast(self._rows.take(rows, columns), columns)

    def batches(self, column: str) -> Iterator[pa.ChunkedArray]:
        pa = _schema.arrow()
        for batch in self._rows.batches(column):
            yield self._cast(pa.table([batch], names=[column]), [column]).column(0)

    def sizes(self, column: str) -> Iterator[int]:
        return self._rows.sizes(column)

    def stamp(self, row: int) -> Stamp:
        return self._rows.stamp(row)

    def _cast(self, table: pa.Table, columns: Sequence[str]) -> pa.Table:
        from datasets.table import table_cast

        wanted = type(self._features)({name: self._features[name] for name in columns})
        return table_cast(table, wanted.arrow_schema)


def _converted(repo: str, config: str, names: Sequence[str], revision: str | None) -> dict[str, list[Place]]:
    """The Hub's own parquet copy of each split."""
    if revision is not None:
        raise UsageError(
            f"{repo} at {revision} is not stored as parquet, and the Hub's parquet copy is of its main branch.", _WHOLE
        )
    try:
        root = locate(f"hf://datasets/{repo}@{_CONVERTED}") / config
        found = {split: (root / split).entries() for split in names}
    except Gone as why:
        raise UsageError(
            f"{repo} is not stored as parquet, and the Hub has no whole parquet copy of it.", _WHOLE
        ) from why
    return {
        split: [root / split / entry.name for entry in entries if entry.name.endswith(".parquet")]
        for split, entries in found.items()
    }
