"""A zip archive of image files, read member by member and never unpacked.

Splits and labels follow from the paths inside, as in a folder. Encrypted members, links, archives inside the archive
and names that lead out of it are reported and left out.
"""

from __future__ import annotations

import stat
import zipfile
import zlib
from pathlib import Path
from typing import Any

from unlearnable.errors import ImageError, UsageError
from unlearnable.sources import Options, _stamps
from unlearnable.sources._arrange import FilesSource, arrange
from unlearnable.sources._members import Member, sift

_FAILURES = (OSError, EOFError, RuntimeError, NotImplementedError, ValueError, zlib.error, zipfile.BadZipFile)
_CODECS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_UTF8 = 0x800  # the flag of a name that is stored as UTF-8
_HEAD = 32


def matches(spec: str) -> bool:
    path = Path(spec).expanduser()
    return path.suffix.lower() == ".zip" and path.is_file()


def open(spec: str, options: Options) -> FilesSource:
    """Reads the archive's directory. Raises UsageError when it is damaged or holds nothing to protect."""
    archive = Archive(Path(spec).expanduser())
    members = [Member(_name(info), info.file_size, _trouble(info)) for info in archive.infos]
    files, at, skipped = sift(members, archive.head)
    archive.at = at
    return arrange(spec, "zip", files, skipped, options, archive.fetch, stamp=archive.stamp)


class Archive:
    """An open zip file. Threads may share it; another process opens it again."""

    def __init__(self, path: Path, at: dict[str, int] | None = None, seen: _stamps.Stamp | None = None) -> None:
        self.path = path
        self.at = at or {}
        try:
            self._seen = seen or _stamps.of(path)
            self._zip = zipfile.ZipFile(path)
        except (*_FAILURES, LookupError) as why:
            raise UsageError(f"{path} cannot be read as a zip archive ({why}).", "Replace it by a whole copy.") from why
        self.infos = [info for info in self._zip.infolist() if not info.is_dir()]

    def __reduce__(self) -> tuple[Any, ...]:
        return Archive, (self.path, self.at, self._seen)

    def stamp(self, name: str) -> _stamps.Stamp:
        del name  # a member changes with its archive
        return self._seen

    def head(self, position: int) -> bytes:
        with self._zip.open(self.infos[position]) as member:
            return member.read(_HEAD)

    def fetch(self, name: str) -> bytes:
        """A member's bytes, its checksum tested. Raises ImageError when they are damaged, IntegrityError when the archive
        was changed."""
        try:
            _stamps.require(self.path, self._seen)
            return self._zip.read(self.infos[self.at[name]])
        except _FAILURES as why:
            raise ImageError(f"{name} cannot be read from the archive ({why}).", "Was it damaged or replaced?") from why


def _name(info: zipfile.ZipInfo) -> str:
    """The whole name, also behind a zero byte. Many tools store UTF-8 without saying so; then it is still read as that."""
    if info.flag_bits & _UTF8:
        return info.orig_filename
    try:
        return info.orig_filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return info.orig_filename


def _trouble(info: zipfile.ZipInfo) -> str:
    if info.flag_bits & 1:
        return "encrypted; unpack the archive with its password and protect the folder"
    if stat.S_ISLNK(info.external_attr >> 16):
        return "a link inside the archive"
    if info.compress_type not in _CODECS:
        return "packed in a way that cannot be read here; unpack the archive and protect the folder"
    return ""
