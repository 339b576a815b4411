"""Which members of an archive are images, by names that can neither leave a release nor overwrite one another in it.

Nothing is ever unpacked to disk. Every member ends as an image or as skipped with its reason.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from unlearnable.imageio import IMAGE_EXTENSIONS, sniff
from unlearnable.sources import _tree
from unlearnable.types import Skipped

_LARGEST = 4 << 30  # more than 200 megapixels take in any container: what claims it is a bomb, or no photo
_LONGEST = 255  # bytes of one part of a path, on nearly every disk
_DRIVE = re.compile(r"[A-Za-z]:")


@dataclass(frozen=True)
class Member:
    """name: as the archive spells it; trouble: why it cannot be read at all, if so."""

    name: str
    size: int
    trouble: str = ""


def sift(
    members: Sequence[Member], head: Callable[[int], bytes], *, sort: bool = True
) -> tuple[list[tuple[str, int]], dict[str, int], list[Skipped]]:
    """Images as (path, bytes), the position of each readable member by its path, and all others with the reason.

    head: position -> the member's first 32 bytes or more. Of members of one name only the last counts, as when the
    archive is unpacked. sort: by path; else images stay in the archive's order.
    """
    at: dict[str, int] = {}
    skipped: list[Skipped] = []
    for position, member in enumerate(members):
        name, reason = _path(member)
        if reason:
            image = not reason.startswith((_tree.NOT_AN_IMAGE, _tree.HIDDEN))
            skipped.append(Skipped(_tree.printable(member.name), reason, image))
            continue
        if name in at:
            skipped.append(Skipped(name, "stands in the archive again further on; only the last one counts"))
        at.pop(name, None)
        at[name] = position
    folders = {_tree.same(str(parent)) for name in at for parent in PurePosixPath(name).parents}
    files: list[tuple[str, int]] = []
    for name, position in at.items():
        reason = _reason(name, head, position, folders)
        if reason is None:
            files.append((name, members[position].size))
        else:
            skipped.append(Skipped(name, reason, not reason.startswith((_tree.NOT_AN_IMAGE, _tree.ARCHIVE))))
    kept, twins = _tree.without_twins(sorted(files))
    names = {name for name, _ in kept}
    ordered = kept if sort else [file for file in files if file[0] in names]
    return ordered, at, sorted(skipped + twins, key=lambda item: item.id)


def _path(member: Member) -> tuple[str, str | None]:
    """The path inside a release, or the reason to skip the member that its name or kind gives."""
    name = member.name
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if _tree.printable(name) != name:
        return "", "its name is not valid UTF-8; rename it"
    if "\\" in name or "\0" in name:
        return "", "its name holds a backslash or a zero byte; rename it"
    if name.startswith("/") or ".." in parts or _DRIVE.match(name) or not parts:
        return "", "its name leads out of the archive; rename it"
    if any(part.startswith(".") or part == "__MACOSX" for part in parts):
        return "", f"{_tree.HIDDEN} file"
    if any(len(part.encode()) > _LONGEST for part in parts):
        return "", f"its name is longer than {_LONGEST} bytes; rename it"
    if member.trouble:
        return "", member.trouble
    if member.size > _LARGEST:
        return "", f"claims to hold {member.size >> 30} GB, more than any image"
    return "/".join(parts), None


def _reason(name: str, head: Callable[[int], bytes], position: int, folders: set[str]) -> str | None:
    """Why a readable member is no image to protect, None when it is one."""
    if _tree.is_archive(name):
        return _tree.ARCHIVE
    if PurePosixPath(name).suffix.lower() not in IMAGE_EXTENSIONS:
        try:
            if not sniff(head(position)):
                return _tree.NOT_AN_IMAGE
        except Exception as why:  # noqa: BLE001 - decompressors raise many things, and one member must not stop the rest
            return f"cannot be read ({why})"
    return "has the name of a folder too; rename it" if _tree.same(name) in folders else None
