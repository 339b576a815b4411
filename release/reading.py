"""What was built, read again: rows from the done-marks, bytes from the staging folder, a depot, or a finished release."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from release import formats, marks
from release.build import Work
from release.depot import AT_ONCE, Uploaded, each
from release.formats import Placed
from release.rows import Built, Row
from release.tree import Tree
from unlearnable.types import Skipped

# rows -> the bytes that ship for them, in their order
ReadBack = Callable[[Sequence[Row]], Iterator[bytes]]


def read_back(root: Path, rows: Sequence[Row], layout: str) -> Iterator[bytes]:
    """The bytes that ship for these rows, in their order."""
    placed = [Placed(row.id, row.path, row.row) for row in rows]
    found: Iterator[bytes] = formats.load(layout).read(root, placed)
    return found


def staged(work: Work, rows: Sequence[Row]) -> Iterator[bytes]:
    """The same of a run that is under way. In a depot, rows of one file should come together: it is fetched for them."""
    if work.depot is None:
        yield from read_back(work.staging, rows, work.settings.layout)
        return
    digests = {path: digest for mark in work.marks.glob("*.json") for path, digest in marks.files(mark).items()}
    depot = work.depot

    def fetched(file: tuple[str, list[Row]]) -> list[bytes]:
        with depot.lent(work.staging, file[0], digests[file[0]]):
            return list(read_back(work.staging, file[1], work.settings.layout))

    for files in _files(rows):
        yield from itertools.chain.from_iterable(each(fetched, list(files.items())))


def _files(rows: Sequence[Row]) -> Iterator[dict[str, list[Row]]]:
    """Rows by the file they lie in, in their order: as many files as may be fetched at once, each of them once."""
    files: dict[str, list[Row]] = {}
    for path, of_file in itertools.groupby(rows, key=lambda row: row.path):
        if path in files or len(files) == AT_ONCE:
            yield files
            files = {}
        files[path] = list(of_file)
    yield files


def tree(work: Work) -> Tree:
    """The files of a run that is under way, wherever they lie."""
    if work.depot is None:
        return Tree(work.staging)
    known: dict[str, tuple[str, int]] = {}
    for mark in work.marks.glob("*.json"):
        sizes = marks.sizes(mark)
        known |= {path: (digest, sizes[path]) for path, digest in marks.files(mark).items()}
    return Uploaded(work.staging, work.depot, known)


def read_rows(folder: Path) -> Built:
    """What the done-marks of a finished release say. Raises IntegrityError where one is damaged."""
    rows: list[Row] = []
    skipped: list[Skipped] = []
    for mark in sorted(folder.glob("*.json")):
        more, missing, _ = marks.read(mark)
        rows += more
        skipped += missing
    return Built(tuple(rows), tuple(skipped))
