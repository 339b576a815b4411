from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from poison_kit import KEY, context

from unlearnable.errors import UsageError
from unlearnable.keys import Key
from unlearnable.poisons import regions
from unlearnable.types import Batch


def blank(labels: list[int], size: int) -> Batch:
    images = torch.zeros((len(labels), 3, size, size), dtype=torch.uint8)
    return Batch(tuple(map(str, range(len(labels)))), images, torch.tensor(labels))


def named(count: int) -> tuple[str, ...]:
    return tuple(f"class {i}" for i in range(count))


def distances(state: dict[str, dict[str, torch.Tensor]]) -> list[int]:
    """Differing bits of every pair, the nearer of plain and mirrored."""
    pairs = itertools.combinations(state["patterns"].values(), 2)
    return [min(int((a != b).sum()), int((a != b.flip(2)).sum())) for a, b in pairs]


@pytest.mark.parametrize(
    ("count", "size"), [(1, 16), (2, 16), (4, 32), (4, 7), (6, 20), (16, 33), (128, 32), (1024, 40)]
)
def test_blocks_against_loops(count: int, size: int) -> None:
    params, where = regions.Params(count=count), context(size=size)
    state = regions.fit(None, params, where)
    delta = regions.delta(blank([2, 0, 1, 0], size), state, params, where)
    rows, columns = regions.grid(count, size)
    assert rows * columns == count
    for image, label in zip(delta, [2, 0, 1, 0], strict=True):
        pattern = state["patterns"][where.classes[label]].tolist()
        for channel in range(3):
            for y in range(size):
                for x in range(size):
                    block = pattern[channel][int(y * rows / size)][int(x * columns / size)]
                    assert image[channel, y, x].item() == pytest.approx(block * 8 / 255)


@pytest.mark.parametrize(
    ("count", "shape"),
    [(1, (1, 1)), (2, (2, 1)), (4, (2, 2)), (16, (4, 4)), (64, (8, 8)), (128, (16, 8)), (1024, (32, 32))],
)
def test_grids(count: int, shape: tuple[int, int]) -> None:
    assert regions.grid(count, 32) == shape == regions.grid(count, 224)
    assert regions.grid(1024, 16) == (16, 16), "no block is thinner than a pixel"


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 40), st.sampled_from([2, 3, 4, 6, 9, 16, 64]), st.binary(min_size=32, max_size=32))
def test_patterns_are_distinct_and_far_apart(classes: int, count: int, secret: bytes) -> None:
    state = regions.fit(None, regions.Params(count=count), context(key=Key(secret), classes=named(classes)))
    bits = 3 * count
    least = 1 if bits < 12 else bits // 4 if bits < 48 else bits // 3
    assert min(distances(state)) >= least


def test_ten_classes_are_as_far_apart_as_codes_allow() -> None:
    # the best code of ten words of 6 bits has distance 2; 5 of 12 bits is one below the best
    for count, least in {2: 2, 4: 4, 16: 19, 64: 80}.items():
        assert min(distances(regions.fit(None, regions.Params(count=count), context(classes=named(10))))) >= least


def test_every_pattern_of_one_region_is_used_before_it_is_full() -> None:
    state = regions.fit(None, regions.Params(count=1), context(classes=named(8)))
    assert len({tuple(p.ravel().tolist()) for p in state["patterns"].values()}) == 8
    with pytest.raises(UsageError, match="too few for 9 classes") as why:
        regions.fit(None, regions.Params(count=1), context(classes=named(9)))
    assert "r4" in why.value.hint


def test_a_later_class_leaves_the_others_alone() -> None:
    params = regions.Params(count=4)
    first = regions.fit(None, params, context(classes=("cat", "dog")))
    more = regions.extend(first, params, context(classes=("ant", "cat", "dog")))
    assert set(first["patterns"]) == {"cat", "dog"} and set(more["patterns"]) == {"ant", "cat", "dog"}
    assert all(torch.equal(more["patterns"][name], first["patterns"][name]) for name in first["patterns"])
    assert min(distances(more)) >= 3
    with pytest.raises(UsageError, match="ant"):
        regions.delta(blank([0], 16), first, params, context(classes=("ant", "cat", "dog")))


def test_order_of_the_classes_does_not_matter() -> None:
    states = [regions.fit(None, regions.Params(), context(key=KEY, classes=c)) for c in (("a", "b"), ("b", "a"))]
    assert all(torch.equal(states[0]["patterns"][name], states[1]["patterns"][name]) for name in "ab")


@pytest.mark.parametrize("count", [0, -1, 1025])
def test_ranges(count: int) -> None:
    with pytest.raises(ValueError, match="count"):
        regions.Params(count=count)
