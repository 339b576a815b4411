"""Random access to a gzip file, in bounded memory and without unpacking it.

While it is first read through, the decompressor's state (some 40 kB) is kept every few megabytes; a later read starts at
the last state before its place. At most 512 are kept: of a file too large for them every second one goes, so a place in
a 100 GB archive costs a fraction of a second and never a reading from the start.
"""

from __future__ import annotations

import bisect
import io
import zlib
from pathlib import Path
from typing import Any

_MOST = 512
_CHUNK = 1 << 16
_GZIP = 31  # zlib's number for gzip with header and checksum


class GzipReader(io.RawIOBase):
    """The decompressed bytes as a seekable stream. Not for several threads at once.

    Raises EOFError where the file is cut short and zlib.error where it is damaged.
    """

    def __init__(self, path: Path, span: int = 1 << 20) -> None:
        self._file = path.open("rb")
        self._span = span
        self._points: list[tuple[int, int, Any]] = [(0, 0, zlib.decompressobj(_GZIP))]  # place, place in file, state
        self._resume(0)

    def close(self) -> None:
        self._file.close()
        super().close()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END:
            raise io.UnsupportedOperation("the end of a gzip file is known only when it was read")
        target = offset + (self._at if whence == io.SEEK_CUR else 0)
        nearest = bisect.bisect_right(self._points, target, key=lambda point: point[0]) - 1
        if target < self._at or self._points[nearest][0] > self._at:
            self._resume(nearest)
        while self._at < target and self._some(min(target - self._at, _CHUNK)):
            pass
        return self._at

    def readinto(self, buffer: Any) -> int:
        data = self._some(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _resume(self, number: int) -> None:
        self._at, place, state = self._points[number]
        self._file.seek(place)
        self._waiting = b""
        self._state = state.copy()

    def _some(self, most: int) -> bytes:
        """At least one of the next bytes and at most `most`; none at the end."""
        while most:
            if self._state.eof:  # a gzip file may be several, one behind the other, with zeros at the end
                rest = (self._state.unused_data or self._waiting or self._file.read(_CHUNK)).lstrip(b"\0")
                if not rest:
                    return b""
                self._state, self._waiting = zlib.decompressobj(_GZIP), rest
            packed = self._waiting or self._file.read(_CHUNK)
            if not packed:
                raise EOFError("it ends too early")
            data: bytes = self._state.decompress(packed, most)
            self._waiting = self._state.unconsumed_tail
            self._at += len(data)
            self._remember()
            if data:
                return data
        return b""

    def _remember(self) -> None:
        if self._at < self._points[-1][0] + self._span or self._state.eof:
            return
        self._points.append((self._at, self._file.tell() - len(self._waiting), self._state.copy()))
        if len(self._points) > _MOST:
            del self._points[1::2]
            self._span *= 2
