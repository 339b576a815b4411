"""The last stage of `protect`: what was built and measured becomes card, reports, receipt, manifest and signature."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from release import croissant, figures, formats, gallery, layout, plots
from release.build import Built, Settings
from release.facts import Facts, Measured
from release.manifest import utc_now
from release.records import Owner, finished, versions
from release.seal import publish, seal
from unlearnable.errors import disk_error
from unlearnable.types import Source


@dataclass(frozen=True)
class Told:
    """What only the caller knows. private: for the owner's report (see Facts.owner_extra); receipt: kept beside it."""

    name: str
    verification: dict[str, Any] | None
    private: Mapping[str, Any]
    receipt: Mapping[str, Any]
    licence: str | None = None
    contact: str | None = None
    disclose: bool = False
    overwrite: bool = False
    documents: tuple[str, ...] = field(default=())
    only: tuple[str, ...] | None = None  # the classes that are protected; None: all
    trace_commitment: Mapping[str, str] | None = None


def finish(
    source: Source, built: Built, settings: Settings, staging: Path, out: Path, owner: Owner, told: Told
) -> dict[str, int]:
    """Seals what lies in `staging` and renames it to `out`; the counts of images, as the manifest has them.

    Raises UnlearnableError in one sentence when the disk fails.
    """
    facts = _facts(source, built, settings, staging, owner, told)
    owner.write_json(
        layout.RECEIPT,
        {
            "schema_version": 1,
            "created": facts.created,
            "source": source.spec,
            "settings": vars(settings),
            "only": None if told.only is None else list(told.only),
            "without_opt_out": built.without_opt_out(),
            "versions": dict(facts.versions),
            "skipped": [vars(item) for item in built.skipped],
            **told.receipt,
        },
    )
    try:
        plots.write(owner.owner / layout.PLOTS, facts)
        seal(staging, owner.owner, croissant.add(staging, facts))
        publish(staging, out, told.overwrite)
        finished(owner.owner)
    except OSError as why:
        raise disk_error(why, staging) from why
    return dict(facts.counts)


def _facts(source: Source, built: Built, settings: Settings, staging: Path, owner: Owner, told: Told) -> Facts:
    split_of = {record.id: record.split for record in source.records}
    paths: dict[str, list[str]] = {}
    for row in built.rows:
        paths.setdefault(split_of[row.id], []).append(row.path)
    changed = [row for row in built.rows if told.only is None or row.of in told.only]
    seen = gallery.look(source, changed, staging, settings.layout, figures.gain(settings.levels))
    return Facts(
        name=told.name,
        created=utc_now(),
        layout=settings.layout,
        levels=settings.levels,
        guaranteed=all(row.lossless for row in built.rows),
        counts=_counts(built, len(changed), told.only is not None),
        splits=dict(Counter(split_of[row.id] for row in built.rows)),
        # a shard whose images were all skipped is still a file, so that the others keep their numbers
        measured={path: Measured(0) for path in (*formats.always(source, settings.layout), *built.passed)}
        | built.measured(),
        versions=versions(),
        commitment=owner.commitment(),
        trace_commitment=told.trace_commitment,
        classes=source.classes,
        verification=told.verification,
        configs=formats.load(settings.layout).configs({split: list(dict.fromkeys(of)) for split, of in paths.items()}),
        drop_labels=source.classes is None,
        licence=told.licence,
        contact=told.contact,
        documents=told.documents,
        gallery=[protected for _, _, protected in seen.triples],
        quality=seen.quality,
        disclose=told.disclose,
        owner_extra={
            **told.private,
            "source": source.spec,
            "skipped": [(item.id, item.reason) for item in built.skipped],
            "spectrum": seen.spectrum,
        },
        owner_gallery=seen.triples,
    )


def _counts(built: Built, protected: int, partly: bool) -> dict[str, int]:
    """total = protected + unprotected + skipped; `unprotected` is there where the owner named classes."""
    lost = len(built.lost())
    counts = {"total": len(built.rows) + lost, "protected": protected, "skipped": lost}
    return counts | ({"unprotected": len(built.rows) - protected} if partly else {})
