"""The steps of the whole job that touch both sides, the science and the shipping: parts of `api`."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from release import build, formats, interrupt, layout, records
from release.build import Built, Settings
from release.finish import Told
from release.reading import ReadBack
from release.recognise import require_unprotected
from unlearnable import budget, craft, imageio, params
from unlearnable.craft import Crafter
from unlearnable.device import describe, pick
from unlearnable.errors import UsageError, disk_error
from unlearnable.learn import facts
from unlearnable.options import Options
from unlearnable.sources import open_source
from unlearnable.study import Study
from unlearnable.types import Record, Source, Tell
from unlearnable.verification import evidence
from unlearnable.verification.evidence import Evidence


def opened(source: str, out: Path, options: Options) -> tuple[Source, Settings]:
    """The source and how its files will be made. Raises UsageError for what is protected already."""
    imageio.limit(options.max_pixels)
    images = open_source(source, **options.reading())
    options.only(images.classes)  # refuses unknown names
    if not options.force:
        require_unprotected(images, out)
    return images, settings_of(images, options)


def settings_of(source: Source, options: Options) -> Settings:
    """How files will be made. Raises UsageError for a layout that cannot be."""
    chosen = options.layout
    if chosen == "auto":
        trees = source.tree and formats.load("folder").refuse(source) is None
        chosen = "folder" if trees else "parquet"
    refusal = formats.load(chosen).refuse(source)
    if refusal:
        raise UsageError(f"--layout {chosen} cannot hold {source.spec}: {refusal}.", "Use --layout parquet.")
    workers = options.workers or os.cpu_count() or 1
    made = (chosen, options.format, options.levels, options.quality, options.metadata, workers)
    return Settings(*made, opt_out=options.opt_out, max_pixels=options.max_pixels)


def written(work: build.Work, options: Options, tell: Tell) -> Built:
    """Everything built, or with `shard` in the options that part. Raises UsageError where nothing could be."""
    try:
        with interrupt.between_shards(tell) as progress:
            built = build.build(work, progress, engine=options.engine, part=options.shard)
    except OSError as why:
        raise disk_error(why, work.staging) from why
    if not built.rows and not options.shard:
        reasons = "; ".join(item.reason for item in built.skipped[:3])
        raise UsageError(f"No image of {work.source.spec} could be protected: {reasons}")
    return built


def evidence_of(
    read_back: ReadBack,
    settings: Settings,
    options: Options,
    crafter: Crafter,
    learned: Study,
    built: Built,
    tell: Tell,
) -> Evidence:
    """The bytes that ship and their controls. The verifier is given functions that read and make files of the release.

    The control arm is uniform noise of the budget. Where the method is unbounded, that would be noise of the whole range,
    which proves nothing: there it has the root mean square of what really changed, at most 64 levels and the budget.
    """
    rows = {row.id: row for row in built.rows}
    like = budget.noise_like(built.rms()) if crafter.method.unbounded else settings.levels
    levels = min(like, settings.levels)
    noise = craft.fit(craft.resolve("random_noise", None, {}), None, replace(crafter.context, levels=levels))
    noise = replace(noise, only=crafter.only)
    count = [0]

    def shipped(wanted: Sequence[Record]) -> Iterator[tuple[Record, bytes]]:
        kept = [record for record in wanted if record.id in rows]
        for pair in zip(kept, read_back([rows[r.id] for r in kept]), strict=True):
            count[0] += 1
            tell("reading the release back", count[0], len(kept))
            yield pair

    def noisy(record: Record) -> bytes:
        picture = imageio.decode(learned.source.read(record), record.id)
        delta = noise([record], [picture.pixels])[0]
        return build.make(picture, delta, replace(settings, levels=levels)).data

    return evidence.collect(
        learned.looks,
        learned.parts,
        options.verify,
        shipped=shipped,
        noisy=noisy,
        classes=len(crafter.context.classes),
        surrogate=crafter.method.surrogate if crafter.method.trains else None,
        labeller=learned.labeller,
        noise_levels=levels,
        protected=None if crafter.only is None else crafter.numbers(),
    )


def telling(
    source: str,
    out: str,
    options: Options,
    crafter: Crafter,
    learned: Study | None,
    owner: records.Owner,
    verification: dict[str, Any] | None,
    laps: dict[str, float],
) -> Told:
    method = crafter.method
    named = {"method": method.name, "preset": method.preset, "params": params.as_dict(method.params)}
    chosen = owner.read_json(layout.AUTO) or {"evidence": []}
    # a later `verify` may be called from another folder
    labels = options.labels if options.labels in ("auto", "folders", "none") else str(layout.absolute(options.labels))
    return Told(
        name=options.name or Path(out).name,
        verification=verification,
        private={
            **named,
            "surrogate": method.shown_surrogate(),
            "command": shlex.join(["unlearnable", "protect", source, out, *options.words()]),
            "auto": chosen["evidence"],
            "timings": laps,
        },
        receipt={
            **named,
            "source": str(layout.absolute(source)) if Path(source).expanduser().exists() else source,
            "reading": options.reading() | {"labels": labels},
            "eps": options.levels,
            "min_drop": options.min_drop,
            "device": describe(pick(options.device)),
            "crafted_at_once": crafter.at_once,
            "seconds": laps,
            "parts": {**learned.ids(), "how": learned.parts.how} if learned else None,
        },
        licence=options.licence,
        contact=options.contact,
        disclose=options.disclose,
        overwrite=options.overwrite or options.grow,
        only=crafter.only,
        fit=facts(crafter),
    )
