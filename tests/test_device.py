from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from unlearnable.device import Room, in_parts
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


def learning(room: Room, space: int, count: int = 13) -> tuple[list[torch.Tensor], float, list[int]]:
    """Gradients and loss of a step for which only `space` images fit, and how many were taken at a time."""
    torch.manual_seed(0)
    images, labels, taken = torch.randn(count, 5), torch.arange(count) % 3, list[int]()
    net = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3))

    def loss(part: slice) -> torch.Tensor:
        found = torch.nn.functional.cross_entropy(net(images[part]), labels[part])
        if len(labels[part]) > space:
            found.register_hook(fail)
        taken.append(len(labels[part]))
        return found

    found = room.gradients(loss, count, torch.optim.SGD(net.parameters(), lr=0.1))
    return [weight.grad for weight in net.parameters() if weight.grad is not None], found.item(), taken


def fail(gradient: torch.Tensor) -> None:
    raise torch.OutOfMemoryError("CUDA")


def test_a_step_in_parts_is_the_step_of_the_whole_batch() -> None:
    said: list[str] = []
    room = Room(said.append)
    whole, loss, once = learning(Room(said.append), 13)
    parts, mean, taken = learning(room, 4)
    assert (
        once == [13]
        and taken[-4:] == [3, 3, 3, 4]
        and said
        == [
            "out of memory: going on with 7 images at once",
            "out of memory: going on with 4 images at once",
        ]
    )
    torch.testing.assert_close(parts, whole, atol=1e-6, rtol=1e-5)
    assert mean == pytest.approx(loss, abs=1e-6)
    assert learning(room, 4)[2] == [3, 3, 3, 4], "it is remembered"


def test_a_step_is_not_taken_in_parts_that_are_too_small() -> None:
    room = Room([].append, least=2)
    assert learning(room, 2, 6)[2][-3:] == [2, 2, 2]
    assert learning(room, 3, 7)[2] == [2, 2, 3], "no image is alone"
    with pytest.raises(UnlearnableError, match=r"2 images at once do not fit in the memory.*--set batch="):
        learning(room, 1, 6)
    with pytest.raises(UnlearnableError, match="13 images at once"):
        learning(Room([].append, least=1 << 40), 12)


def test_memory_that_a_step_frees_is_there_for_the_next() -> None:
    """In a process of its own: what is kept stays kept."""
    pytest.importorskip("resource")
    script = """
import resource, torch
from unlearnable.device import keep_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for step in range(5):
        kept = [torch.ones(4 << 20) for _ in range(8)]
        del kept
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

first, able = faults(), keep_memory()
faults()
print(able, first, faults())
"""
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=True)
    able, first, kept = done.stdout.split()
    if able == "False":
        pytest.skip("this is no glibc")
    assert int(kept) < int(first) / 100
