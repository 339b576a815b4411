"""A list of image files: a .txt with a path a line, or a .csv with columns file_name and, if wanted, label.

Paths are relative to the list's own folder, or absolute. Records are named relative to that folder, or, where a path leads
out of it, to the deepest folder that holds every listed file and the list; a list that later reaches further out therefore
names its images anew.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path

from unlearnable.errors import UsageError
from unlearnable.sources import Options, _tree
from unlearnable.sources._arrange import FilesSource, arrange
from unlearnable.sources._stamps import Files
from unlearnable.types import Skipped


def matches(spec: str) -> bool:
    path = Path(spec).expanduser()
    return path.suffix.lower() in (".txt", ".csv") and path.is_file()


def open(spec: str, options: Options) -> FilesSource:
    """Looks at every listed file. Raises UsageError when the list cannot be read or none of them is an image."""
    path = Path(os.path.abspath(Path(spec).expanduser()))  # noqa: PTH100 - links stay as they are spelled
    lines = list(_rows(path) if path.suffix.lower() == ".csv" else _lines(path))
    found: dict[str, tuple[int, str | None]] = {}  # absolute path: its line, its label
    skipped: list[Skipped] = []
    for number, name, label in lines:
        full = os.path.normpath(path.parent / name)
        if found.setdefault(full, (number, label)) != (number, label):
            if label != found[full][1]:
                raise UsageError(f"{path}, line {number}: {name} has two labels.")
            skipped.append(Skipped(f"{name} (line {number})", f"listed already in line {found[full][0]}", image=False))
    root = path.parent
    while not all(Path(full).is_relative_to(root) for full in found):
        root = root.parent
    files: list[tuple[str, int]] = []
    given: dict[str, str] = {}
    for full, (number, label) in found.items():
        name = Path(full).relative_to(root).as_posix()
        reason, size = _judge(Path(full), name, number)
        if reason:
            skipped.append(Skipped(_tree.printable(name), reason))
            continue
        files.append((name, size))
        if label is not None:
            given[name] = label
    files, twins = _tree.without_twins(sorted(files))
    labels = given if path.suffix.lower() == ".csv" and given else None
    fetch = Files(root, (name for name, _ in files))
    return arrange(spec, "list", files, [*skipped, *twins], options, fetch, labels, fetch.stamp)


def _judge(path: Path, name: str, line: int) -> tuple[str, int]:
    """Why a listed file is no image to protect (else ""), and its bytes."""
    if _tree.printable(name) != name or "\\" in name:
        return "its name is not valid UTF-8 or holds a backslash; rename it", 0
    if not path.is_file():
        return f"listed in line {line}, but there is no such file", 0
    try:
        if not _tree.is_image(path):
            return f"listed in line {line}, but {_tree.NOT_AN_IMAGE}", 0
        return "", path.stat().st_size
    except OSError as why:
        return f"cannot be read ({why.strerror})", 0


def _lines(path: Path) -> Iterator[tuple[int, str, str | None]]:
    for number, line in enumerate(_text(path).split("\n"), 1):
        if name := line.strip("\r"):
            yield number, name, None


def _rows(path: Path) -> Iterator[tuple[int, str, str | None]]:
    """Line, file name and label of each row; labels are given for all or for none."""
    reader = csv.DictReader(_text(path).splitlines(keepends=True))
    columns = reader.fieldnames or ()
    if "file_name" not in columns:
        raise UsageError(
            f"{path} has no column file_name.", "Its first line must name it, and label beside it if wanted."
        )
    try:
        for row in reader:
            name, label = row["file_name"] or "", row.get("label")
            if not name:
                raise UsageError(f"{path}, line {reader.line_num}: there is no file name.")
            if "label" in columns and not (label or "").strip():
                raise UsageError(f"{path}, line {reader.line_num}: {name} has no label.")
            yield reader.line_num, name, label
    except csv.Error as why:
        raise UsageError(f"{path} cannot be read as CSV ({why}).", "Save it as UTF-8 with commas.") from why


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as why:
        raise UsageError(
            f"{path} cannot be read as a list of paths ({why}).", "Save it as UTF-8, a path a line."
        ) from why
