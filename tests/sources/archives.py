"""Archives made in memory, members exactly as a test spells them."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

Members = Iterable[tuple[str, bytes]]


def as_zip(path: Path, members: Members, packing: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", packing) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


def tar_bytes(members: Members) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def as_tar(path: Path, members: Members) -> Path:
    body = tar_bytes(members)
    path.write_bytes(gzip.compress(body, 1) if path.name.endswith(("gz",)) else body)
    return path


MAKERS = {"zip": as_zip, "tar": as_tar, "tar.gz": as_tar, "tgz": as_tar}
