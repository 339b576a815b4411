"""The owner's keys for all archives: one Ed25519 signing key and one 256-bit root secret, in the configuration folder.

`keys.json` holds both, made on first use: readable by the owner alone (0600, in a folder of 0700) and, where a passphrase
is given, as one ChaCha20-Poly1305 box under scrypt, which binds the public key that stands beside it. `rotate` moves the
file to `retired-FINGERPRINT.json`: what those keys signed can still be signed again, new things are not. What an archive is
protected with is derived from the root secret (`Key.for_archive`), so that what leaks of one archive opens no other.

Folder: UNLEARNABLE_CONFIG, else what the system calls the place for a user's settings, and in it `unlearnable`.
"""

from __future__ import annotations

import getpass
import json
import os
import secrets
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]  # it re-exports it

from release import layout, sign
from release.manifest import utc_now
from unlearnable.errors import UsageError, disk_error
from unlearnable.types import Tell, silent

FOLDER, PASSPHRASE = "UNLEARNABLE_CONFIG", "UNLEARNABLE_PASSPHRASE"
FILE = "keys.json"

_COST = 2**17  # scrypt's n: 128 MB and some tenths of a second for each guess
_MOST_COST = 2**20  # a damaged file must not ask for all memory
_BYTES = 32

_unlocked: dict[bytes, bytes] = {}  # box -> what is in it, so that one run asks once


@dataclass(frozen=True)
class Secrets:
    """What only the owner may hold. The representation shows neither."""

    root: bytes = field(repr=False)
    seed: bytes = field(repr=False)  # of the signing key, RFC 8032

    @property
    def signer(self) -> CryptoSigner:
        return sign.from_seed(self.seed)


@dataclass(frozen=True)
class Ring:
    """One `keys.json`. fingerprint: SHA-256 of the DER public key, what `check` calls the signer."""

    path: Path
    created: str
    public_pem: bytes
    fingerprint: str
    _kept: dict[str, Any] = field(repr=False)

    @property
    def has_passphrase(self) -> bool:
        return "box" in self._kept

    def secrets(self) -> Secrets:
        """Opens it; asks for the passphrase where there is one. Raises UsageError."""
        try:
            if self.has_passphrase:
                plain = _unboxed(self, self._kept["box"])
            else:
                plain = bytes.fromhex(self._kept["plain"]["root"]) + bytes.fromhex(self._kept["plain"]["signing"])
            found = Secrets(plain[:_BYTES], plain[_BYTES:])
            if found.signer.public_key.keyid != self.fingerprint:
                raise ValueError("its two halves do not belong together")
        except (KeyError, TypeError, ValueError) as why:
            raise _damaged(self.path, why) from why
        return found


def folder() -> Path:
    """Where the owner's keys lie. It need not exist."""
    named = os.environ.get(FOLDER)
    if named:
        return Path(named).expanduser()
    if sys.platform == "win32":
        base = os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "unlearnable"


def current() -> Ring | None:
    """The keys in use, None where there are none yet. Raises UsageError for a file that cannot be read."""
    path = folder() / FILE
    return _read(path) if path.exists() else None


def existing() -> Ring:
    """The keys in use. Raises UsageError where there are none yet, and none are to be made."""
    there = current()
    if there is None:
        raise UsageError(f"There are no keys in {folder()} yet.", "Make them: unlearnable key new.")
    return there


def retired() -> list[Ring]:
    """Keys that were rotated away, the newest first."""
    found = [_read(path) for path in folder().glob("retired-*.json")]
    return sorted(found, key=lambda ring: (ring.created, ring.fingerprint), reverse=True)


def find(fingerprint: str) -> Ring | None:
    """The keys, current or retired, whose public key has this fingerprint."""
    there = current()
    return next((ring for ring in [*([there] if there else []), *retired()] if ring.fingerprint == fingerprint), None)


def require(tell: Tell = silent) -> Ring:
    """The keys in use, made now where there are none; a sentence then says where they are."""
    there = current()
    if there is not None:
        return there
    try:
        made = new(os.environ.get(PASSPHRASE))
    except UsageError:
        if (there := current()) is None:  # else another run, begun at the same moment, has made them
            raise
        return there
    tell(
        f"keys: yours were made, {made.path}. Keep a copy of that file in a safe place: nobody can make it again", 0, 0
    )
    return made


def new(passphrase: str | None) -> Ring:
    """Draws a signing key and a root secret. Raises UsageError where there are keys already."""
    path = folder() / FILE
    partial = _beside(path)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        sign.write_new(partial, _drawn(passphrase), 0o600)
        try:
            _place(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    except FileExistsError as why:
        hint = "See them: unlearnable key show. New ones in their place: unlearnable key rotate."
        raise UsageError(f"There are keys already: {path}.", hint) from why
    except OSError as why:
        raise disk_error(why, path.parent) from why
    return _read(path)


def rotate(passphrase: str | None) -> tuple[Ring, Ring]:
    """Puts new keys in the place of those in use; the old and the new ones. The old ones are kept beside, before all else."""
    old = existing()
    retired, kept = folder() / f"retired-{old.fingerprint[:16]}.json", _spelled(old._kept)
    try:
        if not (retired.exists() and retired.read_bytes() == kept):  # else a rotation was cut short here
            sign.write_new(retired, kept, 0o600)
        _replace(old, _drawn(passphrase))
    except OSError as why:
        raise disk_error(why, old.path) from why
    return old, _read(old.path)


def change_passphrase(ring: Ring, passphrase: str | None) -> Ring:
    """The same keys under another passphrase, or (None) under none. The old file or the new one is there, never half."""
    opened = ring.secrets()
    plain = opened.root + opened.seed
    document = {"schema_version": 1, "created": ring.created, "public_key": ring.public_pem.decode("ascii")}
    try:
        _replace(ring, _spelled(document | _kept(plain, ring.public_pem, passphrase)))
    except OSError as why:
        raise disk_error(why, ring.path) from why
    return _read(ring.path)


def signer(owner: Path) -> CryptoSigner:
    """Who signs the release of this owner folder: the key that lies in it (of releases up to 0.1), else the owner's own."""
    path = owner / layout.SIGNING_KEY
    return sign.load(path) if path.exists() else require().secrets().signer


def signer_of(public_pem: bytes, owner: Path) -> CryptoSigner | None:
    """The private half of a release's public key, None where neither the owner folder nor the owner's keys hold it."""
    if (owner / layout.SIGNING_KEY).exists():
        key = sign.load(owner / layout.SIGNING_KEY)
        return key if sign.public_pem(key) == public_pem else None
    ring = find(sign.public_key(public_pem).keyid)
    return ring.secrets().signer if ring else None


def _read(path: Path) -> Ring:
    with suppress(OSError):  # a copy that was brought back may lie open to all
        path.chmod(0o600)
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["schema_version"] != 1:
            raise ValueError(f"it is of version {kept['schema_version']}, which needs a newer unlearnable")
        pem = kept["public_key"].encode("ascii")
        return Ring(path, str(kept["created"]), pem, sign.public_key(pem).keyid, kept)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as why:
        raise _damaged(path, why) from why


def _damaged(path: Path, why: object) -> UsageError:
    return UsageError(f"{path} cannot be read as your keys ({why}).", "Bring it back from your copy.")


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")


def _place(partial: Path, path: Path) -> None:
    """Gives a whole file its name, unless that is taken: who reads it meanwhile finds all of it or nothing."""
    try:
        os.link(partial, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        sign.write_new(path, partial.read_bytes(), 0o600)


def _replace(ring: Ring, document: bytes) -> None:
    """Puts other keys in the place of `ring`: the old file or the new one is there, never half."""
    partial = _beside(ring.path)
    sign.write_new(partial, document, 0o600)
    try:
        if _read(ring.path).fingerprint != ring.fingerprint:
            raise UsageError(f"{ring.path} was changed by another run just now.", "See it: unlearnable key show.")
        partial.replace(ring.path)
    finally:
        partial.unlink(missing_ok=True)


def _drawn(passphrase: str | None) -> bytes:
    """A new signing key and root secret, as their file."""
    root, seed = secrets.token_bytes(_BYTES), secrets.token_bytes(_BYTES)
    public = sign.public_pem(sign.from_seed(seed))
    document = {"schema_version": 1, "created": utc_now(), "public_key": public.decode("ascii")}
    return _spelled(document | _kept(root + seed, public, passphrase))


def _spelled(document: dict[str, Any]) -> bytes:
    return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode("ascii")


def _kept(plain: bytes, public: bytes, passphrase: str | None) -> dict[str, Any]:
    """The secret part of the file: as it is, or in a box."""
    if not passphrase:
        return {"plain": {"root": plain[:_BYTES].hex(), "signing": plain[_BYTES:].hex()}}
    salt, nonce = secrets.token_bytes(16), secrets.token_bytes(12)
    box = {"kdf": "scrypt", "n": _COST, "r": 8, "p": 1, "salt": salt.hex(), "cipher": "chacha20-poly1305"}
    data = ChaCha20Poly1305(_stretched(passphrase, box)).encrypt(nonce, plain, public)
    return {"box": box | {"nonce": nonce.hex(), "data": data.hex()}}


def _stretched(passphrase: str, box: dict[str, Any]) -> bytes:
    if not (box["n"] <= _MOST_COST and box["r"] == 8 and box["p"] == 1):
        raise ValueError("its scrypt asks for more than this program gives")
    made = Scrypt(bytes.fromhex(box["salt"]), _BYTES, box["n"], box["r"], box["p"])
    return made.derive(passphrase.encode("utf-8"))


def _unboxed(ring: Ring, box: dict[str, Any]) -> bytes:
    data = bytes.fromhex(box["data"])
    if data not in _unlocked:
        key = _stretched(_asked(ring.path), box)
        try:
            _unlocked[data] = ChaCha20Poly1305(key).decrypt(bytes.fromhex(box["nonce"]), data, ring.public_pem)
        except InvalidTag as why:
            raise UsageError(f"That is not the passphrase of {ring.path}.", "Try again.") from why
    return _unlocked[data]


def _asked(path: Path) -> str:
    given = os.environ.get(PASSPHRASE)
    if given:
        return given
    if sys.stdin is None or not sys.stdin.isatty():
        raise UsageError(f"{path} has a passphrase, and nobody is there to ask.", f"Set {PASSPHRASE}.")
    return getpass.getpass(f"Passphrase of {path}: ")
