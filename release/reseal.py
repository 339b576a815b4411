"""New vouching for a release of which only documents changed: manifest, checksums and signature, as bytes.

The folder stays as it is. The data files keep the digests that the manifest lists, so nothing is read but documents; the
caller has checked the release. The same documents and key give the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from release import keyring, layout, sign
from release.manifest import FileEntry, Manifest
from release.seal import sums_bytes
from unlearnable.errors import UsageError


def reseal(root: Path, owner: Path, documents: Mapping[str, bytes]) -> dict[str, bytes]:
    """The documents (by release path, listed already) and the three files that vouch for the release with them.

    Raises UsageError when the key that signed the release is not at hand: nothing else may sign it.
    """
    key = keyring.signer_of((root / layout.PUBLIC_KEY).read_bytes(), owner)
    if key is None:
        raise UsageError(
            f"The key that signed {root} is neither in {owner} nor in {keyring.folder()}, "
            "so a changed card cannot be signed.",
            "Push from where your keys lie, or to a repository without a card.",
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
