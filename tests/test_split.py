"""No near-duplicate on both sides, every class on both sides, and the owner's own test split where there is one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_pictures import picture

from unlearnable import split
from unlearnable.errors import UsageError
from unlearnable.types import Record


def images_of(count: int, side: int = 32) -> torch.Tensor:
    noise = np.random.default_rng(0).integers(0, 256, (count, 12, 12, 3)).astype(np.float32)
    small = torch.from_numpy(noise).permute(0, 3, 1, 2)
    return torch.nn.functional.interpolate(small, size=(side, side), mode="bilinear").round().byte()


def records_of(count: int, classes: int = 3, name: str = "train") -> tuple[Record, ...]:
    return tuple(Record(f"{name}/{i}", name, i % classes) for i in range(count))


def test_parts_are_disjoint_cover_everything_and_hold_every_class() -> None:
    records = records_of(90)
    parts = split.parts(records, images_of(90))
    everything = [*parts.train, *parts.select, *parts.test]
    assert sorted(everything) == list(range(90))
    for part in (parts.train, parts.select, parts.test):
        assert {records[i].label for i in part} == {0, 1, 2}
    assert len(parts.test) == pytest.approx(18, abs=3)


def test_near_duplicates_stay_on_one_side() -> None:
    base = images_of(60)
    brighter = (base.int() + 3).clamp(0, 255).byte()
    images = torch.cat([base, brighter])
    parts = split.parts(records_of(120), images)
    side = {i: name for name in ("train", "select", "test") for i in getattr(parts, name)}
    assert all(side[i] == side[i + 60] for i in range(60))


def test_the_owners_test_split_is_the_test_part() -> None:
    records = records_of(60) + records_of(20, name="test")
    parts = split.parts(records, images_of(80))
    assert set(parts.test) == set(range(60, 80)) and "owner" in parts.how
    assert not set(parts.train + parts.select) & set(parts.test)


def test_the_same_source_is_divided_the_same_way() -> None:
    assert split.parts(records_of(90), images_of(90)) == split.parts(records_of(90), images_of(90))


def test_too_few_images_are_refused_with_a_way_out() -> None:
    with pytest.raises(UsageError, match="too few"):
        split.parts(records_of(3), images_of(3))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=40), st.integers(0, 2**32))
def test_groups_agree_with_comparing_all_pairs(base: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    near = [value ^ (1 << int(rng.integers(64))) for value in base]
    hashes = np.array(base + near, np.uint64)
    groups = split.near_duplicates(hashes)
    parent = list(range(len(hashes)))
    for _ in hashes:  # labels spread until they settle: slow, and plainly right
        for i in range(len(hashes)):
            for j in range(len(hashes)):
                if bin(int(hashes[i]) ^ int(hashes[j])).count("1") <= split.NEAR:
                    parent[i] = parent[j] = min(parent[i], parent[j])
    for i in range(len(hashes)):
        for j in range(len(hashes)):
            assert (groups[i] == groups[j]) == (parent[i] == parent[j])


def test_a_few_images_at_a_time_hash_as_all_together(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.randint(256, (17, 3, 16, 16), generator=torch.Generator().manual_seed(0)).byte()
    together = split.perceptual_hashes(images)
    monkeypatch.setattr(split, "_AT_ONCE", 4)
    assert (split.perceptual_hashes(images) == together).all() and len(together) == 17


def test_resized_and_recompressed_copies_hash_alike() -> None:
    from PIL import Image

    image = Image.fromarray(picture(2, 0, 64))
    small = Image.fromarray(np.asarray(image.resize((48, 48))))
    views = [torch.from_numpy(np.array(i.resize((64, 64)))).permute(2, 0, 1) for i in (image, small)]
    a, b = split.perceptual_hash(torch.stack(views))
    assert bin(int(a) ^ int(b)).count("1") <= split.NEAR
