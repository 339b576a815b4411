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

MAX_ROWS = 10_000
MAX_BYTES = 64 << 20

_GROUP_ROWS = 100  # what the Hub asks for images: its viewer fetches a page without the whole file
_GROUP_BYTES = 64 << 20  # but no more than this in memory
_MARK = b"unlearnable:image"  # the column that `read` reads back


def refuse(source: Source) -> str | None:
    """Nothing: a table holds whatever a source has."""
    return None


def write(root: Path, shard: Shard, source: Source, items: Iterator[Item]) -> list[Placed]:
    """Writes one file, row group by row group, the same bytes for the same items. Nothing when there are no items.

    Raises OSError (full disk) and leaves no file then.
    """
    import pyarrow.parquet as pq

    groups = _groups(items)
    first = next(groups, None)
    if first is None:
        return []
    path = f"{DATA}/{shard.split}-{shard.number_in_split:05d}-of-{shard.of_in_split:05d}.parquet"
    placed: list[Placed] = []
    with whole_file(inside(root, path), durable=True) as file:
        writer = None
        for group in itertools.chain([first], groups):
            table = _table(source, group)
            if writer is None:
                # Images are compressed already, so what little a slower codec would win is not worth its time.
                writer = pq.ParquetWriter(file, table.schema, compression="snappy")
            writer.write_table(table, row_group_size=len(group))
            placed += [Placed(item.record.id, path, len(placed) + n) for n, item in enumerate(group)]
        if writer is not None:
            writer.close()
    return placed


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
    """The source's rows, the image column marked so that `read` finds it."""
    table = source.table([i.record for i in group], [i.data for i in group], [i.name for i in group])
    return table.replace_schema_metadata({**(table.schema.metadata or {}), _MARK: _image_column(table.schema).encode()})


def _image_column(schema: pa.Schema) -> str:
    """Of a release's columns, one alone holds pictures: sources leave out every other (see Source.skipped)."""
    features = _schema.features(schema)
    images = [name for name in schema.names if (features.get(name) or {}).get("_type") == "Image"]
    plain = [name for name in schema.names if "binary" in str(schema.field(name).type) and name not in features]
    return str((images + plain)[0])


def _read_file(file: Path, name: str, places: Sequence[Placed]) -> Iterator[bytes]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file, memory_map=True) as opened:
            column = opened.schema_arrow.metadata[_MARK].decode()
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
