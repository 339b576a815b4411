"""The owner's report of a later `verify`: the page of `protect` with other figures, beside it in the owner folder.

The report of the release itself stays as it was sealed with. Nothing here is public, and nothing in the release changes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from release import figures, gallery, layout, plots, reading, records, report
from release.build import Built, Row
from release.facts import Facts, Measured
from release.files import encoded, write_anew
from release.gallery import Seen
from release.manifest import Manifest, utc_now
from unlearnable.errors import ImageError, disk_error
from unlearnable.types import Source


def write(root: Path, facts: Facts) -> Path:
    """Writes the page, the document of `verify --json` and the plots; the page's path.

    Raises UnlearnableError in one sentence when the disk fails.
    """
    owner = layout.owner_folder(root)
    page = owner / layout.VERIFIED
    try:
        write_anew(page, encoded(report.owner(facts)), 0o600)
        write_anew(owner / layout.VERIFICATION, encoded(json.dumps(facts.verification, indent=1) + "\n"), 0o600)
        plots.write(owner / layout.VERIFIED_PLOTS, facts)
    except OSError as why:
        raise disk_error(why, owner) from why
    return page


def facts_of(
    root: Path,
    source: Source,
    built: Built,
    receipt: Mapping[str, Any],
    document: Mapping[str, Any],
    private: Mapping[str, Any],
    only: Sequence[str] | None,
) -> Facts:
    """What the page is made from. private: see Facts.owner_extra. only: the classes that are protected, None for all."""
    manifest = Manifest.from_bytes((root / layout.MANIFEST).read_bytes())
    levels = int(manifest.budget["levels"])
    changed = [row for row in built.rows if only is None or row.of in only]
    seen = _look(source, changed, root, manifest.layout, figures.gain(levels))
    skipped = [(item["id"], item["reason"]) for item in receipt.get("skipped", ())]
    return Facts(
        name=manifest.name,
        created=utc_now(),
        layout=manifest.layout,
        levels=levels,
        guaranteed=bool(manifest.budget["guaranteed"]),
        counts=manifest.counts,
        splits=manifest.splits,
        measured={
            entry.path: Measured(entry.images, entry.linf, entry.p999, entry.psnr)
            for entry in manifest.files
            if entry.kind == "data"
        },
        versions=records.versions(),
        commitment=manifest.commitment,
        classes=source.classes,
        verification=document,
        quality=seen.quality if seen else None,
        owner_extra={
            **{name: receipt[name] for name in ("method", "preset", "params", "source") if name in receipt},
            **private,
            "skipped": skipped,
            "spectrum": seen.spectrum if seen else None,
        },
        owner_gallery=seen.triples if seen else (),
    )


def _look(source: Source, rows: Sequence[Row], root: Path, layout_name: str, gain: int) -> Seen | None:
    """The pictures beside their originals; None where an original cannot be read any more: the figures are there anyway."""
    there = {record.id for record in source.records}
    known = [row for row in rows if row.id in there]
    try:
        shipped = partial(reading.read_back, root, layout=layout_name)
        return gallery.look(source, known, shipped, gain) if known else None
    except (ImageError, ValueError):  # ValueError: an original that has changed its size
        return None
