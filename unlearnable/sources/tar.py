"""A tar archive of image files, plain or gzip, indexed once and read at the members' places; never unpacked.

Splits and labels follow from the paths inside, as in a folder. A gzip archive is read through once to be listed and keeps
its images in the archive's order, which is the quick one. Links, sparse members and names that lead out are reported.
"""

from __future__ import annotations

import io
import os
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO

from unlearnable.errors import ImageError, UsageError
from unlearnable.sources import Options, _stamps
from unlearnable.sources._arrange import FilesSource, arrange
from unlearnable.sources._gzip import GzipReader
from unlearnable.sources._members import Member, sift

FALLBACK = True  # a tar of samples is known better as a WebDataset
_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst")
_PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_FAILURES = (OSError, EOFError, zlib.error, tarfile.TarError, ValueError)
_HEAD = 32


def matches(spec: str) -> bool:
    path = Path(spec).expanduser()
    return path.name.lower().endswith(_ENDINGS) and path.is_file()


def open(spec: str, options: Options) -> FilesSource:
    """Indexes the archive. Raises UsageError when it is damaged, packed otherwise or holds nothing to protect."""
    archive = Archive(Path(spec).expanduser())
    members = [Member(member.name, member.size, member.trouble) for member in archive.index]
    files, at, skipped = sift(members, archive.head, sort=not archive.gzip)
    archive.at = at
    return arrange(spec, "tar", files, skipped, options, archive.fetch, stamp=archive.stamp)


@dataclass(frozen=True)
class Place:
    """Where a member's bytes lie in the (unpacked) archive."""

    name: str
    start: int
    size: int
    trouble: str = ""


class Archive:
    """A tar file and the places of its members. Threads may share it; another process indexes it again."""

    def __init__(self, path: Path, at: dict[str, int] | None = None, seen: _stamps.Stamp | None = None) -> None:
        self.path = path
        self.at = at or {}
        try:
            self._seen = seen or _stamps.of(path)
            with path.open("rb") as file:
                head = file.read(_HEAD)
        except OSError as why:
            raise UsageError(f"{path} cannot be read ({why.strerror}).") from why
        kind = next((name for magic, name in _PACKED.items() if head.startswith(magic)), "")
        if kind not in ("", "gzip"):
            raise UsageError(
                f"{path} is packed with {kind}, which cannot be read at random.", f"Unpack it: {_WAY[kind]} {path}"
            )
        self.gzip = kind == "gzip"
        self._lock = Lock()
        self._stream: BinaryIO = io.BufferedReader(GzipReader(path)) if self.gzip else path.open("rb")
        try:
            self.index = list(_places(self._stream))
        except _FAILURES as why:
            raise UsageError(f"{path} cannot be read as a tar archive ({why}).", "Replace it by a whole copy.") from why

    def __reduce__(self) -> tuple[Any, ...]:
        return Archive, (self.path, self.at, self._seen)

    def __del__(self) -> None:
        if hasattr(self, "_stream"):
            self._stream.close()

    def stamp(self, name: str) -> _stamps.Stamp:
        del name  # a member changes with its archive
        return self._seen

    def head(self, position: int) -> bytes:
        return self._read(self.index[position].start, min(_HEAD, self.index[position].size))

    def size_of(self, name: str) -> int:
        return self.index[self.at[name]].size

    def fetch(self, name: str) -> bytes:
        """A member's bytes. Raises ImageError when they cannot be read, IntegrityError when the archive was changed."""
        place = self.index[self.at[name]]
        try:
            _stamps.require(self.path, self._seen)
            data = self._read(place.start, place.size)
        except _FAILURES as why:
            raise ImageError(f"{name} cannot be read from the archive ({why}).", "Was it damaged or replaced?") from why
        if len(data) != place.size:
            raise ImageError(
                f"{name} cannot be read from the archive: it ends too early.", "Replace it by a whole copy."
            )
        return data

    def _read(self, start: int, size: int) -> bytes:
        if not self.gzip:
            return os.pread(self._stream.fileno(), size, start)
        with self._lock:
            self._stream.seek(start)
            return self._stream.read(size)


_WAY = {"bzip2": "bunzip2 -k", "xz": "unxz -k", "zstd": "unzstd"}


def _places(stream: BinaryIO) -> Iterator[Place]:
    """Every member but folders. Headers alone are read; the places between are jumped over."""
    with tarfile.open(fileobj=stream, mode="r:", encoding="utf-8", errors="surrogateescape") as tar:
        for info in tar:
            tar.members = []  # type: ignore[attr-defined]  # it keeps them all, and an archive may have millions
            if not info.isdir():
                yield Place(info.name, info.offset_data, info.size, _trouble(info))
    while stream.read(1 << 20):  # so that the checksum of a gzip file is tested
        pass


def _trouble(info: tarfile.TarInfo) -> str:
    if info.issym() or info.islnk():
        return "a link inside the archive"
    if not info.isreg():
        return "not an image (a device, pipe or socket)"
    return "a sparse file; unpack the archive and protect the folder" if info.issparse() else ""
