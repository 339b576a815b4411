from __future__ import annotations

import pytest
import torch

from unlearnable.device import in_parts
from unlearnable.errors import UnlearnableError


class Memory:
    """Work that fails as torch does when more than `room` items come at once."""

    def __init__(self, room: int, error: BaseException) -> None:
        self.room, self.error, self.done = room, error, list[int]()

    def __call__(self, part: slice) -> int:
        items = list(range(part.start, part.stop))
        if len(items) > self.room:
            raise self.error
        self.done += items
        return len(items)


OUT = [
    torch.OutOfMemoryError("CUDA"),
    MemoryError(),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: 8 bytes"),
]


@pytest.mark.parametrize("error", OUT, ids=lambda error: type(error).__name__)
def test_half_as_many_at_once_where_memory_runs_out(error: BaseException) -> None:
    work, said = Memory(3, error), list[str]()
    assert sum(in_parts(work, 20, 8, said.append)) == 20
    assert work.done == list(range(20)), "each once, in order"
    assert said == ["out of memory: going on with 4 images at once", "out of memory: going on with 2 images at once"]


def test_one_image_that_does_not_fit_is_said() -> None:
    with pytest.raises(UnlearnableError, match="One image alone"):
        in_parts(Memory(0, MemoryError()), 5, 4)


def test_other_failures_are_not_taken_for_a_full_memory() -> None:
    with pytest.raises(RuntimeError, match="shape"):
        in_parts(Memory(0, RuntimeError("shape mismatch")), 5, 4)
