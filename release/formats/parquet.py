"""Parquet files as the Hub names them: data/train-00000-of-00005.parquet, with `datasets` features in the schema."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from release.formats import Item, Placed, Shard, inside, whole_file
from release.layout import DATA
from unlearnable.errors import ImageError
from unlearnable.sources import _schema
from unlearnable.types import Source

if TYPE_CHECKING:
    import pyarrow as pa

# imported when it writes, by pyarrow itself too: workers of one machine have it done once, before they are forked
IMPORTS = ("pyarrow.parquet", "pandas")
MAX_ROWS = 10_000
MAX_BYTES = 64 << 20

_GROUP_ROWS = 100  # what the Hub asks for images: its viewer fetches a page without the whole file
_GROUP_BYTES = 64 << 20  # but no more than this in memory


def refuse(source: Source) -> str | None:
    """Nothing: a table holds whatever a source has."""
    return None


def write(root: Path, shard: Shard, source: Source, items: Iterator[Item]) -> list[Placed]:
    """Writes one file, row group by row group, the same bytes for the same items.

    Without items the file has no rows, or is left out when it is its split's only one. Raises OSError (full disk) and
    leaves no file then.
    """
    import pyarrow.parquet as pq

    groups = _groups(items)
    first = next(groups, None)
    path = _path(shard)
    if first is None and path not in always(shard):
        return []
    placed: list[Placed] = []
    with whole_file(inside(root, path), durable=True) as file:
        schema = _table(source, [first[0] if first else Item(shard.records[0], b"", shard.records[0].id)]).schema
        # Images are compressed already, so what little a slower codec would win is not worth its time.
        with pq.ParquetWriter(file, schema, compression="snappy") as writer:
            for group in itertools.chain([first] if first else [], groups):
                writer.write_table(_table(source, group), row_group_size=len(group))
                placed += [Placed(item.record.id, path, len(placed) + n) for n, item in enumerate(group)]
    return placed


def always(shard: Shard) -> list[str]:
    """The file, where it is one of several: readers refuse a gap in their numbers."""
    return [_path(shard)] if shard.of_in_split > 1 else []


def read(root: Path, placed: Sequence[Placed]) -> Iterator[bytes]:
    """The shipped bytes in that order, one row group in memory; places of a file should come together and ascend."""
    for path, places in itertools.groupby(placed, key=lambda place: place.path):
        yield from _read_file(inside(root, path), path, list(places))


def configs(paths: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """Card entries {"split", "path"} for the files of each split."""
    return [{"split": split, "path": f"{DATA}/{split}-*.parquet"} for split, found in paths.items() if found]


def _groups(items: Iterator[Item]) -> Iterator[list[Item]]:
    group: list[Item] = []
    size = 0
    for item in items:
        if group and (len(group) == _GROUP_ROWS or size + len(item.data) > _GROUP_BYTES):
            yield group
            group, size = [], 0
        group.append(item)
        size += len(item.data)
    if group:
        yield group


def _table(source: Source, group: Sequence[Item]) -> pa.Table:
    """The source's rows; its schema says which column `read` reads back."""
    return source.table([i.record for i in group], [i.data for i in group], [i.name for i in group])


def _path(shard: Shard) -> str:
    return f"{DATA}/{shard.split}-{shard.number_in_split:05d}-of-{shard.of_in_split:05d}.parquet"


def _read_file(file: Path, name: str, places: Sequence[Placed]) -> Iterator[bytes]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file, memory_map=True) as opened:
            column = opened.schema_arrow.metadata[_schema.IMAGE].decode()
            counts = [opened.metadata.row_group(g).num_rows for g in range(opened.num_row_groups)]
            starts = [0, *itertools.accumulate(counts)]
            at, images = -1, None
            for place in places:
                row = place.row or 0
                if images is None or not starts[at] <= row < starts[at + 1]:
                    at = next(g for g, end in enumerate(starts[1:]) if row < end)
                    images = opened.read_row_group(at, columns=[column], use_threads=False).column(0)
                value = images[row - starts[at]].as_py()
                yield value["bytes"] if isinstance(value, dict) else value
    except (OSError, pa.ArrowInvalid, KeyError, TypeError, StopIteration) as why:
        raise ImageError(f"{name} cannot be read back ({why}).") from why
