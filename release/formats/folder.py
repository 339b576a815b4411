"""Image files in the source's own tree, with their own names: data/<path>."""

from __future__ import annotations

import hashlib
import unicodedata
import weakref
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from release.formats import Item, Placed, Shard, inside, whole_file
from release.layout import DATA
from unlearnable.errors import ImageError
from unlearnable.imageio import IMAGE_EXTENSIONS
from unlearnable.types import Record, Source

MAX_ROWS = 512
MAX_BYTES = 16 << 20

_LONGEST = 255  # bytes of one part of a path, on nearly every disk


def refuse(source: Source) -> str | None:
    """Columns and class names that a tree of files cannot hold."""
    if source.tree:
        if getattr(source, "labels_from_file", False):
            return "the labels come from a file and not from folders, and a tree of images would lose them"
        return None
    if source.extra_columns():
        return f"a tree of images cannot hold the columns {', '.join(source.extra_columns())}"
    classes = source.classes or ()
    for name in classes:
        if not name.strip() or name.startswith(".") or set(name) & set('/\\\0<>:"|?*') or len(name.encode()) > 200:
            return f"the class name {name!r} cannot be a folder's name"
    if len({_same(name) for name in classes}) < len(classes):
        return "class names differ only in case, and common disks would merge their folders"
    return None


def write(root: Path, shard: Shard, source: Source, items: Iterator[Item]) -> list[Placed]:
    """Writes each item as its own file under root/data. Raises OSError (full disk) and leaves no half file."""
    placed = []
    stems = _stems(source) if source.tree else Counter()
    for item in items:
        name = _path_in_tree(item, stems) if source.tree else _path_of_row(item, source)
        path = f"{DATA}/{name}"
        with whole_file(inside(root, path), durable=False) as file:
            file.write(item.data)
        placed.append(Placed(item.record.id, path))
    return placed


def always(shard: Shard) -> list[str]:
    """None: a file is an image."""
    return []


def read(root: Path, placed: Sequence[Placed]) -> Iterator[bytes]:
    """The shipped bytes in that order. Raises ImageError when a file is gone."""
    for place in placed:
        try:
            yield inside(root, place.path).read_bytes()
        except OSError as why:
            raise ImageError(f"{place.path} cannot be read ({why.strerror}).") from why


def configs(paths: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """Card entries {"split", "path"} for the files of each split, so that the Hub guesses nothing from file names."""
    folders = {split: {path.split("/")[1] for path in found} for split, found in paths.items() if found}
    if len(folders) == 1:
        return [{"split": split, "path": f"{DATA}/**"} for split in folders]
    return [{"split": split, "path": f"{DATA}/{top}/**"} for split, tops in folders.items() for top in sorted(tops)]


_counted: weakref.WeakKeyDictionary[Source, Counter[str]] = weakref.WeakKeyDictionary()


def _stems(source: Source) -> Counter[str]:
    """How many originals share a name but for its extension; found once a run, not once a shard."""
    if source not in _counted:
        _counted[source] = Counter(_stem(record.id) for record in source.records)
    return _counted[source]


def _path_in_tree(item: Item, stems: Mapping[str, int]) -> str:
    """The item's path, made unique when its extension changed.

    Two originals a.bmp and a.png may both become a.png. When the extension changed and another original shares the
    stem, the new name is the whole old one and the new extension (a.bmp.png), numbered while an original has that
    stem. Depends only on the names in the source, so every run and every order of shards gives the same names.
    """
    if item.name == item.record.id:
        return item.name
    if stems[_stem(item.record.id)] == 1:
        return _fitted(item.name)
    stem, number = item.record.id, 0
    while _same(stem) in stems:
        number += 1
        stem = f"{item.record.id}~{number}"
    return _fitted(stem + PurePosixPath(item.name).suffix)


def _fitted(name: str) -> str:
    """The path; where a new extension made its last part longer than disks allow, its end gives way to a checksum."""
    folder, slash, file = name.rpartition("/")
    if len(file.encode()) <= _LONGEST:
        return name
    end = "~" + hashlib.sha256(file.encode()).hexdigest()[:16] + PurePosixPath(file).suffix
    return folder + slash + file.encode()[: _LONGEST - len(end)].decode("utf-8", "ignore") + end


def _path_of_row(item: Item, source: Source) -> str:
    """<split>/<class>/<row>.<extension> for an image that came from a table."""
    record: Record = item.record
    name = f"{record.index:06d}{PurePosixPath(item.name).suffix}"
    if source.classes is None or record.label is None:
        return f"{record.split}/{name}"
    return f"{record.split}/{source.classes[record.label]}/{name}"


def _stem(name: str) -> str:
    suffix = PurePosixPath(name).suffix
    return _same(name[: -len(suffix)] if suffix.lower() in IMAGE_EXTENSIONS else name)


def _same(name: str) -> str:
    """Equal for names that common disks take for the same one."""
    return unicodedata.normalize("NFC", name).casefold()
