from __future__ import annotations

import torch
from poison_kit import CLASSES, KEY, context, separable

from unlearnable.poisons import random_noise
from unlearnable.poisons.random_noise import Params


def test_every_grey_level_is_as_likely() -> None:
    where = context(size=32, levels=3)
    delta = random_noise.delta(separable(40, size=32), {}, Params(), where)
    levels = (delta * 255).round().long()
    torch.testing.assert_close(levels.float() / 255, delta)
    counts = torch.bincount((levels + 3).ravel(), minlength=7).double()
    expected = counts.sum() / 7
    assert len(counts) == 7 and ((counts - expected) ** 2 / expected).sum() < 30  # chi-square, 6 degrees of freedom


def test_images_of_a_class_share_only_class_noise() -> None:
    data = separable(6)
    delta = random_noise.delta(data, {}, Params(), context())
    assert len({tuple(d.ravel().tolist()) for d in delta}) == 6
    shared = random_noise.delta(data, {}, Params(level="class"), context())
    assert torch.equal(shared[0], shared[len(CLASSES)]) and not torch.equal(shared[0], shared[1])


def test_noise_follows_from_the_key_and_the_id() -> None:
    data = separable(5)
    delta = random_noise.delta(data, {}, Params(), context())
    for name, found in zip(data.ids, delta, strict=True):
        drawn = KEY.rng("random_noise", "image", name).integers(-8, 8, (3, 16, 16), "int8", endpoint=True)
        assert torch.equal(found, torch.from_numpy(drawn).float() / 255)
