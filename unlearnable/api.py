"""The whole job as functions: `protect`, `verify`, `check`, `push`, `methods`. The command line calls these and prints.

This is the one module that knows both sides, the science (`unlearnable`) and the shipping (`release`). Data flows one
way through it: source -> learn -> build -> verify what was staged -> seal.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from release import build, forecast, formats, growth, layout, records
from release import preview as contact
from release.build import Built, Settings
from release.check import check as check_release
from release.finish import Told, finish
from release.push import push
from release.recognise import require_apart, require_unprotected
from release.seal import require_replaceable
from unlearnable import budget, craft, imageio, params, rehearsal, study
from unlearnable.clock import Clock
from unlearnable.craft import Crafter
from unlearnable.device import describe, pick
from unlearnable.errors import IntegrityError, UsageError, disk_error
from unlearnable.errors import outcome as exit_code
from unlearnable.keys import Key
from unlearnable.learn import context_of, learn, learn_again
from unlearnable.listing import described as methods
from unlearnable.options import Options
from unlearnable.sources import open_source
from unlearnable.study import Study
from unlearnable.types import Record, Source
from unlearnable.verification import evidence, plan, prove
from unlearnable.verification.cells import Cells
from unlearnable.verification.evidence import Evidence

__all__ = ["Options", "check", "exit_code", "methods", "plan_run", "preview", "protect", "push", "verify"]

Tell = Callable[[str, int, int], None]  # (what is going on, how much is done, of how much)


def _silent(what: str, done: int, of: int) -> None:
    del what, done, of


def protect(source: str, out: str | Path, options: Options | None = None, *, tell: Tell = _silent) -> dict[str, Any]:
    """Writes a protected, verified and sealed copy of `source` at `out`; returns the document of `protect --json`.

    The source is never changed. Unreadable images are left out and counted. Interrupted, the same call continues.
    Raises UsageError for what cannot be done as asked, IntegrityError when a finished part is not what it was.
    """
    options, out, clock = options or Options(), layout.absolute(out), Clock()
    refuse(source, out, options)
    images, settings = _opened(source, out, options)
    listing = [(record.id, record.label, record.size) for record in images.records]
    asked = records.asked(source, listing, options.deciding())
    before = growth.reopen(out, asked["options"]) if options.grow else None
    owner = records.open_owner(out, asked, options.key, options.overwrite or options.grow)
    fitted, kept = owner.state / layout.FIT, before.hand_over(owner.state) if before else None
    if before:
        crafter, learned = learn_again(images, options, owner.key, fitted, before.parts, tell)
    else:
        crafter, learned, choice = learn(images, options, owner.key, fitted, tell)
        if choice:
            owner.write_json(layout.AUTO, asdict(choice))
    clock.lap("learn")
    staging = layout.staging_folder(out)
    built = _build(images, crafter, settings, staging, owner.state / layout.SHARDS, kept, tell)
    clock.lap("write")
    verification = owner.read_json(layout.VERIFICATION)
    if verification is None and learned is not None and options.verify != "none":
        seen = _evidence(staging, settings, options, crafter, learned, built, tell)
        verification = prove.prove(seen, options, learned, Cells(owner.state / layout.CELLS), tell)
        owner.write_json(layout.VERIFICATION, verification)
    clock.lap("verify")
    told = _told(source, out, options, crafter, learned, owner, verification, clock.laps)
    finish(images, built, settings, staging, out, owner, told)
    lost = built.lost()
    return {
        "release": str(out),
        "owner": str(owner.owner),
        "method": crafter.method.preset,
        "eps": options.levels,
        "images": {"total": len(built.rows) + len(lost), "protected": len(built.rows), "skipped": len(lost)},
        "skipped": [{"id": item.id, "reason": item.reason} for item in lost],
        "seconds": clock.total(),
        "verification": verification,
    }


def plan_run(source: str, out: str | Path, options: Options | None = None, *, tell: Tell = _silent) -> dict[str, Any]:
    """What `protect` would find, take and need, the document of `protect --dry-run --json`, or what it would refuse."""
    options, out = options or Options(), layout.absolute(out)
    refuse(source, out, options)
    images, settings = _opened(source, out, options)
    key = Key.load(options.key) if options.key else Key.new()
    tried = rehearsal.forecast(images, options, key, tell)
    probes, missed = forecast.probe(images, forecast.chosen(images), tried.crafter, settings)
    known = (tried.method, tried.seconds, tried.exact, options.verify != "none")
    return forecast.document(images, out, settings, probes, missed, *known)


def preview(
    source: str, out: str | Path = "preview.html", options: Options | None = None, *, tell: Tell = _silent
) -> dict[str, Any]:
    """Writes a contact sheet (.html or .png) of originals, differences and protected images: {preview, method, images}."""
    options, out = options or Options(), layout.absolute(out)
    contact.require_writable(out, options.overwrite)
    require_apart(source, out)
    images, settings = _opened(source, out, options)
    tried = rehearsal.preview(images, options, Key.load(options.key) if options.key else Key.new(), tell)
    shown = contact.look(images, tried.crafter, settings)
    method = tried.crafter.method.preset
    facts = (("Source", source), ("Method", method), ("Budget in grey levels", str(settings.levels)))
    contact.write(out, contact.sheet(shown) if out.suffix == ".png" else contact.page(shown, facts, tried.note))
    return {"preview": str(out), "method": method, "images": len(shown), "note": tried.note}


def verify(
    release: str | Path,
    *,
    source: str | None = None,
    protocol: str = "quick",
    victim: str | None = None,
    against: Sequence[str] = (),
    seeds: int | None = None,
    device: str = "auto",
    diagnose: bool = False,
    fresh: bool = False,
    dry_run: bool = False,
    tell: Tell = _silent,
) -> dict[str, Any]:
    """Trains victims on a finished release's bytes and tests them on the owner's clean images.

    Trainings that were finished before are kept in the owner folder and not repeated, unless `fresh`. `dry_run` only says
    what would be trained and how long it takes; `diagnose` also looks at the perturbation from outside.

    Needs the owner folder beside the release; `source` says where the originals lie now. Raises IntegrityError when the
    release is not what was sealed.
    """
    root = layout.absolute(release)
    plan.make(protocol, 1, victim=victim, seeds=seeds, against=against)  # refuses bad names before any work
    asked = Options(verify=protocol, victim=victim, against=tuple(against), seeds=seeds, device=device)
    if not check_release(root).ok:
        raise IntegrityError(f"{root} is not as it was sealed.", f"See which files: unlearnable check {root}")
    receipt, state = records.read_receipt(root)
    settings = Settings(**receipt["settings"])
    imageio.limit(settings.max_pixels)
    images = open_source(source or receipt["source"], **receipt["reading"])
    key = Key.load(layout.owner_folder(root) / layout.KEY)
    crafter = craft.load(state / layout.FIT, context_of(images, key, receipt["eps"], 1, 1))
    parts, size = receipt["parts"], crafter.context.size
    learned = study.again(images, parts, parts["how"], size, crafter.labeller, crafter.independent, tell)
    built = build.read_rows(state / layout.SHARDS)
    seen = _evidence(root, settings, asked, crafter, learned, built, tell)
    kept = Cells(state / layout.CELLS, fresh)
    return prove.prove(seen, asked, learned, kept, tell, diagnose=diagnose, dry_run=dry_run)


def check(release: str | Path, public_key: Path | None = None) -> dict[str, Any]:
    """Signature and hashes of a release: the document of `check --json`."""
    return check_release(Path(release).expanduser(), public_key).to_json()


def refuse(source: str, out: Path, options: Options) -> None:
    """Everything that can be refused before any work is. Raises UsageError."""
    pick(options.device)
    params.check_method(options.method, options.preset, options.set)
    if options.verify != "none":
        plan.make(options.verify, 1, victim=options.victim, seeds=options.seeds, against=options.against)
    if options.layout != "auto":
        formats.load(options.layout)
    require_apart(source, out)
    require_replaceable(out, options.overwrite or options.grow)
    if not out.resolve().parent.is_dir():
        raise UsageError(f"The folder {out.parent} does not exist.", "Make it first.")


def _opened(source: str, out: Path, options: Options) -> tuple[Source, Settings]:
    """The source and how its files will be made. Raises UsageError for what is protected already."""
    imageio.limit(options.max_pixels)
    images = open_source(source, **options.reading())
    if not options.force:
        require_unprotected(images, out)
    return images, _settings(images, options)


def _settings(source: Source, options: Options) -> Settings:
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


def _build(
    source: Source,
    crafter: Crafter,
    settings: Settings,
    staging: Path,
    marks: Path,
    kept: build.Kept | None,
    tell: Tell,
) -> Built:
    try:
        built = build.build(source, crafter, settings, staging, marks, lambda n, of: tell("writing", n, of), kept)
    except OSError as why:
        raise disk_error(why, staging) from why
    if not built.rows:
        reasons = "; ".join(item.reason for item in built.skipped[:3])
        raise UsageError(f"No image of {source.spec} could be protected: {reasons}")
    return built


def _evidence(
    root: Path, settings: Settings, options: Options, crafter: Crafter, learned: Study, built: Built, tell: Tell
) -> Evidence:
    """The bytes under `root` and their controls. The verifier is given functions that read and make files of the release.

    The control arm is uniform noise of the budget. Where the method is unbounded, that would be noise of the whole range,
    which proves nothing: there it has the root mean square of what really changed, at most 64 levels and the budget.
    """
    rows = {row.id: row for row in built.rows}
    like = budget.noise_like(built.rms()) if crafter.method.unbounded else settings.levels
    levels = min(like, settings.levels)
    noise = craft.fit(craft.resolve("random_noise", None, {}), None, replace(crafter.context, levels=levels))
    count = [0]

    def shipped(wanted: Sequence[Record]) -> Iterator[tuple[Record, bytes]]:
        kept = [record for record in wanted if record.id in rows]
        for pair in zip(kept, build.read_back(root, [rows[r.id] for r in kept], settings.layout), strict=True):
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
    )


def _told(
    source: str,
    out: Path,
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
        name=options.name or out.name,
        verification=verification,
        private={
            **named,
            "surrogate": method.shown_surrogate(),
            "command": shlex.join(["unlearnable", "protect", source, str(out), *options.words()]),
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
            "seconds": laps,
            "parts": {**learned.ids(), "how": learned.parts.how} if learned else None,
        },
        licence=options.licence,
        contact=options.contact,
        disclose=options.disclose,
        overwrite=options.overwrite or options.grow,
    )
