"""Runs that do a part of a release, a part of `api`: the fit alone, or some of the shards, with what they share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from release import build, journal, layout, records
from release.build import Settings, Work
from unlearnable import craft
from unlearnable.api_steps import opened, written
from unlearnable.clock import Clock
from unlearnable.craft import Crafter
from unlearnable.device import pick
from unlearnable.learn import context_of
from unlearnable.options import Options
from unlearnable.tracing import prepare
from unlearnable.tracing.secret import Marks
from unlearnable.types import Source, Tell


def asked(source: str, images: Source, options: Options) -> dict[str, Any]:
    """The job, for the owner folder: by which digest a rerun knows it, and what `merge` has to be told of it."""
    listing = [(record.id, record.label, record.size) for record in images.records]
    return records.asked(source, listing, options.deciding()) | {"source": source, "given": options.given()}


def work(
    images: Source,
    crafter: Crafter,
    settings: Settings,
    out: Path,
    owner: records.Owner,
    options: Options,
    kept: build.Kept | None = None,
) -> Work:
    """What every shard of this release is made with, whoever makes it. Raises IntegrityError for a fit that has changed."""
    staging, marks = layout.staging_folder(out), owner.state / layout.SHARDS
    fit = owner.fitted()
    return Work(images, crafter, settings, staging, marks, kept, crafter.apart, options.address, fit=fit)


def fitted(work: Work, crafter: Crafter, owner: records.Owner, out: Path, clock: Clock) -> dict[str, Any]:
    """The end of a run with --fit-only: the document of `protect --fit-only --json`."""
    work.staging.mkdir(exist_ok=True)
    work.marks.mkdir(exist_ok=True, mode=0o700)
    return {
        "release": str(out),
        "owner": str(owner.owner),
        "method": crafter.method.preset,
        "fit": work.fit,
        "shards": len(work.shards()),
        "images": {"total": len(work.source.records)},
        "seconds": clock.total(),
    }


def one(source: str, out: Path, options: Options, tell: Tell) -> dict[str, Any]:
    """A run with --shard: the document of `protect --shard i/n --json`. It learns nothing and seals nothing."""
    assert options.shard is not None
    number, of = options.shard
    clock = Clock()
    images, settings = opened(source, out, options)
    owner = records.join_owner(out, asked(source, images, options))
    begun = {"command": ["protect", source, str(out), *options.words()], "versions": records.versions()}
    with journal.keep(owner.owner / layout.PART_LOG.format(number, of), tell, **begun) as log:
        context = context_of(images, owner.key, options.levels, 1, options.clusters)
        crafter = craft.load(owner.state / layout.FIT, replace(context, device=str(pick(options.device))))
        marks = owner.state / layout.MARKS
        crafter = prepare.marked(crafter, Marks.load(marks) if marks.exists() else None)
        todo = work(images, crafter, settings, out, owner, options)
        mine = len(todo.shards()[number::of])
        if not mine:
            tell(f"there are only {len(todo.shards())} shards: this part has none", 0, 0)
        built = written(todo, options, log.tell)
        log.skipped(built.skipped)
    return {
        "release": str(out),
        "owner": str(owner.owner),
        "method": crafter.method.preset,
        "fit": todo.fit,
        "part": f"{number}/{of}",
        "shards": mine,
        "images": {
            "total": len(built.rows) + len(built.lost()),
            "protected": len(built.rows),
            "skipped": len(built.lost()),
        },
        "skipped": [{"id": item.id, "reason": item.reason} for item in built.lost()],
        "seconds": clock.total(),
    }
