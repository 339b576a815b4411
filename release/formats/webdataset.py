"""WebDataset shards: data/train-00000-of-00005.tar, each sample KEY.jpg with KEY.cls and KEY.json beside it.

A WebDataset source keeps its keys and its .cls, .json and .txt (what of them may be published; see the source). Others get
the position in their split as key, the number of their class in .cls, and class name and file name in .json. The bytes of
an archive depend on its samples alone: no times, no owners. `datasets` takes the fields of the first samples for those of
all, so it reads archives whose images are of one format; `--format` makes them so. A shard of which nothing could be
protected is left out.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from release.formats import Item, Placed, Shard, inside, whole_file
from release.layout import DATA
from unlearnable.errors import ImageError
from unlearnable.imageio import IMAGE_EXTENSIONS
from unlearnable.sources.webdataset import SampleSource
from unlearnable.types import Record, Source

MAX_ROWS = 10_000
MAX_BYTES = 64 << 20

_TEXTS = ("cls", "json", "txt")


def refuse(source: Source) -> str | None:
    """Columns of a table: a sample has a class and a text, and nobody would look for columns there."""
    if source.extra_columns() and not isinstance(source, SampleSource):
        return f"a sample cannot hold the columns {', '.join(source.extra_columns())}"
    return None


def write(root: Path, shard: Shard, source: Source, items: Iterator[Item]) -> list[Placed]:
    """Writes one archive, the same bytes for the same items. Raises OSError (full disk) and leaves no file then."""
    first = next(items, None)
    if first is None:
        return []
    path = f"{DATA}/{shard.split}-{shard.number_in_split:05d}-of-{shard.of_in_split:05d}.tar"
    clashing = isinstance(source, SampleSource) and _clashing(source, shard)
    placed: list[Placed] = []
    with whole_file(inside(root, path), durable=True) as file, tarfile.open(fileobj=file, mode="w") as archive:
        for row, item in enumerate(itertools.chain([first], items)):
            image, key = _names(item, source, clashing)
            _add(archive, image, item.data)
            for kind, text in _texts(item.record, source).items():
                _add(archive, f"{key}.{kind}", text.encode("utf-8"))
            placed.append(Placed(item.record.id, path, row))
    return placed


def always(shard: Shard) -> list[str]:
    """None: readers stumble over an archive without samples, and not over a gap in the numbers."""
    return []


def read(root: Path, placed: Sequence[Placed]) -> Iterator[bytes]:
    """The shipped bytes in that order. Raises ImageError when an archive is gone or damaged."""
    for path, places in itertools.groupby(placed, key=lambda place: place.path):
        try:
            file = inside(root, path)
            found = file.stat()
            images = _images(file, found.st_size, found.st_mtime_ns)
            with file.open("rb") as opened:
                for place in places:
                    yield _taken(opened, *images[place.row or 0])
        except (OSError, EOFError, IndexError, tarfile.TarError) as why:
            raise ImageError(f"{path} cannot be read back ({why}).") from why


def configs(paths: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """Card entries {"split", "path"} for the files of each split."""
    return [{"split": split, "path": f"{DATA}/{split}-*.tar"} for split, found in paths.items() if found]


def _clashing(source: SampleSource, shard: Shard) -> bool:
    """Whether keys of this shard's samples, which may come from several archives, are not all different."""
    keys = [source.samples[record.id].key for record in shard.records]
    return len(set(keys)) < len(keys)


def _names(item: Item, source: Source, clashing: bool) -> tuple[str, str]:
    """The member that holds the image, and the sample's key. Clashing keys lie in a folder named as their archive."""
    if not isinstance(source, SampleSource):
        key = f"{item.record.index:09d}"
        return key + PurePosixPath(item.name).suffix.lower(), key
    sample = source.samples[item.record.id]
    before = "" if clashing else f"{sample.shard}/"
    return item.name.removeprefix(before), f"{sample.shard}/{sample.key}".removeprefix(before)


def _texts(record: Record, source: Source) -> dict[str, str]:
    """What stands beside the image, by kind."""
    if isinstance(source, SampleSource):
        found = {kind: source.published(record, kind) for kind in _TEXTS}
        return {kind: text for kind, text in found.items() if text is not None}
    about = {"file_name": record.id}
    if source.classes is None or record.label is None:
        return {"json": json.dumps(about, ensure_ascii=False)}
    about = {"class_name": source.classes[record.label], **about}
    return {"cls": str(record.label), "json": json.dumps(about, ensure_ascii=False)}


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


@lru_cache(maxsize=8)
def _images(file: Path, size: int, time: int) -> list[tuple[int, int]]:
    """Place and length of every image in an archive, in its order. size, time: of the file, so that a new one is read."""
    del size, time
    with tarfile.open(file, "r:") as archive:
        return [(m.offset_data, m.size) for m in archive if PurePosixPath(m.name).suffix.lower() in IMAGE_EXTENSIONS]


def _taken(file: BinaryIO, start: int, length: int) -> bytes:
    data = os.pread(file.fileno(), length, start)
    if len(data) < length:
        raise EOFError("it ends too early")
    return data
