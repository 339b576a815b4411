"""Tracing as functions, a part of `api`: what `protect` commits to, and `trace`. Like `api` it knows both sides."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from release import evidence, layout, records
from release.check import check as check_release
from release.growth import Before
from release.hashing import sha256
from release.manifest import Manifest
from unlearnable import craft, imageio
from unlearnable.craft import Crafter
from unlearnable.errors import IntegrityError, UsageError
from unlearnable.keys import Key, commitment
from unlearnable.learn import context_of
from unlearnable.options import Options
from unlearnable.sources import open_source
from unlearnable.study import Study
from unlearnable.tracing import carriers, models, prepare, probes, run
from unlearnable.tracing.answers import Model, Names
from unlearnable.tracing.models import Seen
from unlearnable.tracing.pictures import Folder
from unlearnable.tracing.secret import Marks, Secret
from unlearnable.types import Tell, silent


def traceable(
    crafter: Crafter,
    learned: Study | None,
    options: Options,
    out: Path,
    owner: records.Owner,
    before: Before | None,
    tell: Tell,
) -> tuple[Crafter, dict[str, str] | None]:
    """The crafter with its marks, and what the manifest commits to; both are kept, so that a rerun finds the same.

    before: the release that this one grows from; its marks and stages stay.
    """
    if options.trace == "none":
        return crafter, None
    kept = owner.state / layout.MARKS
    if before and (before.state / layout.MARKS).exists() and not kept.exists():
        shutil.copyfile(before.state / layout.MARKS, partial := kept.with_suffix(".copied"))
        partial.replace(kept)
    found = Marks.load(kept) if kept.exists() else prepare.marks(crafter, learned, options, tell)
    if found and not kept.exists():
        found.save(kept)
    document = owner.read_json(layout.TRACE)
    if document is None:
        earlier = before.state / layout.TRACE if before else None
        was = json.loads(earlier.read_text(encoding="utf-8")) if earlier and earlier.exists() else None
        name = options.name or out.name
        document = prepare.opened(crafter, found, name, owner.commitment(), was)
        owner.write_json(layout.TRACE, document)
        if document["plan"]["primary"] is None:
            tell("trace: nothing in this release can be tested for later; docs/trace.md says what can", 0, 0)
    return prepare.marked(crafter, found), prepare.published(document)


def trace(
    release: str | Path,
    model: str | None = None,
    *,
    write_queries: Path | None = None,
    source: str | None = None,
    labels: Path | None = None,
    size: int | None = None,
    normalise: str | None = None,
    header: tuple[str, str] | None = None,
    decoys: int | None = None,
    images: int | None = None,
    tell: Tell = silent,
) -> dict[str, Any]:
    """Was `model` trained on this release? The document of `trace --json`; signed evidence goes to the owner folder.

    write_queries: a folder for the pictures to ask by hand, in place of a model; the result is then {queries, folder}.
    Needs the owner folder beside the release, and for most tests clean originals (`source`: where they are now). Raises
    IntegrityError when the release is not what was sealed or its plan is not what was committed.
    """
    root = layout.absolute(release)
    if (model is None) == (write_queries is None):
        raise UsageError(
            "Name a model to ask, or a folder to write the queries to.", "--model M, or --write-queries DIR."
        )
    if not check_release(root).ok:
        raise IntegrityError(f"{root} is not as it was sealed.", f"See which files: unlearnable check {root}")
    receipt, state = records.receipt_of(root)
    imageio.limit(receipt["settings"]["max_pixels"])
    images_of = open_source(source or receipt["source"], **receipt["reading"])
    key = Key.load(layout.owner_folder(root) / layout.KEY)
    crafter = craft.load(state / layout.FIT, context_of(images_of, key, receipt["eps"], 1, 1))
    secret = _opened(root, state, crafter)
    names, seen = _reading(secret, labels, size, normalise, header)
    asked = models.open_model(model, names, seen) if model else None
    folder = Folder(write_queries, secret.context.classes) if write_queries else None
    wanted = _carriers(secret, asked, images)
    held = (receipt["parts"] or {}).get("test", ())
    context = secret.context
    pictures = carriers.clean(images_of, held, secret.nonce, context.classes, context.size, wanted)
    suspect: Any = asked or folder
    document, record = run.trace(secret, pictures, suspect, decoys=decoys, images=images, tell=tell)
    if folder:
        return {"queries": folder.finish(), "folder": str(folder.folder)}
    files = {path.name: sha256(path) for path in asked.files} if asked else {}
    document["model"] |= {"sha256": next(iter(files.values()), None), "files": files}
    document["model"] |= {"outputs": names.outputs, "size": size, "normalise": normalise}
    manifest = (root / layout.MANIFEST).read_bytes()
    return evidence.write(root, manifest, secret.plan, secret.nonce, document, record.rows)


def _opened(root: Path, state: Path, crafter: Crafter) -> Secret:
    """The release's secret, checked against what its manifest and its key's commitment say."""
    manifest = Manifest.from_bytes((root / layout.MANIFEST).read_bytes())
    path = state / layout.TRACE
    if manifest.trace_commitment is None or not path.exists():
        raise UsageError(
            f"{root} was made without tracing: nothing was committed that a test could be held to.",
            "Protect again, without --trace none: --overwrite.",
        )
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        committed, nonce = document["plan"], bytes.fromhex(document["nonce"])
        salted = crafter.context.key.commitment(bytes.fromhex(committed["key"]["salt"])) == committed["key"]["sha256"]
        held = salted and commitment(committed, nonce) == manifest.trace_commitment["sha256"]
    except (ValueError, KeyError, TypeError):
        held = False
    if not held:
        raise IntegrityError(f"{path} is not the plan that {root} committed to.", "Restore the owner folder.")
    kept = state / layout.MARKS
    marks = Marks.load(kept) if kept.exists() else None
    if marks and json.loads(json.dumps(marks.described())) != committed["marks"]:
        raise IntegrityError(f"{kept} is not what {root} committed to.", "Restore the owner folder.")
    return Secret(committed, nonce, crafter.method, crafter.context, marks)


def _reading(
    secret: Secret, labels: Path | None, size: int | None, normalise: str | None, header: tuple[str, str] | None
) -> tuple[Names, Seen]:
    return Names.read(secret.context.classes, labels), Seen(size, secret.context.size, normalise, header)


def _carriers(secret: Secret, asked: Model | None, images: int | None) -> int:
    """How many clean pictures the tests want that this model can be put to."""
    names = [name for name in (secret.plan["primary"], *secret.plan["secondary"]) if name]
    each = images or secret.plan["images"]
    able = [probes.find(name) for name in names]
    able = [probe for probe in able if probe.NEEDS != "weights" or (asked is not None and asked.white is not None)]
    return max((probe.carriers(secret.plan, each) for probe in able), default=0)
