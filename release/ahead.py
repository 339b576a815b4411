"""The next one made while this one is used."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_Thing = TypeVar("_Thing")


def ahead(things: Iterator[_Thing]) -> Iterator[_Thing]:
    """The same things in the same order; a thread makes the one that follows. Two are there at once, and never more; in
    a chain of two of these, three.

    What making one raises is raised in its turn. Closed early, it waits for the one that is being made.
    """
    end: list[_Thing] = []  # an object of our own, which is none of them
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, things, end)
        while True:
            thing = coming.result()
            if thing is end:
                return
            coming = thread.submit(next, things, end)
            yield thing  # type: ignore[misc]
            del thing  # else it would be there while the next but one is made
