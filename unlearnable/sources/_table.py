"""A source over Arrow tables, one a split: parquet files, saved datasets and Hub datasets differ only in `Rows`.

Works on undecoded bytes throughout, so that nothing is ever encoded again on the way (reference/users.md, A3).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Protocol

from unlearnable.errors import ImageError, UsageError
from unlearnable.sources import Options, _columns, _pictures, _schema, choose_split
from unlearnable.types import Record, Skipped

if TYPE_CHECKING:
    import pyarrow as pa


class Rows(Protocol):
    """The rows of one split, read when asked for. The schema's metadata carries the `datasets` features."""

    @property
    def schema(self) -> pa.Schema: ...

    def __len__(self) -> int: ...

    def take(self, rows: Sequence[int], columns: Sequence[str]) -> pa.Table:
        """Those rows, in that order, of those columns, as they are stored."""

    def batches(self, column: str) -> Iterator[pa.ChunkedArray]:
        """One whole column in order, a bounded part at a time."""


class TableSource:
    """Images in a column. A record's id is "split/row"."""

    tree = False

    def __init__(
        self,
        spec: str,
        kind: str,
        splits: Mapping[str, Rows],
        options: Options,
        *,
        beside: Path | None = None,
        trusted: bool = False,
    ) -> None:
        """Finds the columns and lists the rows.

        beside: the folder that stored paths without bytes are relative to; trusted: they may also lead elsewhere,
        because `datasets` wrote them on this machine. Raises UsageError where image or labels are not plain.
        """
        self.spec, self.kind = spec, kind
        chosen = choose_split(list(splits), options.split, spec)
        self._splits = {split: splits[split] for split in chosen}
        self._beside, self._trusted = beside, trusted
        schema = next(iter(self._splits.values())).schema
        self._features = _schema.features(schema)
        self._image = _columns.image_column(schema, self._features, options.image_column)
        self._label = _columns.label_column(schema, self._features, options)
        self.skipped: Sequence[Skipped] = _pictures.unpublishable(
            schema, self._features, self._image, self._splits.values()
        )
        left_out = {skip.id.removeprefix("column ") for skip in self.skipped}
        self._columns = [name for name in schema.names if name not in left_out]
        for split, rows in self._splits.items():
            if not rows.schema.equals(schema):
                raise UsageError(f"The columns of split {split} differ from the others.", "Protect one with --split.")
        self.classes: tuple[str, ...] | None = None
        labels: Mapping[str, Sequence[int | None]] = {s: [None] * len(r) for s, r in self._splits.items()}
        if self._label is not None:
            found = {split: _whole(rows, self._label) for split, rows in self._splits.items()}
            self.classes, labels = _columns.classes(self._label, self._features.get(self._label), found, spec)
        self.records: Sequence[Record] = [
            Record(f"{split}/{row}", split, label, size, row)
            for split, rows in self._splits.items()
            for row, (label, size) in enumerate(zip(labels[split], self._sizes(rows), strict=True))
        ]
        if not self.records:
            raise UsageError(f"{spec} holds no rows.")

    def read(self, record: Record) -> bytes:
        """The row's image bytes. Raises ImageError when there are none, here or in the file its path names."""
        column = self._splits[record.split].take([record.index], [self._image]).column(0)
        value = column[0].as_py()
        data, path = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
        if data is not None:
            return bytes(data)
        return self._read_beside(record, path)

    def stamp(self, record: Record) -> Any:
        """What changes when the row's file does; None where nobody can say, as of images beside a table."""
        found = getattr(self._splits[record.split], "stamp", None)
        return found(record.index) if found else None

    def table(self, records: Sequence[Record], images: Sequence[bytes], names: Sequence[str]) -> pa.Table:
        """The rows of one split with new image bytes; every other column, their order and features as they were."""
        pa = _schema.arrow()
        if not records:
            raise ValueError("a table needs at least one record")
        rows = self._splits[records[0].split]
        others = [name for name in self._columns if name != self._image]
        indices = [record.index for record in records]
        field = _schema.image_field(rows.schema.field(self._image))
        kept = rows.take(indices, others) if others else None
        stored = self._stored_paths(rows, indices, names)
        columns = {self._image: _schema.image_array(field.type, images, stored)}
        columns |= {name: kept.column(name) for name in others} if kept is not None else {}
        schema = pa.schema([field if name == self._image else rows.schema.field(name) for name in self._columns])
        features = self._features | ({self._image: {"_type": "Image"}} if pa.types.is_struct(field.type) else {})
        schema = _schema.for_release(schema, features, self._image)
        return pa.table([columns[name] for name in self._columns], schema=schema)

    def extra_columns(self) -> tuple[str, ...]:
        return tuple(name for name in self._columns if name not in (self._image, self._label))

    def _stored_paths(self, rows: Rows, indices: Sequence[int], names: Sequence[str]) -> list[str]:
        """The path stored beside each image: the source's own, with the extension that fits the new bytes.

        A path from elsewhere on the owner's disk shrinks to its file name; without one the record's name is stored.
        """
        kind = rows.schema.field(self._image).type
        pa = _schema.arrow()
        if not pa.types.is_struct(kind) or kind.get_field_index("path") < 0:
            return list(names)
        import pyarrow.compute as pc

        old = pc.struct_field(rows.take(indices, [self._image]).column(0), "path").to_pylist()
        return [_fitted(path, name) for path, name in zip(old, names, strict=True)]

    def _sizes(self, rows: Rows) -> Iterator[int]:
        """Stored bytes of each image, 0 where there are none; what the rows guess, where to know it is to fetch them."""
        import pyarrow.compute as pc

        guessed = getattr(rows, "sizes", None)
        if guessed:
            yield from guessed(self._image)
            return
        for column in rows.batches(self._image):
            data = pc.struct_field(column, "bytes") if _schema.arrow().types.is_struct(column.type) else column
            yield from pc.fill_null(pc.binary_length(data), 0).to_pylist()

    def _read_beside(self, record: Record, path: str | None) -> bytes:
        if not path:
            raise ImageError(
                f"Row {record.id} holds no image.", "Remove the row, or leave it unprotected and unpublished."
            )
        if self._beside is None and not self._trusted:
            raise ImageError(f"Row {record.id} holds only the path {path}.", "Store the image bytes in the dataset.")
        file = (self._beside or Path()) / path
        if not self._trusted and not file.resolve().is_relative_to((self._beside or Path()).resolve()):
            raise ImageError(f"Row {record.id} names a file outside the dataset, {path}.", "Store its bytes instead.")
        try:
            return file.read_bytes()
        except OSError as why:
            raise ImageError(f"Row {record.id}: {path} cannot be read ({why.strerror}).") from why


def _whole(rows: Rows, column: str) -> pa.ChunkedArray:
    pa = _schema.arrow()
    chunks = [chunk for part in rows.batches(column) for chunk in part.chunks]
    return pa.chunked_array(chunks, rows.schema.field(column).type)


def _fitted(old: str | None, name: str) -> str:
    if not old:
        return PurePosixPath(name).name
    path = PurePosixPath(old.replace("\\", "/"))
    away = path.is_absolute() or ".." in path.parts or ":" in old
    kept = PurePosixPath(path.name) if away else path
    suffix = PurePosixPath(name).suffix
    if kept.suffix.lower() == suffix.lower() or not kept.name:
        return str(kept) if kept.name else PurePosixPath(name).name
    return str(kept.with_suffix(suffix))
