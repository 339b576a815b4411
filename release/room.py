"""Room in memory for large pictures, shared by all processes of a run on one machine.

A picture of more than 20 megapixels waits until no other of more than 4 is being worked on; those share. Locks on files,
because the system takes them back from a process that dies.
"""

from __future__ import annotations

import fcntl
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

LARGE, MIDDLING = 20_000_000, 4_000_000  # pixels


class Room:
    """One process's way to it. folder: where the two lock files lie; without one everybody is alone, and nobody waits."""

    def __init__(self, folder: Path | None = None) -> None:
        self._door: BinaryIO | None = None
        self._room: BinaryIO | None = None
        self._held = False
        if folder is not None:
            self._door, self._room = ((folder / name).open("ab") for name in ("door.lock", "room.lock"))

    def admit(self, pixels: int) -> None:
        """Waits until there is room for so many pixels. Whoever waits for the whole room stands in the door meanwhile, or
        it might wait for ever."""
        if self._door is None or self._room is None or pixels <= MIDDLING or (self._held and pixels <= LARGE):
            return
        self.leave()
        fcntl.flock(self._door, fcntl.LOCK_EX)
        fcntl.flock(self._room, fcntl.LOCK_EX if pixels > LARGE else fcntl.LOCK_SH)
        fcntl.flock(self._door, fcntl.LOCK_UN)
        self._held = True

    def leave(self) -> None:
        """What was admitted is done with."""
        if self._held and self._room is not None:
            fcntl.flock(self._room, fcntl.LOCK_UN)
            self._held = False

    def close(self) -> None:
        for file in (self._door, self._room):
            if file is not None:
                with suppress(OSError):
                    file.close()
