"""The last stage of `protect`: what was built and measured becomes card, reports, receipt, manifest and signature."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from release import croissant, figures, formats, gallery, layout, plots, reading
from release.build import Built, Work
from release.depot import Depot
from release.facts import Facts, Measured
from release.manifest import Manifest, utc_now
from release.records import Owner, finished, versions
from release.seal import publish, seal
from unlearnable.errors import disk_error
from unlearnable.types import Tell


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
    fit: Mapping[str, Any] | None = None  # see Manifest.fit


def finish(work: Work, built: Built, out: Path, owner: Owner, told: Told, tell: Tell) -> dict[str, int]:
    """Seals what was built and moves it to its place; the counts of images, as the manifest has them.

    That is `out`, or in a depot the depot's. Raises UnlearnableError in one sentence when the disk fails.
    """
    staging, tree = work.staging, reading.tree(work)
    facts = _facts(work, built, owner, told)
    owner.write_json(
        layout.RECEIPT,
        {
            "schema_version": 1,
            "created": facts.created,
            "source": work.source.spec,
            "settings": vars(work.settings),
            "fit": work.fit,
            "only": None if told.only is None else list(told.only),
            "without_opt_out": built.without_opt_out(),
            "versions": dict(facts.versions),
            "skipped": [vars(item) for item in built.skipped],
            **told.receipt,
        },
    )
    try:
        plots.write(owner.owner / layout.PLOTS, facts)
        manifest = seal(staging, owner.owner, croissant.add(staging, facts, tree), tree)
        if work.depot:
            _send(work.depot, staging, manifest, tell)
        else:
            publish(staging, out, told.overwrite)
        finished(owner.owner)
        if work.depot:
            shutil.rmtree(staging)  # documents, which are there now; until here a rerun may need to know of them
    except OSError as why:
        raise disk_error(why, staging) from why
    return dict(facts.counts)


def _send(depot: Depot, staging: Path, manifest: Manifest, tell: Tell) -> None:
    """To its place on remote storage."""
    documents = [entry.path for entry in manifest.files if entry.kind == "document"]
    documents += [layout.MANIFEST, layout.SUMS, layout.ATTESTATION]
    depot.publish(staging, documents, [entry.path for entry in manifest.files if entry.kind == "data"], tell)


def _facts(work: Work, built: Built, owner: Owner, told: Told) -> Facts:
    source, settings = work.source, work.settings
    split_of = {record.id: record.split for record in source.records}
    paths: dict[str, list[str]] = {}
    for row in built.rows:
        paths.setdefault(split_of[row.id], []).append(row.path)
    changed = [row for row in built.rows if told.only is None or row.of in told.only]
    seen = gallery.look(source, changed, partial(reading.staged, work), figures.gain(settings.levels))
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
        fit=told.fit,
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
