"""Who may learn from which image: the three disjoint parts of the owner's data.

    train    surrogates, `fit`, and victims
    select   early stopping of surrogates, and the choice that `auto` makes
    test     the verdict, and nothing else

The test part is the owner's test split where there is one. Otherwise it is held out of the training split by groups of
near-duplicates, because two shots of one scene on both sides would flatter every accuracy. All parts ship protected.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unlearnable.errors import UsageError
from unlearnable.types import Record

TEST_SPLITS = ("test", "eval", "dev", "validation", "valid", "val")
TEST_SHARE, SELECT_SHARE = 0.2, 0.1
_AT_ONCE = 5000
NEAR = 3  # bits of 64: re-encoded, resized and slightly edited copies stay within this


@dataclass(frozen=True)
class Parts:
    """Positions in a list of records. `how` says where the test part comes from."""

    train: tuple[int, ...]
    select: tuple[int, ...]
    test: tuple[int, ...]
    how: str


def test_split(splits: list[str]) -> str | None:
    """The split that the verdict is read on, if the owner has one beside others."""
    lowered = {name.lower(): name for name in splits}
    return next((lowered[name] for name in TEST_SPLITS if name in lowered), None) if len(splits) > 1 else None


def parts(records: tuple[Record, ...], images: Tensor, seed: int = 0) -> Parts:
    """Divides records by their splits and near-duplicate groups, evenly over classes.

    images: (N, 3, V, V) uint8 of the same records. Raises UsageError when a part would be empty.
    """
    splits = list(dict.fromkeys(record.split for record in records))
    owners = test_split(splits)
    test = [i for i, record in enumerate(records) if record.split == owners]
    rest = [i for i, record in enumerate(records) if record.split != owners]
    if not rest:
        raise UsageError(f"Every readable image is in the split {owners!r}; nothing is left to train on.")
    groups = near_duplicates(perceptual_hashes(images)[rest])
    rng = np.random.default_rng(seed)
    labels = [records[i].label for i in rest]
    if owners is None:
        held, rest, labels, groups = _hold_out(rest, labels, groups, TEST_SHARE, rng)
        test = held
    selected, rest, _, _ = _hold_out(rest, labels, groups, SELECT_SHARE, rng)
    if not rest or not test or not selected:
        raise UsageError(
            f"{len(records)} readable images are too few to train on some and test on others.",
            "Add images (at least ten a class), or protect with --verify none and a --method without training.",
        )
    how = f"the owner's split {owners!r}" if owners else "a stratified hold-out by near-duplicate groups"
    return Parts(tuple(rest), tuple(selected), tuple(test), how)


def perceptual_hashes(images: Tensor) -> NDArray[np.uint64]:
    """`perceptual_hash` of any number of images: floats of all of them may not fit in memory."""
    return np.concatenate([perceptual_hash(part) for part in torch.split(images, _AT_ONCE)])


def perceptual_hash(images: Tensor) -> NDArray[np.uint64]:
    """(N,) 64-bit hashes: signs of the 8x8 lowest DCT coefficients of luma at 32x32, around their median (pHash)."""
    grey = (images.float() * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    grey = torch.nn.functional.interpolate(grey, size=(32, 32), mode="bilinear", antialias=True)[:, 0]
    position, frequency = torch.arange(32.0), torch.arange(8.0)
    basis = torch.cos((2 * position[None] + 1) * frequency[:, None] * torch.pi / 64)  # (8, 32)
    low = (basis @ grey @ basis.T).flatten(1)
    median = low[:, 1:].median(dim=1, keepdim=True).values  # the mean brightness says nothing of likeness
    bits = (low > median).numpy().astype(np.uint64)
    hashes: NDArray[np.uint64] = (bits << np.arange(64, dtype=np.uint64)).sum(axis=1, dtype=np.uint64)
    return hashes


def near_duplicates(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """(N,) group numbers: hashes within NEAR bits of each other share one, transitively.

    Two hashes within 3 bits agree on at least one of their four 16-bit bands, so only images that share a band are compared.
    """
    hashes, which = np.unique(hashes, return_inverse=True)  # a thousand blank scans are one hash, not a million pairs
    parent = np.arange(len(hashes))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = int(parent[i])
        return i

    for band in range(4):
        key = (hashes >> np.uint64(16 * band)) & np.uint64(0xFFFF)
        order = np.argsort(key, kind="stable")
        for bucket in np.split(order, np.flatnonzero(np.diff(key[order])) + 1):
            for position, i in enumerate(bucket[:-1]):
                others = bucket[position + 1 :]
                for j in others[np.bitwise_count(hashes[others] ^ hashes[i]) <= NEAR]:
                    parent[root(int(j))] = root(int(i))
    return np.array([root(i) for i in range(len(hashes))], dtype=np.int64)[which]


def _hold_out(
    indices: list[int],
    labels: list[int | None],
    groups: NDArray[np.int64],
    share: float,
    rng: np.random.Generator,
) -> tuple[list[int], list[int], list[int | None], NDArray[np.int64]]:
    """Whole groups, drawn until each class has given `share` of its images; never a class's last group."""
    members: dict[int, list[int]] = defaultdict(list)
    for position, group in enumerate(groups.tolist()):
        members[group].append(position)
    by_class: dict[int | None, list[list[int]]] = defaultdict(list)
    for positions in members.values():
        by_class[labels[positions[0]]].append(positions)
    held: set[int] = set()
    for label in sorted(by_class, key=lambda value: -1 if value is None else value):
        candidates = by_class[label]
        wanted = max(1, round(share * sum(len(group) for group in candidates)))
        taken = 0
        for which in rng.permutation(len(candidates))[: len(candidates) - 1]:
            if taken >= wanted:
                break
            held.update(candidates[which])
            taken += len(candidates[which])
    kept = [position for position in range(len(indices)) if position not in held]
    return (
        [indices[i] for i in sorted(held)],
        [indices[i] for i in kept],
        [labels[i] for i in kept],
        groups[kept],
    )
