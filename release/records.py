"""The owner folder: an archive's key, and the state of a run or a release. 0700, beside the release and never inside it."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from release import keyring, layout
from unlearnable.errors import IntegrityError, UsageError, disk_error
from unlearnable.keys import Key
from unlearnable.types import Tell, silent
from unlearnable.version import __version__


@dataclass(frozen=True)
class Owner:
    """An owner folder and the state of the run under way. salt: public with the commitment to the key."""

    owner: Path
    key: Key
    salt: bytes

    @property
    def state(self) -> Path:
        return self.owner / layout.UNFINISHED

    def commitment(self) -> dict[str, str]:
        return {"salt": self.salt.hex(), "sha256": self.key.commitment(self.salt)}

    def read_json(self, name: str) -> Any:
        path = self.state / name
        return _read_json(path) if path.exists() else None

    def write_json(self, name: str, document: Any) -> None:
        _write_private(self.state / name, document)

    def fitted(self, facts: dict[str, Any] | None = None) -> str:
        """The digest of everything that perturbations are made from, written down when it is first asked for.

        facts: what it was fitted on, kept beside it. Raises IntegrityError when the files are no longer the same.
        """
        digest = hashlib.sha256()
        for name in (layout.FIT, layout.MARKS):
            if (path := self.state / name).exists():
                with path.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
        there = self.read_json(layout.FITTED)
        if there is None:
            self.write_json(layout.FITTED, {"sha256": digest.hexdigest(), **(facts or {})})
        elif there["sha256"] != digest.hexdigest():
            raise IntegrityError(
                f"{self.state / layout.FIT} is not the fit that {layout.FITTED} beside it names.",
                "Restore both from where --fit-only ran, or start again with --overwrite.",
            )
        return digest.hexdigest()


def open_owner(
    out: Path,
    asked: dict[str, Any],
    key_file: Path | None,
    overwrite: bool,
    tell: Tell = silent,
    *,
    again: bool = False,
) -> Owner:
    """Makes or reopens the owner folder of `out`, so that an interrupted run of the same job continues.

    The state of a finished release stays as it is until another one takes its place. An existing key is kept: a second
    protection with another key would let a stranger compare the two. again: this only goes on with a run, and never starts
    anew in its place. Raises UsageError when another job is unfinished here, when the folder is of a release that lies
    elsewhere, or when --key differs from the key that is there.
    """
    owner, staging = layout.owner_folder(out), layout.staging_folder(out)
    given = Key.load(key_file) if key_file else None
    state = owner / layout.UNFINISHED
    plan = _read_json(state / layout.PLAN) if (state / layout.PLAN).exists() else None
    far = asked.get("release")
    if not overwrite:
        _require_of(far, owner)
    if plan is not None and plan["asked"] != asked["asked"]:
        if again or far or plan.get("release"):  # what it has made lies elsewhere, and would be lost with its fit
            raise UsageError(
                f"{state} is of another job: its options, its source or the version of this tool differ.",
                "Give what it was begun with; or remove that folder, and what it has written, to start again.",
            )
        if staging.exists() and not overwrite:
            raise _of_another_job(staging, plan["options"] == asked["options"])
        plan = None
    if plan is None:
        _remove(staging)
        _remove(state)
    elif not staging.exists() and not far:  # somebody removed it: what was fitted still holds, what was written is gone
        _remove(state / layout.SHARDS)
        _remove(state / layout.VERIFICATION)
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner.chmod(0o700)
        key = _key(owner, given, tell)
        plan = plan or {**asked, "salt": secrets.token_hex(32)}
        _write_private(state / layout.PLAN, plan)
    except OSError as why:
        raise disk_error(why, owner) from why
    return Owner(owner, key, bytes.fromhex(plan["salt"]))


def _of_another_job(staging: Path, same_options: bool) -> UsageError:
    if same_options:
        return UsageError(
            f"The source, or the version of this tool, has changed since the unfinished run in {staging}.",
            "Pass --overwrite to start again with the same key, or bring back the source as it was.",
        )
    return UsageError(
        f"{staging} holds an unfinished run with other options or another source.",
        "Repeat that command to finish it, or pass --overwrite to start again.",
    )


def _require_of(far: str | None, owner: Path) -> None:
    """Raises UsageError when the folder is of a release at another address: its receipt and secrets would be replaced."""
    path = owner / layout.STATE / layout.PLAN
    there = _read_json(path).get("release") if path.exists() else far
    if there != far:
        raise UsageError(
            f"{owner} belongs to the release at {there or owner.with_suffix('')}.",
            "Run in another folder, or give the release another name.",
        )


def join_owner(out: Path, asked: dict[str, Any]) -> Owner:
    """The owner folder of a run that others share in: opened, and nothing of it changed.

    It needs no signing key, so that of the owner's secrets only the archive's key has to be on a worker. Raises UsageError
    when no `--fit-only` of the same job ran before.
    """
    owner = layout.owner_folder(out)
    state = owner / layout.UNFINISHED
    if not (state / layout.FITTED).exists():
        raise UsageError(
            f"{state} holds no fit that a part could be made with.",
            "First, once: the same command with --fit-only in place of --shard. On other machines, copy the folder there.",
        )
    plan = _read_json(state / layout.PLAN)
    if plan["asked"] != asked["asked"]:
        raise UsageError(
            f"{owner} is of another job: its options, its source or the version of this tool differ.",
            "Give every --shard the options and the source that --fit-only had.",
        )
    return Owner(owner, Key.load(owner / layout.KEY), bytes.fromhex(plan["salt"]))


def unfinished(out: Path) -> dict[str, Any]:
    """The plan of the run that is under way at `out`. Raises UsageError when there is none."""
    path = layout.owner_folder(out) / layout.UNFINISHED / layout.PLAN
    if not path.exists():
        hint = "Is it finished already? Else begin with: unlearnable protect SOURCE OUT --fit-only"
        raise UsageError(f"There is no run under way at {out}: {path} is missing.", hint)
    plan: dict[str, Any] = _read_json(path)
    return plan


def finished(owner: Path) -> None:
    """The release is in its place: its state takes the place of the one before."""
    _remove(owner / layout.STATE)
    (owner / layout.UNFINISHED).rename(owner / layout.STATE)


def asked(spec: str, listing: Sequence[Any], options: dict[str, Any]) -> dict[str, Any]:
    """A job's options, and one digest over them and the source's listing."""
    text = json.dumps([spec, listing, options, __version__], sort_keys=True, ensure_ascii=True)
    return {"asked": hashlib.sha256(text.encode()).hexdigest(), "options": options}


def read_receipt(out: Path) -> tuple[dict[str, Any], Path]:
    """The receipt of a finished release with its parts, and its state folder. Raises UsageError when there is none."""
    receipt, state = receipt_of(out)
    if receipt["parts"] is None:
        raise UsageError(
            "This release was made with --verify none, so no images were held out to test on.",
            "Protect again with --verify quick --overwrite.",
        )
    return receipt, state


def receipt_of(out: Path) -> tuple[dict[str, Any], Path]:
    """The receipt of a finished release and the state folder it lies in. Raises UsageError when there is none."""
    owner = layout.owner_folder(out)
    waiting, sealed = owner / layout.UNFINISHED / layout.RECEIPT, out / layout.MANIFEST
    there = waiting.exists() and sealed.exists()
    if there and _read_json(waiting)["created"] == _read_json(sealed)["created"]:
        finished(owner)  # the machine stopped between the release's last step and this one
    path = owner / layout.STATE / layout.RECEIPT
    if not path.exists():
        raise UsageError(f"{path} is not there.", "This needs the owner folder that `protect` made.")
    receipt: dict[str, Any] = _read_json(path)
    return receipt, path.parent


def versions() -> dict[str, str]:
    """Versions that decide bytes and figures, for the manifest."""
    found = {name: metadata.version(name) for name in ("torch", "torchvision", "pillow", "numpy")}
    return {"tool": __version__, "python": platform.python_version(), **found}


def _key(owner: Path, given: Key | None, tell: Tell) -> Key:
    """The archive's key, derived or taken on the first run. Asks for the owner's keys now, and not after hours of work."""
    path = owner / layout.KEY
    archive = _archive(owner, tell)
    if not path.exists() and not archive and given is None:
        raise UsageError(f"{path} is gone, and nothing here can draw it again.", "Restore it from a backup.")
    if not path.exists():
        (given or Key.for_archive(keyring.require().secrets().root, archive)).save(path)
    key = Key.load(path)
    if given is not None and given != key:
        raise UsageError(f"{path} is not the key that --key names.", "Leave out --key, or move the owner folder away.")
    keyring.signer(owner)
    return key


def _archive(owner: Path, tell: Tell) -> bytes:
    """The archive's id, drawn on the first run, kept with the fingerprint of who signs it.

    Raises UsageError when that key is gone: a release must not change its signer unasked.
    """
    path = owner / layout.ARCHIVE
    there = _read_json(path) if path.exists() else None
    if (owner / layout.SIGNING_KEY).exists():
        return b""  # of a release up to 0.1, which has both keys in its owner folder
    if there is not None and not _is_archive(there):
        raise IntegrityError(f"{path} is damaged.", "Restore it from a backup.")
    if there is not None and keyring.find(there["signer"]) is None:
        raise UsageError(
            f"The keys that signed this archive ({there['signer'][:16]}...) are not in {keyring.folder()}.",
            f"Bring back your copy of them. If there is none, remove {path}: other keys will sign from now on.",
        )
    ring = keyring.require(tell)
    archive = there["archive"] if there else secrets.token_hex(16)
    if there is None or there["signer"] != ring.fingerprint:
        _write_private(path, {"schema_version": 1, "archive": archive, "signer": ring.fingerprint})
    return bytes.fromhex(archive)


def _is_archive(there: Any) -> bool:
    """Whether this is an id of 16 bytes and a fingerprint of 32: of a shorter id, two archives may have the same key."""
    spelled = [(there.get("archive"), 32), (there.get("signer"), 64)] if isinstance(there, dict) else [(None, 0)]
    return all(isinstance(text, str) and re.fullmatch(f"[0-9a-f]{{{size}}}", text) for text, size in spelled)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as why:
        raise IntegrityError(f"{path} is damaged ({why}).", "Restore it, or start again with --overwrite.") from why


def _write_private(path: Path, document: Any) -> None:
    """Readable by the owner alone; the old file or the new one, never half. Raises UnlearnableError on a failing disk."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(document, file, ensure_ascii=True, indent=1)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as why:
        raise disk_error(why, path) from why
