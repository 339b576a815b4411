"""Refuses to protect what lies in the way of the release, and what is a protected release already.

Protecting twice costs quality and leaves the copies of one image with two perturbations, which can be averaged out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from release import layout
from release.manifest import Manifest
from unlearnable.errors import ImageError, IntegrityError, UsageError
from unlearnable.types import Source

_HASHED = 1_000  # files of a listed size that are looked at: one match is enough
_FORCE = "Name the originals. To protect a protected copy all the same, pass --force."


def require_apart(source: str, out: Path, address: str | None = None) -> None:
    """Raises UsageError where the source and what `protect` writes would lie in one another.

    address: of a release on remote storage; there is none at `out` then.
    """
    ours, theirs = f"{address}/", f"{source.rstrip('/')}/"
    if address and (ours.startswith(theirs) or theirs.startswith(ours)):
        raise UsageError(f"{address} and the source {source} lie in one another.", "Name a folder outside it.")
    folder = Path(source).expanduser()
    if not folder.exists():
        return
    a = folder.resolve()
    for b in (*(() if address else (out,)), layout.owner_folder(out), layout.staging_folder(out)):
        if b == a or b.is_relative_to(a) or a.is_relative_to(b):
            raise UsageError(f"{b} and the source {source} lie in one another.", "Name a folder outside it.")


def require_unprotected(source: Source, out: Path) -> None:
    """Raises UsageError where the source is a release of ours, lies in one, or holds files that one lists.

    Looked at are manifests in and above the source, inside an archive, at OUT and in the folders beside it; a copy that
    was encoded again, or whose manifest is elsewhere, is not recognised.
    """
    named = Path(source.spec).expanduser()
    path = named.resolve() if named.exists() else None
    for folder in (path, *path.parents) if path else ():
        if _manifest(folder / layout.MANIFEST) is not None:
            raise UsageError(f"{source.spec} belongs to the protected release {folder}.", _FORCE)
    for name in _manifests_inside(source):
        raise UsageError(f"{source.spec} is a protected release: it holds {name}.", _FORCE)
    listed = _listed(out)
    sizes = {size for size, _ in listed}
    same = [record for record in source.records if record.size in sizes]
    for record in same[:: -(-len(same) // _HASHED) or 1]:
        try:
            data = source.read(record)
        except ImageError:
            continue
        found = listed.get((len(data), hashlib.sha256(data).hexdigest()))
        if found:
            raise UsageError(f"{record.id} of {source.spec} is a protected image: {found} lists it.", _FORCE)
    for file in _tables(path):
        if file.stat().st_size in sizes:
            with file.open("rb") as opened:
                found = listed.get((file.stat().st_size, hashlib.file_digest(opened, "sha256").hexdigest()))
            if found:
                raise UsageError(f"{file} is part of a protected release: {found} lists it.", _FORCE)


def _manifest(path: Path) -> Manifest | None:
    try:
        return Manifest.from_bytes(path.read_bytes()) if path.is_file() else None
    except (IntegrityError, OSError):
        return None  # another tool's file of that name


def _manifests_inside(source: Source) -> Iterator[str]:
    """Members of an archive that are a manifest of ours."""
    beside = [name for names in getattr(source, "sidecars", {}).values() for name in names]
    for name in [*(item.id for item in source.skipped), *beside]:
        if name.rpartition("/")[2] == layout.MANIFEST and hasattr(source, "fetch"):
            try:
                Manifest.from_bytes(source.fetch(name))
            except (ImageError, IntegrityError, KeyError):
                continue
            yield name


def _listed(out: Path) -> dict[tuple[int, str], Path]:
    """Size and digest of every data file in the releases at and beside `out`, with the manifest that lists it."""
    found = {}
    folders = sorted(p for p in out.parent.iterdir() if p.is_dir()) if out.parent.is_dir() else []
    for folder in folders:
        manifest = _manifest(folder / layout.MANIFEST)
        for entry in manifest.files if manifest else ():
            if entry.kind == "data" and entry.images:
                found[entry.size, entry.sha256] = folder / layout.MANIFEST
    return found


def _tables(path: Path | None) -> list[Path]:
    if path is None:
        return []
    files = [path] if path.is_file() else [*path.glob("*.parquet"), *path.glob("data/*.parquet")]
    return [file for file in files if file.suffix in (".parquet", ".tar")]
