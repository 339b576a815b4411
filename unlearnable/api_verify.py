"""Verification of a finished release as a function, a part of `api`: the proof again, with other networks or scrapers."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from release import journal, layout, proven, reading, records
from release.build import Settings
from release.check import check as check_release
from unlearnable import craft, imageio, spill, study
from unlearnable.api_steps import evidence_of
from unlearnable.errors import IntegrityError
from unlearnable.keys import Key
from unlearnable.learn import context_of
from unlearnable.options import Options
from unlearnable.sources import open_source
from unlearnable.types import Tell, silent
from unlearnable.verification import plan, prove
from unlearnable.verification.cells import Cells


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
    tell: Tell = silent,
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
    command = ["unlearnable", "verify", str(root), *asked.proving(source, diagnose)]
    begun = {"command": command[1:], "versions": records.versions()}
    with journal.keep(layout.owner_folder(root) / layout.LOG, tell, **begun) as log, spill.into(state):
        tell = log.tell
        settings = Settings(**receipt["settings"])
        imageio.limit(settings.max_pixels)
        images = open_source(source or receipt["source"], **receipt["reading"])
        key = Key.load(layout.owner_folder(root) / layout.KEY)
        crafter = craft.load(state / layout.FIT, context_of(images, key, receipt["eps"], 1, 1))
        parts, size = receipt["parts"], crafter.context.size
        learned = study.again(images, parts, parts["how"], size, crafter.labeller, crafter.independent, tell)
        built = reading.read_rows(state / layout.SHARDS)
        shipped = partial(reading.read_back, root, layout=settings.layout)
        seen = evidence_of(shipped, settings, asked, crafter, learned, built, tell)
        kept = Cells(state / layout.CELLS, fresh)
        document = prove.prove(seen, asked, learned, kept, tell, diagnose=diagnose, dry_run=dry_run)
        if not dry_run:
            told = {"surrogate": crafter.method.shown_surrogate(), "command": shlex.join(command)}
            facts = proven.facts_of(root, images, built, receipt, document, told, crafter.only)
            document["report"] = str(proven.write(root, facts))
        return document
