"""Ctrl-C while files are written: the shard under way is finished first, so that nothing of it has to be done again."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from unlearnable.types import Tell


@contextmanager
def between_shards(tell: Tell) -> Iterator[Callable[[int, int, int], None]]:
    """A function to call after each shard with how many images are done, of how many, and how many failed.

    It tells so, and raises KeyboardInterrupt if Ctrl-C was pressed meanwhile. A second Ctrl-C does not wait. Outside the
    main thread, which alone hears signals, it only tells.
    """
    pressed: list[int] = []

    def hear(number: int, frame: FrameType | None) -> None:
        del frame
        if pressed:
            raise KeyboardInterrupt
        pressed.append(number)
        with contextlib.suppress(RuntimeError):  # stderr was just being written to
            tell("interrupted: finishing the part that is under way; press Ctrl-C again to stop at once", 0, 0)

    def after(done: int, of: int, failed: int) -> None:
        tell("writing", done, of, failed)
        if pressed and done < of:
            raise KeyboardInterrupt(f"{done:,} of {of:,} images are done.")

    if threading.current_thread() is not threading.main_thread():
        yield after
        return
    before = signal.signal(signal.SIGINT, hear)
    try:
        yield after
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        raise KeyboardInterrupt("All images are written.")
