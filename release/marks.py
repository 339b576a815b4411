"""Done-marks: what says that a shard is finished, with everything that was measured of it. One JSON file a shard."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from release import hashing
from release.layout import DATA
from release.rows import Row
from unlearnable.errors import IntegrityError
from unlearnable.types import Skipped


def write(
    mark: Path,
    staging: Path,
    rows: Sequence[Row],
    skipped: Sequence[Skipped],
    passed: Sequence[str],
    stamp: str,
    fit: str,
) -> None:
    """The shard's files are on the disk before the mark that vouches for them by their digests.

    stamp: of the originals; fit: digest of what the perturbations were made with.
    """
    files = {path: hashing.sha256(staging / path) for path in {row.path for row in rows} | {*passed}}
    hashing.settle(staging, list(files))
    names = [field.name for field in fields(Row)]  # `asdict` copies every value, and there may be millions
    told = [{name: getattr(row, name) for name in names} for row in rows]
    body = {"files": files, "rows": told, "skipped": [asdict(item) for item in skipped]}
    body |= {"sizes": {path: (staging / path).stat().st_size for path in files}}
    body |= {"passed": list(passed), "stamp": stamp, "fit": fit}
    partial = mark.with_suffix(".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(json.dumps(body, ensure_ascii=True, sort_keys=True))  # `dump` takes several times as long
        file.flush()
        os.fsync(file.fileno())
    partial.replace(mark)


def is_done(mark: Path, stamp: str, fit: str) -> bool:
    """Whether a shard was finished of the same originals. Raises IntegrityError when it was made with another fit."""
    if not mark.exists():
        return False
    body = _body(mark)
    if body.get("fit", fit) != fit:  # marks of before there were digests have none
        raise IntegrityError(
            f"{mark} is of a shard that was made with another fit ({body['fit'][:16]}, not {fit[:16]}).",
            "All shards of a release need one fit: do this part again with the owner folder that --fit-only made.",
        )
    return bool(body.get("stamp") == stamp)


def holds(mark: Path, staging: Path) -> bool:
    """Whether a finished shard's files are still what they were: a machine that lost power may have lost them."""
    return all(
        (staging / path).is_file() and hashing.sha256(staging / path) == was for path, was in files(mark).items()
    )


def lies(mark: Path, staging: Path) -> bool:
    """Whether its files are there in their full length, which says less than `holds` and reads nothing."""
    return all(
        (found := staging / path).is_file() and found.stat().st_size == size for path, size in sizes(mark).items()
    )


def made_of(mark: Path) -> str | None:
    """The stamp of the originals of a shard that is, or was, finished."""
    return _body(mark).get("stamp") if mark.exists() else None


def tidy(marks: Path, staging: Path, stamps: Mapping[Path, str]) -> None:
    """Removes, before a run goes on, marks of other originals or other shards than these, and data files that no mark
    vouches for: a killed run was writing them, and this one may not write all of them again.

    stamps: of all shards, by the path of their mark.
    """
    known: set[Path] = set()
    for mark in sorted(marks.glob("*.json")):
        body = _body(mark)
        if body.get("stamp") == stamps.get(mark):
            known |= {staging / path for path in body["files"]}
        else:
            mark.unlink()
    for path in (staging / DATA).rglob("*"):
        if path.is_file() and path not in known:
            path.unlink()


def files(mark: Path) -> dict[str, str]:
    """Digests of a shard's data files by their paths in the release. Raises IntegrityError where the mark is damaged."""
    found: dict[str, str] = _body(mark)["files"]
    return found


def sizes(mark: Path) -> dict[str, int]:
    """Their lengths in bytes, by the same paths."""
    found: dict[str, int] = _body(mark)["sizes"]
    return found


def read(mark: Path) -> tuple[list[Row], list[Skipped], list[str]]:
    """Rows, what was left out, and the sidecars that were copied. Raises IntegrityError where the mark is damaged."""
    body = _body(mark)
    try:
        skipped = [Skipped(**item) for item in body["skipped"]]
        return [Row(**row) for row in body["rows"]], skipped, body.get("passed", [])
    except (TypeError, KeyError) as why:
        raise _damaged(mark, why) from why


def _body(mark: Path) -> dict[str, Any]:
    try:
        body = json.loads(mark.read_text(encoding="utf-8"))
    except ValueError as why:
        raise _damaged(mark, why) from why
    if not isinstance(body, dict) or not isinstance(body.get("files"), dict):
        raise _damaged(mark, "it lists no files")
    return body


def _damaged(mark: Path, why: object) -> IntegrityError:
    return IntegrityError(f"{mark} is damaged ({why}).", "Remove it: its shard will be written again.")
