"""New vouching for a release of which only documents changed: manifest, checksums and signature, as bytes.

The folder stays as it is. The data files keep the digests that the manifest lists, so nothing is read but documents; the
caller has checked the release. The same documents and key give the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from release import layout, sign
from release.manifest import FileEntry, Manifest
from release.seal import sums_bytes
from unlearnable.errors import UsageError


def reseal(root: Path, owner: Path, documents: Mapping[str, bytes]) -> dict[str, bytes]:
    """The documents (by release path, listed already) and the three files that vouch for the release with them.

    Raises UsageError when the owner folder does not hold the key that signed the release: nothing else may sign it.
    """
    if not (owner / layout.SIGNING_KEY).exists():
        raise UsageError(
            f"{owner / layout.SIGNING_KEY} is not there, so a changed card cannot be signed.",
            "Push from where the owner folder lies, or to a repository without a card.",
        )
    key = sign.signer(owner)
    if sign.public_pem(key) != (root / layout.PUBLIC_KEY).read_bytes():
        raise UsageError(
            f"{owner} holds another key than the one that signed {root}.", "Put the owner folder of this release there."
        )
    before = Manifest.from_bytes((root / layout.MANIFEST).read_bytes())
    manifest = replace(before, files=tuple(_with(entry, documents.get(entry.path)) for entry in before.files))
    listed = manifest.to_bytes()
    sums = sums_bytes({entry.path: entry.sha256 for entry in manifest.files} | {layout.MANIFEST: _sha256(listed)})
    predicate = {"name": manifest.name, "created": manifest.created, "images": manifest.counts["protected"]}
    signed = sign.attest(key, {layout.MANIFEST: _sha256(listed), layout.SUMS: _sha256(sums)}, predicate)
    return {**documents, layout.MANIFEST: listed, layout.SUMS: sums, layout.ATTESTATION: signed}


def _with(entry: FileEntry, document: bytes | None) -> FileEntry:
    return entry if document is None else replace(entry, sha256=_sha256(document), size=len(document))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
