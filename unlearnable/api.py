"""The whole job as functions: `protect`, `verify`, `check`, `push`, `methods`. The command line calls these and prints.

This is the one module that knows both sides, the science (`unlearnable`) and the shipping (`release`). Data flows one
way through it: source -> learn -> build -> verify what was staged -> seal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from release import engines, forecast, formats, growth, journal, layout, parts, reading, records
from release import preview as contact
from release.check import check as check_release
from release.check import with_source
from release.depot import Far
from release.finish import finish
from release.push import push
from release.recognise import require_apart
from release.seal import require_replaceable
from unlearnable import api_parts, distributed, params, rehearsal, spill
from unlearnable.api_steps import evidence_of, opened, telling, written
from unlearnable.api_trace import trace, traceable
from unlearnable.api_verify import verify
from unlearnable.clock import Clock
from unlearnable.device import pick
from unlearnable.errors import UsageError
from unlearnable.errors import outcome as exit_code
from unlearnable.keys import Key
from unlearnable.learn import learn, learn_again
from unlearnable.listing import described as methods
from unlearnable.options import Options
from unlearnable.remote import is_address, locate
from unlearnable.types import Tell, silent
from unlearnable.verification import plan, prove
from unlearnable.verification.cells import Cells

__all__ = [
    "Options",
    "check",
    "exit_code",
    "merge",
    "methods",
    "plan_run",
    "preview",
    "protect",
    "push",
    "trace",
    "verify",
]


def protect(source: str, out: str | Path, options: Options | None = None, *, tell: Tell = silent) -> dict[str, Any]:
    """Writes a protected, verified and sealed copy of `source` at `out`; returns the document of `protect --json`.

    The source is never changed. Unreadable images are left out and counted. Interrupted, the same call continues. `out`
    is a folder, or an address on remote storage such as s3://bucket/name. With
    `fit_only` or `shard` in the options it does that part of the work, and returns what is done of it; `merge` ends it.
    Raises UsageError for what cannot be done as asked, IntegrityError when a finished part is not what it was.
    """
    options = options or Options()
    out, address = api_parts.place(out, options)
    if distributed.launched() > 1 and not options.fit_only:
        raise UsageError("torchrun is for the fit alone.", "Add --fit-only; shards are runs of their own.")
    if options.shard:
        return api_parts.one(source, out, address, options, tell)
    if not options.fit_only:
        return _protect(source, out, address, options, tell)
    with distributed.joined(pick(options.device)) as world:
        if world.rank == 0:
            return _protect(source, out, address, options, tell)
        return api_parts.help_to_fit(source, out, options)


def merge(
    out: str | Path,
    copies: Sequence[str | Path] = (),
    *,
    source: str | None = None,
    min_drop: float | None = None,
    tell: Tell = silent,
) -> dict[str, Any]:
    """Verifies and seals a release whose shards several runs made; returns the document of `protect --json`.

    copies: of `out`, from machines that share no disk with this one. source: where the same originals lie now. Everything
    else is as `--fit-only` was asked. Raises UsageError when shards are missing or another merge is under way,
    IntegrityError when copies differ or were made with another fit.
    """
    out, address = api_parts.place(out, Options())
    if address and copies:
        raise UsageError(f"{address} has no copies: every machine puts its shards there.", "Leave them out.")
    with parts.alone(out):
        parts.gather(out, [layout.absolute(copy) for copy in copies], tell)
        plan = records.unfinished(out)
        source, options = api_parts.again(plan, source)
        options = options if min_drop is None else replace(options, min_drop=min_drop)
        return _protect(source, out, address, options, tell, plan)


def _protect(
    source: str, out: Path, address: str | None, options: Options, tell: Tell, plan: dict[str, Any] | None = None
) -> dict[str, Any]:
    """address: of a release on remote storage, where `out` is but the owner folder's neighbour; plan: of a run that is
    merged, all of whose shards must be there already."""
    clock = Clock()
    refuse(source, out, options, address)
    images, settings = opened(source, out, options)
    asked = api_parts.asked(source, images, options, address, plan)
    before = growth.reopen(out, asked["options"]) if options.grow else None
    begins_anew = options.overwrite or options.grow
    owner = records.open_owner(out, asked, options.key, begins_anew, tell, again=plan is not None)
    depot = api_parts.depot_at(address, owner.key)
    if depot:
        if not options.fit_only and (document := api_parts.moved(depot, out, owner, clock)):
            return document
        depot.require_room()
    if options.fit_only:
        distributed.shared(lambda: owner.key)
    begun = {"command": ["protect", source, address or str(out), *options.words()], "versions": records.versions()}
    with journal.keep(owner.owner / layout.LOG, tell, **begun) as log, spill.into(owner.state):
        tell = log.tell
        fitted, kept = owner.state / layout.FIT, before.hand_over(owner.state) if before else None
        if before:
            crafter, learned = learn_again(images, options, owner.key, fitted, before.parts, tell)
        else:
            crafter, learned, choice = learn(images, options, owner.key, fitted, tell)
            if choice:
                owner.write_json(layout.AUTO, asdict(choice))
        with distributed.apart():  # what marks need is trained here alone
            crafter, commitment = traceable(crafter, learned, options, out, owner, before, tell)
        clock.lap("learn")
        work = api_parts.work(images, crafter, settings, out, owner, options, depot, kept)
        if options.fit_only:
            return api_parts.fitted(work, crafter, owner, address or str(out), clock)
        if plan:
            parts.require_whole(work)
        built = written(work, options, tell)
        clock.lap("write")
        log.skipped(built.skipped)
        verification = owner.read_json(layout.VERIFICATION)
        if verification is not None and owner.read_json(layout.VERIFIED_ROWS) != built.digest():
            verification = None  # shards were made anew after it
        if verification is None and learned is not None and options.verify != "none":
            seen = evidence_of(partial(reading.staged, work), settings, options, crafter, learned, built, tell)
            verification = prove.prove(seen, options, learned, Cells(owner.state / layout.CELLS), tell)
            owner.write_json(layout.VERIFICATION, verification)
            owner.write_json(layout.VERIFIED_ROWS, built.digest())
        clock.lap("verify")
        told = telling(source, address or str(out), options, crafter, learned, owner, verification, clock.laps)
        told = replace(told, trace_commitment=commitment)
        tell("writing reports and seal", 0, 0)
        counts = finish(work, built, out, owner, told, tell)
    return {
        "release": address or str(out),
        "owner": str(owner.owner),
        "method": crafter.method.preset,
        "eps": options.levels,
        "images": counts,
        "skipped": [{"id": item.id, "reason": item.reason} for item in built.lost()],
        "without_opt_out": built.without_opt_out(),
        "seconds": clock.total(),
        "verification": verification,
    }


def plan_run(source: str, out: str | Path, options: Options | None = None, *, tell: Tell = silent) -> dict[str, Any]:
    """What `protect` would find, take and need, the document of `protect --dry-run --json`, or what it would refuse."""
    options = options or Options()
    out, address = api_parts.place(out, options)
    refuse(source, out, options, address)
    key = Key.load(options.key) if options.key else Key.new()
    if depot := api_parts.depot_at(address, key):
        depot.require_room()
    images, settings = opened(source, out, options)
    tried = rehearsal.forecast(images, options, key, tell)
    probes, missed = forecast.probe(images, forecast.chosen(images), tried.crafter, settings, tried.crafter.apart)
    known = (tried.method, tried.seconds, tried.exact, options.verify != "none")
    document = forecast.document(images, out, settings, probes, missed, *known)
    return document | {"release": address, "disk": None} if address else document


def preview(
    source: str, out: str | Path = "preview.html", options: Options | None = None, *, tell: Tell = silent
) -> dict[str, Any]:
    """Writes a contact sheet (.html or .png) of originals, differences and protected images: {preview, method, images}."""
    options, out = options or Options(), layout.absolute(out)
    contact.require_writable(out, options.overwrite)
    require_apart(source, out)
    images, settings = opened(source, out, options)
    tried = rehearsal.preview(images, options, Key.load(options.key) if options.key else Key.new(), tell)
    shown = contact.look(images, tried.crafter, settings)
    method = tried.crafter.method.preset
    facts = (("Source", source), ("Method", method), ("Budget in grey levels", str(settings.levels)))
    contact.write(out, contact.sheet(shown) if out.suffix == ".png" else contact.page(shown, facts, tried.note))
    return {"preview": str(out), "method": method, "images": len(shown), "note": tried.note}


def check(release: str | Path, public_key: Path | None = None, source: str | None = None) -> dict[str, Any]:
    """Signature and hashes of a release, and with `source` what its originals say: the document of `check --json`."""
    if is_address(str(release)) and not source:
        return check_release(Far(locate(str(release))), public_key).to_json()
    root = Path(release).expanduser()
    return with_source(root, source, public_key) if source else check_release(root, public_key).to_json()


def refuse(source: str, out: Path, options: Options, address: str | None = None) -> None:
    """Everything that can be refused before any work is. address: as of `_protect`. Raises UsageError."""
    pick(options.device)
    params.check_method(options.method, options.preset, options.set)
    if options.verify != "none":
        plan.make(options.verify, 1, victim=options.victim, seeds=options.seeds, against=options.against)
    if options.layout != "auto":
        formats.load(options.layout)
    engines.load(options.engine)
    require_apart(source, out, address)
    if not address:
        require_replaceable(out, options.overwrite or options.grow)
    if not out.resolve().parent.is_dir():
        raise UsageError(f"The folder {out.parent} does not exist.", "Make it first.")
