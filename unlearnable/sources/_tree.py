"""Every entry of a folder tree, either as a file to look at or as skipped with its reason. Never follows a link out."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

from unlearnable.imageio import IMAGE_EXTENSIONS, sniff
from unlearnable.types import Skipped

NOT_AN_IMAGE = "not an image"
HIDDEN = "hidden"
ARCHIVE = "an archive, not looked into; protect it by itself"
_ARCHIVES = (".zip", ".tar", ".tgz", ".tbz2", ".txz", ".7z", ".rar", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")
_HEAD = 32  # bytes that tell a container


def scan(root: Path) -> tuple[list[tuple[str, int]], list[Skipped]]:
    """Images as (relative POSIX path, bytes), sorted by path, and everything else with the reason.

    An image is a file with an image's extension, in any case, or with an image's first bytes. Links to files inside
    the tree are followed; links to folders are not, so that loops end and nothing is protected twice.
    """
    files: list[tuple[str, int]] = []
    skipped: list[Skipped] = []
    real_root = os.path.realpath(root)
    folders = [""]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(os.path.join(root, folder)) as entries:  # noqa: PTH118 - Path is slow for 100,000 files
                listing = list(entries)
        except OSError as why:
            skipped.append(Skipped(folder, f"the folder cannot be read ({why.strerror})"))
            continue
        for entry in listing:
            name = f"{folder}/{entry.name}" if folder else entry.name
            reason, size = _judge(entry, name, real_root)
            if reason is None and size is None:
                folders.append(name)
            elif reason is None:
                files.append((name, size or 0))
            else:
                # what is hidden or no picture is reported, but is no gap in the protection
                image = not reason.startswith((NOT_AN_IMAGE, HIDDEN, ARCHIVE))
                skipped.append(Skipped(printable(name), reason, image))
    files, twins = without_twins(sorted(files))
    return files, sorted(skipped + twins, key=lambda s: s.id)


def _judge(entry: os.DirEntry[str], name: str, real_root: str) -> tuple[str | None, int | None]:
    """(reason to skip, None), (None, bytes of an image) or (None, None) for a folder to enter."""
    if entry.name.startswith("."):
        return f"{HIDDEN} folder, left out with all it holds" if entry.is_dir(
            follow_symlinks=False
        ) else f"{HIDDEN} file", None
    if printable(name) != name:
        return "its name is not valid UTF-8; rename it", None
    if "\\" in entry.name:  # on some systems it would lead into another folder, so no release may hold it
        return "its name holds a backslash; rename it", None
    if entry.is_symlink():
        reason = _bad_link(entry, real_root)
        if reason:
            return reason, None
    if entry.is_dir():
        return None, None
    if not entry.is_file():
        return f"{NOT_AN_IMAGE} (a device, pipe or socket)", None
    try:
        if not is_image(entry.path):
            return (ARCHIVE if is_archive(entry.name) else NOT_AN_IMAGE), None
        return None, entry.stat().st_size
    except OSError as why:
        return f"cannot be read ({why.strerror})", None


def _bad_link(entry: os.DirEntry[str], real_root: str) -> str | None:
    target = os.path.realpath(entry.path)
    if not os.path.exists(target):  # noqa: PTH110
        return "a link to nothing, or to itself"
    if os.path.commonpath([target, real_root]) != real_root:
        return "a link out of the tree"
    return "a link to a folder of this tree" if os.path.isdir(target) else None  # noqa: PTH112


def is_image(path: str | os.PathLike[str]) -> bool:
    """By its extension, in any case, or by its first bytes."""
    if os.path.splitext(path)[1].lower() in IMAGE_EXTENSIONS:  # noqa: PTH122
        return True
    with open(path, "rb") as file:  # noqa: PTH123
        return bool(sniff(file.read(_HEAD)))


def is_archive(name: str) -> bool:
    return name.lower().endswith(_ARCHIVES)


def same(name: str) -> str:
    """Equal for names that common disks take for the same one."""
    return unicodedata.normalize("NFC", name).casefold()


def printable(name: str) -> str:
    """The name, with bytes that are not UTF-8 spelled out."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def without_twins(files: list[tuple[str, int]]) -> tuple[list[tuple[str, int]], list[Skipped]]:
    """Of paths that common disks take for the same one (case, composed accents), only the first."""
    first: dict[str, str] = {}
    kept, twins = [], []
    for name, size in files:
        key = same(name)
        if first.setdefault(key, name) == name:
            kept.append((name, size))
        else:
            twins.append(
                Skipped(name, f"differs only in case from {first[key]} and would overwrite it on common disks")
            )
    return kept, twins
