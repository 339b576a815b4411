"""The last steps of a release: write what vouches for the data, sign it, and let it appear whole.

Order of vouching: manifest.json lists every file but three; SHA256SUMS (coreutils format) lists the same files and
manifest.json; attestation.json signs manifest.json and SHA256SUMS. So `sha256sum -c SHA256SUMS` covers everything but
itself and the signature, and the signature covers both.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path, PurePosixPath

from release import card, hashing, keyring, layout, report, sign
from release.facts import Facts, Measured
from release.files import encoded, fresh_name, write_anew
from release.manifest import FileEntry, Manifest, public_verification
from release.tree import Tree
from unlearnable.errors import IntegrityError, UsageError

__all__ = ["Facts", "Measured", "publish", "seal"]

# What `seal` writes, the signature first: once that is gone, a half-dropped release cannot pass for a sealed one.
_OURS = (
    layout.ATTESTATION,
    layout.SUMS,
    layout.MANIFEST,
    layout.PUBLIC_KEY,
    layout.CARD,
    layout.REPORT,
)
_OPEN = 0o644  # what a release holds is for everyone to read


def seal(staging: Path, owner: Path, facts: Facts, tree: Tree | None = None) -> Manifest:
    """Writes the card, the reports, the manifest, the checksums and the signature of a finished staging folder.

    `staging` holds the files named in `facts.documents` and, unless `tree` says where else it lies, data/ complete; what an
    earlier `seal` wrote is replaced.
    The owner's report goes to `owner`, made where it is missing. All of it is on the disk when this returns.
    Raises IntegrityError naming the file when the folder and `facts.measured` disagree, or when it holds anything that
    is not a plain file; OSError when the disk fails.
    """
    if owner.resolve().is_relative_to(staging.resolve()):
        raise UsageError(f"The owner folder {owner} lies inside the release {staging}.", "Keep it beside the release.")
    for name in _OURS:
        (staging / name).unlink(missing_ok=True)
        fresh_name(staging / name).unlink(missing_ok=True)
    tree = tree or Tree(staging)
    paths = _plan(tree, facts)
    owner.mkdir(mode=0o700, parents=True, exist_ok=True)
    owner.chmod(0o700)
    key = keyring.signer(owner)
    write_anew(owner / layout.PUBLIC_KEY, sign.public_pem(key), _OPEN)
    write_anew(staging / layout.PUBLIC_KEY, sign.public_pem(key), _OPEN)
    write_anew(staging / layout.CARD, encoded(card.card(facts)), _OPEN)
    write_anew(staging / layout.REPORT, encoded(report.public(facts)), _OPEN)
    write_anew(owner / layout.OWNER_REPORT, encoded(report.owner(facts)), 0o600)

    written = sorted([*paths, layout.PUBLIC_KEY, layout.CARD, layout.REPORT])
    manifest = _manifest(tree, facts, _digests(tree, written))
    write_anew(staging / layout.MANIFEST, manifest.to_bytes(), _OPEN)
    sums = sums_bytes({entry.path: entry.sha256 for entry in manifest.files} | _digests(tree, [layout.MANIFEST]))
    write_anew(staging / layout.SUMS, sums, _OPEN)
    predicate = {"name": facts.name, "created": facts.created, "images": facts.counts["protected"]}
    attestation = sign.attest(key, _digests(tree, [layout.MANIFEST, layout.SUMS]), predicate)
    write_anew(staging / layout.ATTESTATION, attestation, _OPEN)
    for folder in {owner, *(staging / parent for path in written for parent in PurePosixPath(path).parents)}:
        if folder.exists():
            _sync_folder(folder)
    return manifest


def publish(staging: Path, out: Path, overwrite: bool = False) -> None:
    """Renames a sealed staging folder to `out`, so that a release appears whole or not at all.

    With `overwrite` the release that is there is moved aside first and removed last; should the machine die in between,
    it is whole in a hidden folder beside `out`. Raises UsageError when `out` holds anything and `overwrite` is off,
    when it is no release, or when it holds files that its manifest does not list: those would be lost.
    """
    for name in (layout.MANIFEST, layout.SUMS, layout.ATTESTATION):
        if not (staging / name).is_file():
            raise IntegrityError(f"{staging} is not sealed: {name} is missing.")
    require_replaceable(out, overwrite)
    aside: Path | None = None
    if out.exists() and not any(out.iterdir()):
        out.rmdir()
    elif out.exists():
        aside = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".old", dir=out.parent))
        out.rename(aside / out.name)
    try:
        staging.rename(out)
    except OSError:
        if aside is not None:
            (aside / out.name).rename(out)
            aside.rmdir()
        raise
    _sync_folder(out.parent)
    if aside is not None:
        shutil.rmtree(aside)


def sums_bytes(digests: dict[str, str]) -> bytes:
    """SHA256SUMS as coreutils write and read it, names with line breaks escaped. Sorted by path."""
    return "".join(f"{_sums_line(path, digests[path])}\n" for path in sorted(digests)).encode("utf-8")


def _sums_line(path: str, digest: str) -> str:
    escaped = path.replace("\n", "\\n").replace("\r", "\\r")
    return f"{digest}  {path}" if escaped == path else f"\\{digest}  {escaped}"


def _plan(tree: Tree, facts: Facts) -> list[str]:
    """The files that are staged, checked against what the maker of the copy says it wrote."""
    found = tree.walk()
    for path, kind in found.items():
        if kind != "file":
            raise IntegrityError(f"{path} in the staging folder is not a plain file ({kind}).")
        if path not in facts.measured and path not in facts.documents:
            raise IntegrityError(f"{path} is in the staging folder, but nothing is known about it.")
    for path in (*facts.measured, *facts.documents):
        if path not in found:
            raise IntegrityError(f"{path} was written, but is not in the staging folder.")
        if (path in facts.measured) != path.startswith(f"{layout.DATA}/"):
            raise IntegrityError(f"{path} does not belong there: data lies in {layout.DATA}/, documents beside it.")
    return list(found)


def _manifest(tree: Tree, facts: Facts, digests: dict[str, str]) -> Manifest:
    return Manifest(
        name=facts.name,
        created=facts.created,
        layout=facts.layout,
        budget={"norm": "linf", "levels": facts.levels, "guaranteed": facts.guaranteed},
        counts=dict(facts.counts),
        splits=dict(facts.splits),
        versions=dict(facts.versions),
        commitment=dict(facts.commitment),
        trace_commitment=facts.trace_commitment,
        fit=facts.fit,
        quality=asdict(facts.quality) if facts.quality and facts.quality.images else None,
        verification=public_verification(facts.verification) if facts.verification else None,
        files=tuple(_entry(tree, path, digest, facts.measured.get(path)) for path, digest in digests.items()),
    )


def _entry(tree: Tree, path: str, digest: str, measured: Measured | None) -> FileEntry:
    size = tree.size(path)
    if measured is None:
        return FileEntry(path, digest, size, "document")
    return FileEntry(path, digest, size, "data", measured.images, measured.linf, measured.p999, measured.psnr)


def _digests(tree: Tree, paths: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for path, digest in tree.digests(paths, durable=True):
        if isinstance(digest, OSError):
            raise digest
        found[path] = digest
    return found


def _sync_folder(folder: Path) -> None:
    """Makes renames in a folder durable. Windows cannot open folders, and needs no such thing."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_replaceable(out: Path, overwrite: bool) -> None:
    """Raises UsageError unless `out` is absent, empty, or (with `overwrite`) a release that nothing was added to."""
    if out.is_symlink():
        raise UsageError(f"{out} is a link.", "Name the folder itself.")
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file.", "Name a folder that does not exist yet.")
    if not out.exists() or not any(out.iterdir()):
        return
    if not overwrite:
        raise UsageError(f"{out} exists and is not empty.", "Name another folder, or pass --overwrite.")
    hint = "Name another folder; only a release that nothing was added to is replaced."
    try:
        listed = {entry.path for entry in Manifest.from_bytes((out / layout.MANIFEST).read_bytes()).files}
    except (OSError, IntegrityError) as why:
        raise UsageError(f"{out} is not a release, so it is not overwritten.", hint) from why
    ours = listed | {layout.MANIFEST, layout.SUMS, layout.ATTESTATION}
    others = [path for path in hashing.walk(out) if path not in ours]
    if others:
        raise UsageError(f"{out} is not overwritten: it holds {others[0]}, which is not part of the release.", hint)
