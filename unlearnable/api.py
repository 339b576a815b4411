"""The whole job as functions: `protect`, `verify`, `check`, `methods`. The command line calls these and prints.

This is the one module that knows both sides, the science (`unlearnable`) and the shipping (`release`). Data flows one
way through it: source -> study -> method -> fit -> build -> verify what was staged -> seal.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from release import build, formats, gallery, layout, records
from release.build import Built, Settings
from release.check import check as check_release
from release.manifest import utc_now
from release.seal import Facts, publish, seal
from unlearnable import auto, budget, craft, imageio, params, study
from unlearnable.craft import Crafter, Method
from unlearnable.device import describe, pick
from unlearnable.errors import BELOW_MIN_DROP, FINISHED_WITH_SKIPS, IntegrityError, UsageError
from unlearnable.keys import Key
from unlearnable.listing import described
from unlearnable.sources import open_source
from unlearnable.study import Study
from unlearnable.surrogate import trainer
from unlearnable.types import Context, Record, Source
from unlearnable.verify import evidence, plan, run

Tell = Callable[[str, int, int], None]  # (what is going on, how much is done, of how much)


def _silent(what: str, done: int, of: int) -> None:
    del what, done, of


@dataclass(frozen=True)
class Options:
    """What `protect` can be asked. The command line's options of the same names, with the same defaults."""

    method: str | None = None  # None or "auto": chosen by measurement
    preset: str | None = None
    set: dict[str, Any] = field(default_factory=dict)
    eps: int = budget.DEFAULT_LEVELS
    size: int | None = None  # working size; None follows the images
    split: str | None = None
    image_column: str | None = None
    label_column: str | None = None
    labels: str = "auto"
    clusters: int = 10
    format: str = "auto"
    quality: int = 95
    layout: str = "auto"
    metadata: str = "keep"
    key: Path | None = None
    verify: str = "quick"  # quick, paper or none
    against: tuple[str, ...] = ()
    victim: str | None = None
    seeds: int | None = None
    device: str = "auto"
    workers: int | None = None
    auto_seconds: float = 60.0
    min_drop: float | None = None
    overwrite: bool = False
    name: str | None = None
    licence: str | None = None
    contact: str | None = None
    disclose: bool = False


def protect(source: str, out: str | Path, options: Options | None = None, *, tell: Tell = _silent) -> dict[str, Any]:
    """Writes a protected, verified and sealed copy of `source` at `out`; returns the document of `protect --json`.

    The source is never changed. Unreadable images are left out and counted. Interrupted, the same call continues.
    Raises UsageError for what cannot be done as asked, IntegrityError when a finished part is not what it was.
    """
    options = options or Options()
    started = time.monotonic()
    _check_options(options)
    out = Path(out).expanduser()
    _check_out(source, out, options.overwrite)
    images = open_source(
        source,
        split=options.split,
        image_column=options.image_column,
        label_column=options.label_column,
        labels=options.labels,
    )
    place = records.open_owner(out, _asked(source, images, options), options.key, options.overwrite)
    job = _Job(images, options, place, out, tell)
    crafter, learned, choice = _learn(job)
    job.lap("fit")
    built = _build(job, crafter)
    job.lap("write")
    verification = _verify_once(job, crafter, learned, built)
    job.lap("verify")
    _seal(job, crafter, choice, learned, built, verification)
    lost = [item for item in built.skipped if item.image]
    return {
        "release": str(out),
        "owner": str(place.owner),
        "method": crafter.method.preset,
        "eps": options.eps,
        "images": {"total": len(built.rows) + len(lost), "protected": len(built.rows), "skipped": len(lost)},
        "skipped": [{"id": item.id, "reason": item.reason} for item in lost],
        "seconds": round(time.monotonic() - started, 1),
        "verification": verification,
    }


def exit_code(document: dict[str, Any], min_drop: float | None) -> int:
    """0, 3 (images skipped) or 4 (protection below `min_drop`) for a document of `protect`; 4 comes first."""
    verification = document["verification"]
    if min_drop is not None and verification is not None:
        low = verification["worst_case"]["relative_accuracy_drop"]["low"]
        if low < min_drop:
            return BELOW_MIN_DROP
    return FINISHED_WITH_SKIPS if document["images"]["skipped"] else 0


def verify(
    release: str | Path,
    *,
    source: str | None = None,
    protocol: str = "quick",
    victim: str | None = None,
    against: Sequence[str] = (),
    seeds: int | None = None,
    device: str = "auto",
    tell: Tell = _silent,
) -> dict[str, Any]:
    """Trains victims on a finished release's bytes and tests them on the owner's clean images.

    Needs the owner folder beside the release; `source` says where the originals lie now. Raises IntegrityError when the
    release is not what was sealed.
    """
    root = Path(release).expanduser()
    plan.make(protocol, 1, photos=False, victim=victim, seeds=seeds, against=against)  # refuses bad names early
    state = check_release(root)
    if not state.ok:
        raise IntegrityError(f"{root} is not as it was sealed, so its figures would mean nothing.", "See: check.")
    receipt = records.read_receipt(layout.owner_folder(root))
    images = open_source(source or receipt["source"], **receipt["reading"])
    crafter = craft.load(layout.owner_folder(root) / layout.FIT, _context(Key(b"\0" * 32), images, receipt["eps"], 1))
    learned = study.again(
        images, receipt["parts"], receipt["parts"]["how"], crafter.context.size, crafter.labeller, tell
    )
    built = build.read_rows(layout.owner_folder(root) / layout.SHARDS)
    settings = Settings(**receipt["settings"])
    asked = Options(verify=protocol, victim=victim, against=tuple(against), seeds=seeds, device=device)
    return _verify(root, settings, asked, crafter, learned, built, tell)


def check(release: str | Path, public_key: Path | None = None) -> dict[str, Any]:
    """Signature and hashes of a release: the document of `check --json`."""
    return check_release(Path(release).expanduser(), public_key).to_json()


def methods(kind: str = "poisons") -> list[dict[str, Any]]:
    """What there is of "poisons", "defences" or "nets": name, summary, parameters, presets and facts. Imports no torch."""
    return described(kind)


@dataclass
class _Job:
    """One call of `protect` and what it needs everywhere."""

    source: Source
    options: Options
    place: records.Owner
    out: Path
    tell: Tell
    laps: dict[str, float] = field(default_factory=dict)
    since: float = field(default_factory=time.monotonic)

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.laps[name] = round(now - self.since, 2)
        self.since = now

    @property
    def staging(self) -> Path:
        return layout.staging_folder(self.out)


def _learn(job: _Job) -> tuple[Crafter, Study | None, auto.Choice | None]:
    """Study, choice of method and fit; from the owner folder where an interrupted run has already done it."""
    options, device = job.options, pick(job.options.device)
    name = craft.check_method(options.method, options.preset, options.set)
    method = craft.resolve(options.method, options.preset, options.set) if name else None
    if method and options.verify == "none" and not method.trains and job.source.classes is not None:
        learned = None  # a closed-form pattern by class needs no look at the images
        size = options.size or study.looks.view_size(job.source)[1]
    else:
        protocol = "quick" if options.verify == "none" else options.verify
        learned = study.study(
            job.source,
            protocol,
            job.place.key,
            clusters=options.clusters,
            size=options.size,
            independent=options.verify != "none",
            tell=job.tell,
        )
        size = learned.working
    context = replace(_context(job.place.key, job.source, options.eps, size, options.clusters), device=str(device))
    saved = job.place.owner / layout.FIT
    if saved.exists():
        crafter = craft.load(saved, context)
        learned = learned and replace(learned, labeller=crafter.labeller)
        return crafter, learned, None
    choice = None
    if method is None:
        assert learned is not None
        recipe = plan.make("quick", len(learned.parts.train), photos=learned.photos, victim=None, seeds=1, against=())
        choice = auto.choose(
            learned.part("train"),
            learned.part("select"),
            context,
            learned.labeller,
            recipe.recipe,
            seconds=options.auto_seconds,
            device=device,
            tell=job.tell,
        )
        method = craft.resolve(None, choice.preset, {})
    crafter = _fit(job, method, learned, context)
    craft.save(crafter, saved)
    return crafter, learned, choice


def _fit(job: _Job, method: Method, learned: Study | None, context: Context) -> Crafter:
    labeller = learned.labeller if learned else None
    if not method.trains or learned is None:
        return craft.fit(method, None, context, labeller)
    held = learned.batch("select")
    context = replace(
        context,
        tell=lambda message: job.tell(message, 0, 0),
        train_surrogate=trainer(
            (held.images, held.labels),
            len(context.classes),
            seed=context.key.seed("surrogate"),
            device=pick(job.options.device),
            tell=lambda message: job.tell(message, 0, 0),
        ),
    )
    return craft.fit(method, learned.batch("train"), context, labeller)


def _context(key: Key, source: Source, levels: int, size: int, clusters: int = 0) -> Context:
    classes = source.classes or tuple(f"cluster {i}" for i in range(clusters))
    return Context(key, classes, levels, size)


def _settings(job: _Job, size: int) -> Settings:
    options = job.options
    chosen = options.layout
    if chosen == "auto":
        chosen = (
            "folder" if job.source.kind == "folder" and formats.load("folder").refuse(job.source) is None else "parquet"
        )
    refusal = formats.load(chosen).refuse(job.source)
    if refusal:
        raise UsageError(f"--layout {chosen} cannot hold {job.source.spec}: {refusal}.", "Use --layout parquet.")
    workers = options.workers or os.cpu_count() or 1
    return Settings(chosen, options.format, options.eps, size, options.quality, options.metadata, workers)


def _build(job: _Job, crafter: Crafter) -> Built:
    """Writes the data; a full disk is said in a sentence, and what is done stays for the rerun."""
    try:
        built = build.build(
            job.source,
            crafter,
            _settings(job, crafter.context.size),
            job.staging,
            job.place.owner / layout.SHARDS,
            lambda done, of: job.tell("writing", done, of),
        )
    except OSError as why:
        raise records.disk_error(why, job.staging) from why
    if not built.rows:
        reasons = "; ".join(item.reason for item in built.skipped[:3])
        raise UsageError(f"No image of {job.source.spec} could be protected: {reasons}")
    return built


def _verify_once(job: _Job, crafter: Crafter, learned: Study | None, built: Built) -> dict[str, Any] | None:
    """The verification of this run, kept in the owner folder so that an interruption at sealing does not repeat it."""
    if job.options.verify == "none" or learned is None:
        return None
    kept = job.place.read_json(layout.VERIFICATION)
    if kept is None:
        settings = _settings(job, crafter.context.size)
        kept = _verify(job.staging, settings, job.options, crafter, learned, built, job.tell)
        job.place.write_json(layout.VERIFICATION, kept)
    return kept


def _verify(
    root: Path, settings: Settings, options: Options, crafter: Crafter, learned: Study, built: Built, tell: Tell
) -> dict[str, Any]:
    device = pick(options.device)
    rows = {row.id: row for row in built.rows}
    noise = craft.fit(craft.resolve("random_noise", None, {}), None, crafter.context, None)

    def shipped(wanted: Sequence[Record]) -> Iterator[tuple[Record, bytes]]:
        kept = [record for record in wanted if record.id in rows]
        yield from zip(kept, build.read_back(root, [rows[r.id] for r in kept], settings.layout), strict=True)

    def noisy(record: Record) -> bytes:
        picture = imageio.decode(learned.source.read(record), record.id)
        delta = noise([record], imageio.square(picture.pixels, settings.size)[None])[0]
        return build.make(picture, delta, settings).data

    count = [0]

    def each() -> None:
        count[0] += 1
        tell("reading the release back", count[0], len(learned.parts.train))

    seen = evidence.collect(
        learned.looks,
        learned.parts,
        options.verify,
        shipped=shipped,
        noisy=noisy,
        classes=len(crafter.context.classes),
        surrogate=crafter.method.surrogate if crafter.method.trains else None,
        labeller=learned.labeller,
        each=each,
    )
    todo = plan.make(
        options.verify,
        len(seen.labels),
        photos=learned.photos,
        victim=options.victim,
        seeds=options.seeds,
        against=options.against,
    )
    document = run.run(todo, seen, device, tell)
    if learned.independent is not None:
        other = run.run(replace(todo, against=()), evidence.relabelled(seen, learned.independent), device, tell)
        document["independent_labels"] = other["arms"]
    return document


def _seal(
    job: _Job,
    crafter: Crafter,
    choice: auto.Choice | None,
    learned: Study | None,
    built: Built,
    verification: dict[str, Any] | None,
) -> None:
    options, method = job.options, crafter.method
    settings = _settings(job, crafter.context.size)
    by_split: dict[str, list[str]] = {}
    splits = {record.id: record.split for record in job.source.records}
    counts: dict[str, int] = {}
    for row in built.rows:
        counts[splits[row.id]] = counts.get(splits[row.id], 0) + 1
        by_split.setdefault(splits[row.id], []).append(row.path)
    paths = {split: list(dict.fromkeys(found)) for split, found in by_split.items()}
    lost = [item for item in built.skipped if item.image]
    if choice:
        job.place.write_json(layout.AUTO, {"preset": choice.preset, "reason": choice.reason, "rows": choice.evidence})
    kept = job.place.read_json(layout.AUTO)
    pictures = gallery.choose(job.source, built, job.staging, settings.layout)
    facts = Facts(
        name=options.name or job.out.name,
        created=utc_now(),
        layout=settings.layout,
        levels=options.eps,
        guaranteed=all(row.lossless for row in built.rows),
        counts={"total": len(built.rows) + len(lost), "protected": len(built.rows), "skipped": len(lost)},
        splits=counts,
        measured=built.measured(),
        versions=records.versions(),
        commitment=job.place.commitment(),
        classes=job.source.classes,
        verification=verification,
        configs=formats.load(settings.layout).configs(paths),
        drop_labels=job.source.classes is None,
        licence=options.licence,
        contact=options.contact,
        gallery=[protected for _, _, protected in pictures],
        disclose=options.disclose,
        owner_extra={
            "method": method.name,
            "preset": method.preset,
            "params": params.as_dict(method.params),
            "surrogate": method.surrogate if method.trains else None,
            "source": job.source.spec,
            "command": records.command(job.source.spec, job.out, options),
            "auto": kept["rows"] if kept else [],
            "skipped": [(item.id, item.reason) for item in built.skipped],
            "timings": job.laps,
        },
        owner_gallery=pictures,
    )
    job.place.write_receipt(
        source=job.source.spec,
        reading=records.reading(options),
        eps=options.eps,
        settings=settings,
        method={"name": method.name, "preset": method.preset, "params": params.as_dict(method.params)},
        device=describe(pick(options.device)),
        versions=records.versions(),
        parts={**learned.ids(), "how": learned.parts.how} if learned else None,
        skipped=built.skipped,
        created=facts.created,
    )
    try:
        seal(job.staging, job.place.owner, facts)
        publish(job.staging, job.out, options.overwrite)
    except OSError as why:
        raise records.disk_error(why, job.staging) from why


def _check_options(options: Options) -> None:
    """Everything that can be refused before any work is."""
    budget.check_levels(options.eps)
    craft.check_method(options.method, options.preset, options.set)
    if options.verify != "none":
        plan.make(options.verify, 1, photos=False, victim=options.victim, seeds=options.seeds, against=options.against)
    if not 2 <= options.clusters <= 1000:
        raise UsageError(f"--clusters is 2 to 1000, not {options.clusters}.")
    if options.layout != "auto":
        formats.load(options.layout)
    if options.size is not None and not 8 <= options.size <= 1024:
        raise UsageError(f"--size is 8 to 1024 pixels, not {options.size}.")


def _check_out(source: str, out: Path, overwrite: bool) -> None:
    inside = Path(source).expanduser()
    if inside.exists():
        a, b = inside.resolve(), out.resolve()
        if b == a or b.is_relative_to(a) or a.is_relative_to(b):
            raise UsageError(f"{out} and the source {source} lie in one another.", "Name a folder outside it.")
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file.", "Name a folder that does not exist yet.")
    if out.exists() and any(out.iterdir()) and not overwrite:
        raise UsageError(f"{out} exists and is not empty.", "Name another folder, or pass --overwrite.")
    if not out.resolve().parent.is_dir():
        raise UsageError(f"The folder {out.parent} does not exist.", "Make it first.")


def _asked(spec: str, source: Source, options: Options) -> dict[str, Any]:
    """What makes two runs the same job: the same source listing and every option that touches bytes or figures."""
    listing = [(record.id, record.label, record.size) for record in source.records]
    given = {name: value for name, value in vars(options).items() if name not in ("overwrite", "workers", "min_drop")}
    return records.asked(spec, listing, given)


__all__ = ["Options", "check", "exit_code", "methods", "protect", "verify"]
