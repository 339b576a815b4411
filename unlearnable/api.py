"""The whole job as functions: `protect`, `verify`, `check`, `methods`. The command line calls these and prints.

This is the one module that knows both sides, the science (`unlearnable`) and the shipping (`release`). Data flows one
way through it: source -> learn -> build -> verify what was staged -> seal.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from release import build, formats, layout, records
from release.build import Built, Settings
from release.check import check as check_release
from release.finish import Told, finish
from release.seal import require_replaceable
from unlearnable import budget, craft, imageio, params, registry, study
from unlearnable.craft import Crafter
from unlearnable.device import describe, pick
from unlearnable.errors import BELOW_MIN_DROP, FINISHED_WITH_SKIPS, IntegrityError, UsageError, disk_error
from unlearnable.keys import Key
from unlearnable.learn import context_of, learn
from unlearnable.listing import described as methods
from unlearnable.options import Options
from unlearnable.sources import open_source
from unlearnable.study import Study
from unlearnable.types import Record, Source
from unlearnable.verification import evidence, plan, run

__all__ = ["Options", "check", "exit_code", "methods", "protect", "verify"]

Tell = Callable[[str, int, int], None]  # (what is going on, how much is done, of how much)


def _silent(what: str, done: int, of: int) -> None:
    del what, done, of


def protect(source: str, out: str | Path, options: Options | None = None, *, tell: Tell = _silent) -> dict[str, Any]:
    """Writes a protected, verified and sealed copy of `source` at `out`; returns the document of `protect --json`.

    The source is never changed. Unreadable images are left out and counted. Interrupted, the same call continues.
    Raises UsageError for what cannot be done as asked, IntegrityError when a finished part is not what it was.
    """
    options, out, clock = options or Options(), _absolute(out), _Clock()
    refuse(source, out, options)
    images = open_source(source, **options.reading())
    settings = _settings(images, options)
    listing = [(record.id, record.label, record.size) for record in images.records]
    asked = records.asked(source, listing, options.deciding())
    owner = records.open_owner(out, asked, options.key, options.overwrite)

    crafter, learned, choice = learn(images, options, owner.key, owner.state / layout.FIT, tell)
    if choice:
        owner.write_json(layout.AUTO, asdict(choice))
    clock.lap("learn")
    staging = layout.staging_folder(out)
    built = _build(images, crafter, settings, staging, owner.state / layout.SHARDS, tell)
    clock.lap("write")
    verification = owner.read_json(layout.VERIFICATION)
    if verification is None and learned is not None and options.verify != "none":
        verification = _verify(staging, settings, options, crafter, learned, built, tell)
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


def exit_code(document: dict[str, Any], min_drop: float | None) -> int:
    """0, 3 (images skipped) or 4 (protection below `min_drop`) for a document of `protect`; 4 comes first."""
    verification = document["verification"]
    if min_drop is not None and (
        verification is None or verification["worst_case"]["relative_accuracy_drop"]["low"] < min_drop
    ):
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
    root = _absolute(release)
    asked = Options(verify=protocol, victim=victim, against=tuple(against), seeds=seeds, device=device)
    plan.make(protocol, 1, victim=victim, seeds=seeds, against=against)  # refuses bad names before any work
    if not check_release(root).ok:
        raise IntegrityError(f"{root} is not as it was sealed.", f"See which files: unlearnable check {root}")
    receipt, state = records.read_receipt(root)
    images = open_source(source or receipt["source"], **receipt["reading"])
    key = Key.load(layout.owner_folder(root) / layout.KEY)
    crafter = craft.load(state / layout.FIT, context_of(images, key, receipt["eps"], 1, 1))
    learned = study.again(
        images,
        receipt["parts"],
        receipt["parts"]["how"],
        crafter.context.size,
        crafter.labeller,
        crafter.independent,
        tell,
    )
    built = build.read_rows(state / layout.SHARDS)
    return _verify(root, Settings(**receipt["settings"]), asked, crafter, learned, built, tell)


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
    folder = Path(source).expanduser()
    if folder.exists():
        a = folder.resolve()
        for b in (out, layout.owner_folder(out), layout.staging_folder(out)):
            if b == a or b.is_relative_to(a) or a.is_relative_to(b):
                raise UsageError(f"{b} and the source {source} lie in one another.", "Name a folder outside it.")
    require_replaceable(out, options.overwrite)
    if not out.resolve().parent.is_dir():
        raise UsageError(f"The folder {out.parent} does not exist.", "Make it first.")


def _absolute(path: str | Path) -> Path:
    """The path from the root, links in its parents resolved, its own name as given."""
    path = Path(path).expanduser()
    return path.parent.resolve() / path.name if path.name not in ("", "..") else path.resolve()


@dataclass
class _Clock:
    """Seconds of each stage, for the owner's report."""

    laps: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    def lap(self, name: str) -> None:
        self.laps[name] = round(self.total() - sum(self.laps.values()), 2)

    def total(self) -> float:
        return round(time.monotonic() - self.started, 2)


def _settings(source: Source, options: Options) -> Settings:
    """How files will be made. Raises UsageError for a layout that cannot be."""
    chosen = options.layout
    if chosen == "auto":
        trees = source.kind == "folder" and formats.load("folder").refuse(source) is None
        chosen = "folder" if trees else "parquet"
    refusal = formats.load(chosen).refuse(source)
    if refusal:
        raise UsageError(f"--layout {chosen} cannot hold {source.spec}: {refusal}.", "Use --layout parquet.")
    workers = options.workers or os.cpu_count() or 1
    return Settings(chosen, options.format, options.levels, options.quality, options.metadata, workers)


def _build(source: Source, crafter: Crafter, settings: Settings, staging: Path, marks: Path, tell: Tell) -> Built:
    try:
        built = build.build(source, crafter, settings, staging, marks, lambda done, of: tell("writing", done, of))
    except OSError as why:
        raise disk_error(why, staging) from why
    if not built.rows:
        reasons = "; ".join(item.reason for item in built.skipped[:3])
        raise UsageError(f"No image of {source.spec} could be protected: {reasons}")
    return built


def _verify(
    root: Path, settings: Settings, options: Options, crafter: Crafter, learned: Study, built: Built, tell: Tell
) -> dict[str, Any]:
    """Victims on the bytes under `root`. What the verifier gets of the release are functions that read and make files.

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

    seen = evidence.collect(
        learned.looks,
        learned.parts,
        options.verify,
        shipped=shipped,
        noisy=noisy,
        classes=len(crafter.context.classes),
        surrogate=crafter.method.surrogate if crafter.method.trains else None,
        labeller=learned.labeller,
    )
    todo = plan.make(
        options.verify,
        len(seen.labels),
        photos=learned.photos,
        victim=options.victim,
        seeds=options.seeds,
        against=options.against,
    )
    device = pick(options.device)
    document = run.run(todo, seen, device, tell)
    document["protocol"]["noise_levels"] = levels
    if learned.independent is not None:
        other = evidence.relabelled(seen, learned.independent)
        run.under_other_labels(document, run.run(replace(todo, against=()), other, device, tell))
    return document


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
    labels = options.labels if options.labels in ("auto", "folders", "none") else str(_absolute(options.labels))
    return Told(
        name=options.name or out.name,
        verification=verification,
        private={
            **named,
            "surrogate": _shown(method.surrogate) if method.surrogate and method.trains else None,
            "command": shlex.join(["unlearnable", "protect", source, str(out), *options.words()]),
            "auto": chosen["evidence"],
            "timings": laps,
        },
        receipt={
            **named,
            "source": str(_absolute(source)) if Path(source).expanduser().exists() else source,
            "reading": options.reading() | {"labels": labels},
            "eps": options.levels,
            "device": describe(pick(options.device)),
            "seconds": laps,
            "parts": {**learned.ids(), "how": learned.parts.how} if learned else None,
        },
        licence=options.licence,
        contact=options.contact,
        disclose=options.disclose,
        overwrite=options.overwrite,
    )


def _shown(surrogate: str) -> str:
    """Networks as others may read them, without the folders of a weights file."""
    return "+".join(dict.fromkeys(registry.network(name).shown for name, _ in registry.ensemble(surrogate)))
