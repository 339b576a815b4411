"""A folder of image files on remote storage: s3://bucket/folder, gs://, hf://datasets/OWNER/NAME/folder, any fsspec address.

Read as the same folder on a disk would be, so that both have the same records and give the same release. Folders are listed
one request a thousand files; of a file without an image's extension the first bytes are fetched; an image is fetched whole
when it is its turn, and nothing is kept on the disk. A folder of parquet files, or one such file, is read row group by row
group. Archives and lists are not read from afar. A whole dataset of the Hub, OWNER/NAME, is another source: hub.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath

from unlearnable.errors import ImageError, UsageError
from unlearnable.imageio import IMAGE_EXTENSIONS, sniff
from unlearnable.remote import Entry, Gone, Place, Refused, Stamp, is_address, locate, number
from unlearnable.sources import Options, _tree, hub, parquet
from unlearnable.sources._arrange import FilesSource, arrange
from unlearnable.sources._ranges import RangeRows
from unlearnable.sources._table import TableSource
from unlearnable.types import Skipped

_HEAD = 32  # bytes that tell a container
_LONGEST = 255  # bytes of one part of a path, on nearly every disk
_AT_ONCE = 16  # requests for first bytes
_COPY = "Copy it here first and name the copy."


def matches(spec: str) -> bool:
    return is_address(spec) and not hub.matches(spec)


def open(spec: str, options: Options) -> FilesSource | TableSource:
    """Lists the folder and finds splits and labels, or the columns of its parquet files.

    Raises UsageError when there is nothing to protect, HubError when the storage refuses or cannot be reached.
    """
    root = locate(spec)
    found = root.look()
    if not found.folder:
        if root.suffix.lower() != ".parquet":
            what = "an archive" if _tree.is_archive(root.name) else "a single file"
            raise UsageError(f"{spec} is {what} on remote storage, where only folders and .parquet are read.", _COPY)
        return parquet.source(spec, [root], options, RangeRows)
    top = root.entries()
    tables = _tables(root, top)
    if tables:
        return parquet.source(spec, tables, options, RangeRows)
    files, skipped, stamps = scan(root, top)
    fetch = Objects(root, stamps)
    return arrange(spec, "remote", files, skipped, options, fetch, stamp=fetch.stamp)


class Objects:
    """Files below `root`, each as it was when it was listed. Call it with a name for the bytes."""

    def __init__(self, root: Place, seen: dict[str, Stamp]) -> None:
        self._root, self._seen = root, seen

    def stamp(self, name: str) -> Stamp:
        """As it was listed; of a file beside the images, as it is now."""
        return self._seen.get(name) or _found(self._root / name)

    def __call__(self, name: str) -> bytes:
        """The bytes of root/name. Raises ImageError when it has vanished, may not be read or was changed, and HubError when
        the storage cannot be reached: then no other image could be read either."""
        place = self._root / name
        try:
            data = place.read()
            seen = self._seen.get(name)
            same = seen is None or place.fixed or seen == (len(data), number(data)) or seen == place.look().stamp
        except Gone as why:
            raise ImageError(f"{name} cannot be read (it is gone).", "Was it moved while we ran?") from why
        except Refused as why:
            raise ImageError(f"{name} cannot be read ({why.message})", why.hint) from why
        if not same or (seen and seen[0] != len(data)):
            raise ImageError(f"{name} was changed while we ran.", "Protect it as it now is: --retry-failed.")
        return data


def scan(root: Place, top: Sequence[Entry]) -> tuple[list[tuple[str, int]], list[Skipped], dict[str, Stamp]]:
    """Images as (relative path, bytes), sorted; all else with the reason; what shows that an image was changed.

    top: what lies directly in root. Raises HubError where a folder cannot be listed: its images would be missed.
    """
    files: list[tuple[str, int]] = []
    skipped: list[Skipped] = []
    stamps: dict[str, Stamp] = {}
    folders = [""]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        while folders:
            folder = folders.pop()
            entries = (root / folder).entries() if folder else list(top)
            prefix = f"{folder}/" if folder else ""
            doubtful = [
                entry for entry in entries if not entry.folder and _misnamed(entry) is None and not _plain(entry)
            ]
            looked = pool.map(_looked, [root / folder] * len(doubtful), doubtful)
            why = {entry.name: reason for entry, reason in zip(doubtful, looked, strict=True)}
            inner = {_tree.same(entry.name) for entry in entries if entry.folder}
            for entry in entries:
                reason = _misnamed(entry)
                if reason is None and not entry.folder:
                    taken = "has the name of a folder too; rename it" if _tree.same(entry.name) in inner else None
                    reason = why.get(entry.name) or taken
                name = prefix + entry.name
                if reason:
                    image = not reason.startswith((_tree.NOT_AN_IMAGE, _tree.HIDDEN, _tree.ARCHIVE))
                    skipped.append(Skipped(_tree.printable(name), reason, image))
                elif entry.folder:
                    folders.append(name)
                else:
                    files.append((name, entry.size))
                    stamps[name] = entry.stamp
    files, twins = _tree.without_twins(sorted(files))
    return files, sorted(skipped + twins, key=lambda item: item.id), {name: stamps[name] for name, _ in files}


def _misnamed(entry: Entry) -> str | None:
    """Why no release may hold a file or folder of that name; None when one may."""
    if not entry.name:
        return "a folder without a name, left out with all it holds; rename it"
    if entry.name.startswith("."):
        return f"{_tree.HIDDEN} folder, left out with all it holds" if entry.folder else f"{_tree.HIDDEN} file"
    if _tree.printable(entry.name) != entry.name:
        return "its name is not valid UTF-8; rename it"
    if "\\" in entry.name or "\0" in entry.name or entry.name.endswith("/"):
        return "its name holds a backslash or a zero byte, or ends in a slash; rename it"
    if len(entry.name.encode()) > _LONGEST:
        return f"its name is longer than {_LONGEST} bytes; rename it"
    return None


def _plain(entry: Entry) -> bool:
    """Whether its extension, in any case, is an image's."""
    return PurePosixPath(entry.name).suffix.lower() in IMAGE_EXTENSIONS


def _looked(folder: Place, entry: Entry) -> str | None:
    """Why a file is no image by its first bytes; of none there are none to fetch."""
    try:
        head = (folder / entry.name).read(0, min(_HEAD, entry.size), size=entry.size) if entry.size else b""
    except (Gone, Refused) as why:
        return f"cannot be read ({why.message})"
    return None if sniff(head) else _tree.ARCHIVE if _tree.is_archive(entry.name) else _tree.NOT_AN_IMAGE


def _tables(root: Place, top: Iterable[Entry]) -> list[Place]:
    """Parquet files at the top, else in data/, as `parquet` finds them on a disk."""

    def among(folder: Place, entries: Iterable[Entry]) -> Iterator[Place]:
        for entry in entries:
            described = entry.name == "metadata.parquet" or entry.name.startswith(".")
            if entry.name.endswith(".parquet") and not entry.folder and not described:
                yield folder / entry.name

    found = list(among(root, top))
    if found or not any(entry.folder and entry.name == "data" for entry in top):
        return found
    return list(among(root / "data", (root / "data").entries()))


def _found(place: Place) -> Stamp:
    try:
        return place.look().stamp
    except Gone:  # reading it will say so
        return 0, 0
