"""Runs that do a part of a release, a part of `api`: the fit alone, or some of the shards, with what they share."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from release import build, journal, layout, records
from release.build import Settings, Work
from release.depot import Depot, place_of
from unlearnable import craft, distributed
from unlearnable.api_steps import opened, written
from unlearnable.clock import Clock
from unlearnable.craft import Crafter
from unlearnable.device import pick
from unlearnable.errors import UsageError
from unlearnable.keys import Key
from unlearnable.learn import context_of, facts, learn
from unlearnable.options import Options
from unlearnable.remote import is_address
from unlearnable.tracing import prepare
from unlearnable.tracing.secret import Marks
from unlearnable.types import Source, Tell, silent


def place(out: str | Path, options: Options) -> tuple[Path, str | None]:
    """Where the owner folder lies beside, and the address of a release on remote storage.

    Of one at s3://bucket/name that is `name` in the folder where the command runs: what only the owner may have is not
    uploaded. Raises UsageError for what cannot be done there.
    """
    if not is_address(str(out)):
        return layout.absolute(out), None
    if options.overwrite or options.grow:
        raise UsageError(f"A release on remote storage, such as {out}, is not changed in its place.", "Make a new one.")
    address = place_of(str(out)).url
    return Path.cwd() / address.rpartition("/")[2], address


def asked(
    source: str, images: Source, options: Options, address: str | None, plan: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The job, for the owner folder: by which digest a rerun knows it, and what `merge` has to be told of it.

    plan: of the run that is merged, whose words count: the same source and files may lie elsewhere now.
    """
    listing: list[Any] = [(record.id, record.label, record.size) for record in images.records]
    listing += [address] if address else []
    if plan is not None:
        return records.asked(plan["source"], listing, plan["options"]) | {"release": address}
    told = {"source": source, "from": str(Path.cwd()), "given": options.given(), "release": address}
    return records.asked(source, listing, options.deciding()) | told


def again(plan: Mapping[str, Any], source: str | None) -> tuple[str, Options]:
    """The source and the options that --fit-only had, relative paths from the folder where it ran. source: where it is now.

    Raises UsageError when the protocol of the verification is not what it was.
    """
    folder = Path(plan.get("from", ""))
    # shards are made and the key is there
    options = replace(Options.restored(plan["given"], folder), fit_only=False, key=None, engine="local", address=None)
    if options.verify.endswith(".toml"):
        file = Path(options.verify)
        if not file.is_file() or file.read_text(encoding="utf-8") != plan["options"]["verify"]:
            raise UsageError(f"{file} is not what it was for --fit-only.", "Bring it back: it says how to verify.")
    there = folder / Path(plan["source"]).expanduser()
    return source or (str(there) if there.exists() else plan["source"]), options


def moved(depot: Depot, out: Path, owner: records.Owner, clock: Clock) -> dict[str, Any] | None:
    """The document of a release that a stopped run had moved to its place, whole; what it had left to do is done. Else None."""
    receipt = owner.read_json(layout.RECEIPT)
    if receipt is None or not depot.is_whole(receipt["created"]):
        return None
    counts, verification = depot.manifest().counts, owner.read_json(layout.VERIFICATION)
    depot.clear()
    records.finished(owner.owner)
    shutil.rmtree(layout.staging_folder(out), ignore_errors=True)
    return {
        "release": str(depot.release),
        "owner": str(owner.owner),
        "method": receipt["preset"],
        "eps": receipt["eps"],
        "images": dict(counts),
        "skipped": [{"id": item["id"], "reason": item["reason"]} for item in receipt["skipped"] if item["image"]],
        "without_opt_out": receipt["without_opt_out"],
        "seconds": clock.total(),
        "verification": verification,
    }


def work(
    images: Source,
    crafter: Crafter,
    settings: Settings,
    out: Path,
    owner: records.Owner,
    options: Options,
    depot: Depot | None,
    kept: build.Kept | None = None,
) -> Work:
    """What every shard of this release is made with, whoever makes it. Raises IntegrityError for a fit that has changed."""
    staging, marks = layout.staging_folder(out), owner.state / layout.SHARDS
    made = Work(images, crafter, settings, staging, marks, kept, crafter.apart, options.address)
    on = {"device": pick(options.device).type} if crafter.method.trains else {}
    return replace(made, fit=owner.fitted(on | {"fitted_on": facts(crafter)}), depot=depot)


def depot_at(address: str | None, key: Key) -> Depot | None:
    """Where a release at an address is kept; of one on this machine there is none."""
    return Depot(place_of(address), key) if address else None


def help_to_fit(source: str, out: Path, options: Options) -> dict[str, Any]:
    """A process of a distributed fit that is not the first: it reads the same source, writes nothing, and says nothing."""
    images, _ = opened(source, out, options)
    learn(images, options, distributed.shared(Key.new), None, silent)  # the first one's key comes, none is made
    return {}


def fitted(work: Work, crafter: Crafter, owner: records.Owner, release: str, clock: Clock) -> dict[str, Any]:
    """The end of a run with --fit-only: the document of `protect --fit-only --json`."""
    work.staging.mkdir(exist_ok=True)
    work.marks.mkdir(exist_ok=True, mode=0o700)
    return {
        "release": release,
        "owner": str(owner.owner),
        "method": crafter.method.preset,
        "fit": work.fit,
        "shards": len(work.shards()),
        "images": {"total": len(work.source.records)},
        "seconds": clock.total(),
    }


def one(source: str, out: Path, address: str | None, options: Options, tell: Tell) -> dict[str, Any]:
    """A run with --shard: the document of `protect --shard i/n --json`. It learns nothing and seals nothing."""
    assert options.shard is not None
    number, of = options.shard
    clock = Clock()
    images, settings = opened(source, out, options)
    owner = records.join_owner(out, asked(source, images, options, address))
    depot = depot_at(address, owner.key)
    if depot:
        depot.require_room()
    begun = {"command": ["protect", source, address or str(out), *options.words()], "versions": records.versions()}
    with journal.keep(owner.owner / layout.PART_LOG.format(number, of), tell, **begun) as log:
        context = context_of(images, owner.key, options.levels, 1, options.clusters)
        crafter = craft.load(owner.state / layout.FIT, replace(context, device=str(pick(options.device))))
        marks = owner.state / layout.MARKS
        crafter = prepare.marked(crafter, Marks.load(marks) if marks.exists() else None)
        todo = work(images, crafter, settings, out, owner, options, depot)
        here = pick(options.device).type
        if (there := owner.read_json(layout.FITTED).get("device", here)) != here:
            log.tell(
                f"crafted on {here}, where the fit was made on {there}: not the bytes that one run would make", 0, 0
            )
        mine = len(todo.shards()[number::of])
        if not mine:
            log.tell(f"there are only {len(todo.shards())} shards: this part has none", 0, 0)
        built = written(todo, options, log.tell)
        log.skipped(built.skipped)
    return {
        "release": address or str(out),
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
