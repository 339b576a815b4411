"""Is this release still what its owner signed? Names every changed, missing and extra file.

The signature is verified first, then manifest.json and SHA256SUMS against what it signs, then every file against the
list that held. A damaged document is a finding, never a crash: a release is checked because something may be wrong.
`with_source` also lays every picture beside its original (release.leaks).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from release import layout, sign
from release.manifest import UNLISTED, Manifest
from release.tree import Tree
from unlearnable.errors import IntegrityError, UsageError
from unlearnable.types import Tell, silent

Signature = Literal["valid", "invalid", "missing", "untrusted"]

_SUM = re.compile(r"(\\?)([0-9a-f]{64})  (.+)")
_SMALL = 1 << 16  # bytes: looking for the size takes as long as hashing so many
_KINDS = {
    "link": "is a symbolic link, which may point anywhere",
    "special": "is not a regular file",
    "unreadable": "cannot be listed",
}


@dataclass(frozen=True)
class CheckResult:
    """What `check` found. Paths are relative, POSIX, sorted.

    signature: "valid"; "untrusted" (it holds, but the key is not the expected one); "invalid"; "missing".
    signer: fingerprint (SHA-256 of the DER public key) of the key that signed, None where no signature held.
    A key that comes with the release proves that nothing changed since it was signed, not who signed it.
    why: a reason for every path in `changed`.
    """

    signature: Signature
    signer: str | None
    changed: tuple[str, ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    why: Mapping[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return self.signature == "valid" and not (self.changed or self.missing or self.extra)

    def to_json(self) -> dict[str, Any]:
        """The document of `check --json`."""
        return {
            "ok": self.ok,
            "signature": self.signature,
            "signer": self.signer,
            "changed": list(self.changed),
            "missing": list(self.missing),
            "extra": list(self.extra),
        }


def check(root: Path | Tree, public_key: Path | None = None) -> CheckResult:
    """Checks a release folder, here or, as a release.depot.Far, on remote storage.

    `public_key` is a PEM file known from elsewhere: only its signature is "valid" then.

    Follows no links and opens no special files. What a download from the Hub adds (layout.FOREIGN) is not extra.
    Raises UsageError when `root` is no release or `public_key` no key, IntegrityError when a signed manifest is of a
    newer version.
    """
    tree = root if isinstance(root, Tree) else Tree(_folder(root))
    found = _release_files(tree)
    seen = _Seen(tree, found)
    signature, signer, signed = _signature(seen, public_key)
    expected, sizes = _expected(seen, signed)
    seen.compare(expected, sizes)
    if signature == "invalid" and not {layout.ATTESTATION, layout.PUBLIC_KEY} & seen.why.keys():
        seen.why[layout.ATTESTATION] = "does not hold a signature by the key of the release"
    known = expected.keys() | set(UNLISTED)
    missing = {path for path in known if path not in found}
    return CheckResult(
        signature,
        signer,
        changed=tuple(sorted(seen.why)),
        missing=tuple(sorted(missing)),
        extra=tuple(path for path, kind in found.items() if path not in known and kind != "unreadable"),
        why=dict(sorted(seen.why.items())),
    )


def with_source(root: Path, spec: str, public_key: Path | None = None, tell: Tell = silent) -> dict[str, Any]:
    """The document of `check --source --json`: that of `check`, and as `source` what the originals say.

    Reads what the owner folder beside the release knows, where there is one: which picture was made of which original, how
    the source is read, which metadata were to go. Where the release is not as it was signed, nothing is compared and
    `source` is null. Raises UsageError when `spec` does not hold the originals, or only an owner folder could tell.
    """
    from release import leaks, pairing, reading, records
    from unlearnable.sources import open_source

    root = layout.absolute(root)  # the owner folder is found by its name
    found = check(root, public_key)
    if found.changed or found.missing or found.signature in ("invalid", "missing"):
        return found.to_json() | {"source": None}
    manifest = Manifest.from_bytes((root / layout.MANIFEST).read_bytes())
    known = (layout.owner_folder(root) / layout.STATE / layout.RECEIPT).exists()
    receipt, state = records.receipt_of(root) if known else ({}, root)
    rows = reading.read_rows(state / layout.SHARDS).rows if known else None
    settings, only = receipt.get("settings", {}), receipt.get("only")
    source = open_source(spec, **receipt.get("reading", {}))
    pairs = pairing.Pairs(manifest, source, rows)
    asked = leaks.Asked(settings.get("metadata"), None if only is None else tuple(only))
    compared = leaks.lint(root, manifest, source, pairs, asked, tell)
    return found.to_json() | {"ok": found.ok and not compared["findings"], "source": compared}


@dataclass
class _Seen:
    """The files of a release folder, and why some of them are not what they should be."""

    tree: Tree
    found: Mapping[str, str]  # path -> kind, see hashing.walk
    why: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.why |= {path: _KINDS[kind] for path, kind in self.found.items() if kind == "unreadable"}

    def read(self, name: str) -> bytes | None:
        """A document, or None when it is missing or cannot be read."""
        if self.found.get(name) != "file":
            return None
        try:
            return self.tree.read(name)
        except OSError as why:
            self.why[name] = f"cannot be read: {why.strerror}"
            return None

    def compare(self, expected: Mapping[str, str], sizes: Mapping[str, int]) -> None:
        """Hashes the files that are there. Sizes of large ones are compared first: a wrong one needs no hashing."""
        to_hash = []
        for path in sorted(expected.keys() | set(UNLISTED)):
            kind = self.found.get(path)
            if kind not in (None, "file"):
                self.why[path] = _KINDS[str(kind)]
            elif kind == "file" and path in expected and path not in self.why:
                to_hash.append(path)
        other = set()
        for path in to_hash:
            if sizes.get(path, 0) > _SMALL and self._other_size(path, sizes[path]):
                other.add(path)
        for path, digest in self.tree.digests([path for path in to_hash if path not in other]):
            if isinstance(digest, OSError):
                self.why[path] = f"cannot be read: {digest.strerror}"
            elif digest != expected[path] and not (path in sizes and self._other_size(path, sizes[path])):
                self.why[path] = "does not have the SHA-256 that is listed"

    def _other_size(self, path: str, size: int) -> bool:
        found = self.tree.size(path)
        if found != size:
            self.why[path] = f"has {found:,} bytes, not {size:,}"
        return found != size


def _folder(root: Path) -> Path:
    if not root.is_dir():
        raise UsageError(f"{root} is not a folder.", "Give the folder of a release.")
    return root


def _release_files(tree: Tree) -> dict[str, str]:
    found = tree.walk(layout.FOREIGN)
    if not any(name in found for name in UNLISTED):
        raise UsageError(f"{tree} is not a release: it has no {layout.MANIFEST}.", "Give the folder that holds it.")
    return found


def _signature(seen: _Seen, pinned: Path | None) -> tuple[Signature, str | None, dict[str, str]]:
    """State, fingerprint of the signer, and the digests that are signed (none unless a signature holds)."""
    expected = None if pinned is None else _pinned(pinned)
    envelope = seen.read(layout.ATTESTATION)
    if envelope is None:
        return "missing" if layout.ATTESTATION not in seen.found else "invalid", None, {}
    if expected is not None and (signed := sign.verified(envelope, expected)) is not None:
        return "valid", expected.keyid, signed
    own = _own_key(seen)
    if own is not None and (signed := sign.verified(envelope, own)) is not None:
        return "valid" if expected is None else "untrusted", own.keyid, signed
    return "invalid", None, {}


def _pinned(path: Path) -> sign.PublicKey:
    try:
        return sign.public_key(path.read_bytes())
    except (OSError, ValueError) as why:
        raise UsageError(f"{path} is not a public key: {why}.", f"Give the owner's {layout.PUBLIC_KEY}.") from why


def _own_key(seen: _Seen) -> sign.PublicKey | None:
    pem = seen.read(layout.PUBLIC_KEY)
    try:
        return None if pem is None else sign.public_key(pem)
    except ValueError:
        return None  # its hash is in the manifest, so it will be named there


def _expected(seen: _Seen, signed: Mapping[str, str]) -> tuple[dict[str, str], dict[str, int]]:
    """Path -> SHA-256, and path -> size where known, from the list that deserves most trust.

    The manifest, unless it is damaged, or changed where the checksums still hold. The two must agree; where the
    signature tells which of them changed, only that one is named.
    """
    manifest, manifest_held = _manifest(seen, signed)
    sums, sums_held = _sums(seen, signed)
    claimed = sums.pop(layout.MANIFEST, None) if sums else None
    listed = {entry.path: entry.sha256 for entry in manifest.files} if manifest else None
    if manifest_held == sums_held and None not in (listed, sums) and listed != sums:
        seen.why.setdefault(layout.SUMS, f"does not agree with {layout.MANIFEST}")
    if manifest is None or listed is None or (sums_held and not manifest_held):
        return sums or {}, {}
    if not signed and claimed:
        listed[layout.MANIFEST] = claimed
    return listed, {entry.path: entry.size for entry in manifest.files}


def _manifest(seen: _Seen, signed: Mapping[str, str]) -> tuple[Manifest | None, bool]:
    """The manifest, or None when it is damaged; and whether a signature holds for its bytes."""
    data = seen.read(layout.MANIFEST)
    if data is None:
        return None, False
    held = _held(seen, layout.MANIFEST, data, signed)
    try:
        return Manifest.from_bytes(data), held
    except IntegrityError as why:
        if held:
            raise  # the owner signed exactly these bytes: they are of a newer version, not damaged
        seen.why.setdefault(layout.MANIFEST, str(why))
        return None, False


def _sums(seen: _Seen, signed: Mapping[str, str]) -> tuple[dict[str, str] | None, bool]:
    """Path -> SHA-256 from SHA256SUMS, or None when it is damaged; and whether a signature holds for its bytes."""
    data = seen.read(layout.SUMS)
    if data is None:
        return None, False
    held = _held(seen, layout.SUMS, data, signed)
    lines = data.decode("utf-8", "replace").split("\n")
    matches = [_SUM.fullmatch(line) for line in lines[:-1]]
    if lines[-1] or not all(matches):
        seen.why.setdefault(layout.SUMS, "is damaged")
        return None, False
    return {_unescape(m[3]) if m[1] else m[3]: m[2] for m in matches if m}, held


def _held(seen: _Seen, name: str, data: bytes, signed: Mapping[str, str]) -> bool:
    """Whether a signature vouches for a document as it is; names the document when one vouches for other bytes."""
    held = signed.get(name) == hashlib.sha256(data).hexdigest()
    if name in signed and not held:
        seen.why[name] = "does not have the SHA-256 that was signed"
    return held


def _unescape(name: str) -> str:
    return name.replace("\\n", "\n").replace("\\r", "\r")
