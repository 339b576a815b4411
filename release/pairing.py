"""Which original each shipped picture was made of: from the owner folder's records, or of a tree of files by its name.

Pairs are read one after another and never held; a picture whose original is not to be found is a pair without one.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from release import formats, layout
from release.build import Row
from release.formats import Placed
from release.manifest import Manifest
from unlearnable import imageio
from unlearnable.errors import ImageError, UsageError
from unlearnable.sources import _sidecars
from unlearnable.types import Record, Source


@dataclass(frozen=True)
class Pair:
    """One shipped picture. of: its class; original: None where there is none, and `why`."""

    id: str
    path: str
    row: int | None
    split: str
    of: str | None
    shipped: bytes
    original: bytes | None
    why: str = ""


@dataclass(frozen=True)
class _Place:
    placed: Placed
    record: Record | None
    sha256: str | None  # of the original, where the owner folder knows it


class Pairs:
    """Every shipped picture, in the order of the release."""

    def __init__(self, manifest: Manifest, source: Source, rows: Sequence[Row] | None) -> None:
        """rows: of the owner folder; without it names must do, which only a tree of files has. Raises UsageError."""
        self._manifest, self._source = manifest, source
        by_id = {record.id: record for record in source.records}
        if rows is not None:
            self._places = [
                _Place(Placed(row.id, row.path, row.row), by_id.get(row.id), row.original_sha256) for row in rows
            ]
        elif manifest.layout == "folder" and source.tree:
            self._places = list(_by_name(manifest, by_id))
        else:
            raise UsageError(
                f"Which original is which picture of a {manifest.layout} release is told by its owner folder alone.",
                "Check it where that folder lies beside it.",
            )
        if not any(place.record for place in self._places):
            raise UsageError(
                f"{source.spec} holds none of the originals of this release.", "Name the folder they are in."
            )

    def __len__(self) -> int:
        return len(self._places)

    def read(self, root: Path) -> Iterator[Pair]:
        """All pairs with their bytes. Raises ImageError where the release cannot be read."""
        shipped = formats.load(self._manifest.layout).read(root, [place.placed for place in self._places])
        for place, data in zip(self._places, shipped, strict=True):
            original, why = self._original(place)
            record, at = place.record, place.placed
            of = None if record is None or record.label is None else (self._source.classes or ())[record.label]
            yield Pair(at.id, at.path, at.row, record.split if record else "", of, data, original, why)

    def original(self, number: int) -> bytes | None:
        return self._original(self._places[number])[0]

    def shipped(self, root: Path, number: int) -> bytes:
        found: Iterator[bytes] = formats.load(self._manifest.layout).read(root, [self._places[number].placed])
        return next(found)

    def strangers(self, root: Path, metadata: str | None) -> Iterator[tuple[str, str]]:
        """(path, reason) for data files that no original accounts for, and sidecars that should not be there."""
        known = Counter(place.placed.path for place in self._places)
        of_sidecar = {
            f"{layout.DATA}/{name}": record
            for record, names in getattr(self._source, "sidecars", {}).items()
            for name in names
        }
        by_id = {record.id: record for record in self._source.records}
        for entry in self._manifest.files:
            if entry.kind != "data":
                continue
            if known[entry.path] != entry.images or self._rows(root, entry.path) not in (None, entry.images):
                yield entry.path, f"holds {entry.images} pictures, and {known[entry.path]} originals account for them"
            elif not entry.images and self._manifest.layout == "folder":
                data = (root / entry.path).read_bytes()
                if imageio.sniff(data[:32]):
                    yield entry.path, "is a picture that no original accounts for"
                elif (record := by_id.get(of_sidecar.get(entry.path, ""))) is None:
                    yield entry.path, "is no picture and no sidecar of one"
                elif (why := _sidecars.refusal(data, self._source.read(record), metadata or "keep")) is not None:
                    yield entry.path, f"is {why}"

    def _rows(self, root: Path, path: str) -> int | None:
        """How many rows a table really has; None for other files."""
        if not path.endswith(".parquet"):
            return None
        import pyarrow.parquet as pq

        return int(pq.read_metadata(root / path).num_rows)

    def _original(self, place: _Place) -> tuple[bytes | None, str]:
        if place.record is None:
            return None, f"{self._source.spec} has no {place.placed.id}"
        try:
            data = self._source.read(place.record)
        except ImageError as why:
            return None, str(why)
        if place.sha256 is not None and hashlib.sha256(data).hexdigest() != place.sha256:
            return None, f"{place.placed.id} in {self._source.spec} is not the file that was protected"
        return data, ""


def _by_name(manifest: Manifest, by_id: dict[str, Record]) -> Iterator[_Place]:
    """data/a.png is made of a.png, or where the extension had to change of the one original that shares its stem."""
    stems = Counter(_stem(name) for name in by_id)
    by_stem = {_stem(name): record for name, record in by_id.items() if stems[_stem(name)] == 1}
    for entry in manifest.files:
        if entry.kind == "data" and entry.images:
            name = entry.path.removeprefix(f"{layout.DATA}/")
            record = by_id.get(name) or by_id.get(_stem(name)) or by_stem.get(_stem(name))
            yield _Place(Placed(record.id if record else name, entry.path), record, None)


def _stem(name: str) -> str:
    suffix = PurePosixPath(name).suffix
    return name[: -len(suffix)] if suffix.lower() in imageio.IMAGE_EXTENSIONS else name
