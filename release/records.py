"""The owner folder: keys, the plan of this run, the receipt. 0700, beside the release and never inside it."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from release import layout
from unlearnable import __version__
from unlearnable.errors import IntegrityError, UnlearnableError, UsageError
from unlearnable.keys import Key

_STATE = (layout.PLAN, layout.FIT, layout.VERIFICATION, layout.AUTO, layout.SHARDS)


@dataclass(frozen=True)
class Owner:
    """An owner folder that this run may use. salt: public with the commitment to the key."""

    owner: Path
    key: Key
    salt: bytes

    def commitment(self) -> dict[str, str]:
        return {"salt": self.salt.hex(), "sha256": self.key.commitment(self.salt)}

    def read_json(self, name: str) -> Any:
        path = self.owner / name
        return _read_json(path) if path.exists() else None

    def write_json(self, name: str, document: Any) -> None:
        _write_private(self.owner / name, document)


def open_owner(out: Path, asked: dict[str, Any], key_file: Path | None, overwrite: bool) -> Owner:
    """Makes or reopens the owner folder of `out`, so that an interrupted run of the same job continues.

    An existing key is kept: a second protection with another key would let a stranger compare the two. Raises UsageError
    when the folder belongs to another job that is unfinished, or when --key differs from the key that is there.
    """
    owner, staging = layout.owner_folder(out), layout.staging_folder(out)
    given = Key.load(key_file) if key_file else None
    try:
        owner.mkdir(mode=0o700, exist_ok=True)
    except OSError as why:
        raise disk_error(why, owner) from why
    owner.chmod(0o700)
    before = _read_json(owner / layout.PLAN) if (owner / layout.PLAN).exists() else None
    if before is not None and before["asked"] != asked["digest"]:
        if staging.exists() and not overwrite:
            raise UsageError(
                f"{staging} holds an unfinished run with other options or another source.",
                "Repeat that command to finish it, or pass --overwrite to start again.",
            )
        before = None
    if before is None or overwrite or not staging.exists():
        _forget(owner, staging)
    path = owner / layout.KEY
    if not path.exists():
        (given or Key.new()).save(path)
    key = Key.load(path)
    if given is not None and given != key:
        raise UsageError(f"{path} is not the key that --key names.", "Leave out --key, or move the owner folder away.")
    plan = _read_json(owner / layout.PLAN) if (owner / layout.PLAN).exists() else None
    salt = plan["salt"] if plan else secrets.token_hex(32)
    _write_private(owner / layout.PLAN, {"asked": asked["digest"], "salt": salt, "options": asked["options"]})
    return Owner(owner, key, bytes.fromhex(salt))


def asked(spec: str, listing: Sequence[Any], options: dict[str, Any]) -> dict[str, Any]:
    """A job's options, and one digest over them and the source's listing."""
    text = json.dumps([spec, listing, options, __version__], sort_keys=True, ensure_ascii=True)
    return {"digest": hashlib.sha256(text.encode()).hexdigest(), "options": options}


def read_receipt(owner: Path) -> dict[str, Any]:
    """The receipt of a finished release. Raises UsageError when the owner folder is not there."""
    path = owner / layout.RECEIPT
    if not path.exists():
        raise UsageError(f"{path} is not there.", "Verification needs the owner folder that `protect` made.")
    receipt: dict[str, Any] = _read_json(path)
    if receipt["parts"] is None:
        raise UsageError(
            "This release was made with --verify none, so no images were held out to test on.",
            "Protect again with --verify quick --overwrite.",
        )
    return receipt


def versions() -> dict[str, str]:
    """Versions that decide bytes and figures, for the manifest."""
    found = {name: metadata.version(name) for name in ("torch", "torchvision", "pillow", "numpy")}
    return {"tool": __version__, "python": platform.python_version(), **found}


def disk_error(why: OSError, where: Path) -> UnlearnableError:
    """A failing disk in one sentence; finished shards stay, so the same command goes on where it stopped."""
    if why.errno in (errno.ENOSPC, errno.EDQUOT):
        return UnlearnableError(f"The disk of {where} is full.", "Free space and repeat the command: it continues.")
    return UnlearnableError(f"{where} cannot be written ({why.strerror or why}).", "Mend that and repeat the command.")


def _forget(owner: Path, staging: Path) -> None:
    """Drops the state of a run that is over or replaced, never the keys."""
    if staging.exists():
        shutil.rmtree(staging)
    for name in _STATE:
        path = owner / name
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
    """Readable by the owner alone; the old file or the new one, never half."""
    partial = path.with_name(f".{path.name}.partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(document, file, ensure_ascii=True, indent=1)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
