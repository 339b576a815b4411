"""XMP and JSON files beside photos, copied into a release of files where nothing of the original is in them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from release.formats import Shard, inside, whole_file
from release.layout import DATA
from unlearnable.errors import ImageError
from unlearnable.sources import _sidecars
from unlearnable.types import Skipped, Source


def carry(
    source: Source, shard: Shard, written: Iterable[str], layout: str, metadata: str, staging: Path
) -> tuple[list[str], list[Skipped]]:
    """Copies the sidecars of the shard's photos: release paths of what was copied, and what was not, with the reason.

    written: records that are in the release. Raises OSError when the disk fails.
    """
    found = getattr(source, "sidecars", {})
    there = set(written)
    passed: list[str] = []
    left: list[Skipped] = []
    for record in shard.records if found else ():
        for name in found.get(record.id, ()):
            reason = _elsewhere(source, record.id in there, layout)
            if reason is None:
                try:
                    data = source.fetch(name)  # type: ignore[attr-defined]  # what has sidecars has files
                    reason = _sidecars.refusal(data, source.read(record), metadata)
                except ImageError as why:
                    reason = str(why)
            if reason is not None:
                left.append(Skipped(name, reason, image=False))
                continue
            path = f"{DATA}/{name}"
            with whole_file(inside(staging, path), durable=False) as file:
                file.write(data)
            passed.append(path)
    return passed, left


def _elsewhere(source: Source, photo_is_there: bool, layout: str) -> str | None:
    """Why a sidecar has no place in this release, whatever it holds."""
    if layout != "folder" or not source.tree:
        return f"a sidecar; the layout {layout} holds images alone"
    return None if photo_is_there else "a sidecar of a photo that could not be protected"
