"""Numbers drawn on the device: those of the published generator, an image's own, and uniform."""

from __future__ import annotations

import torch
from torch import Tensor

from unlearnable.poisons._draws import Draws, mixed

_WORD = 1 << 64


def plain(seed: int, count: int) -> list[int]:
    """SplitMix64 in Python's own integers, one number after the other."""
    out = []
    for _ in range(count):
        seed = (seed + 0x9E3779B97F4A7C15) % _WORD
        z = (seed ^ (seed >> 30)) * 0xBF58476D1CE4E5B9 % _WORD
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % _WORD
        out.append(z ^ (z >> 31))
    return out


def seeds(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)


def test_the_published_numbers_come_out() -> None:
    """The first two of seed 1234567, as implementations everywhere are checked."""
    assert plain(1234567, 2) == [6457827717110365317, 3203168211198807973]
    golden = 0x9E3779B97F4A7C15 - _WORD
    words = mixed(1234567 + torch.arange(1, 3) * golden)
    assert [word % _WORD for word in words.tolist()] == plain(1234567, 2)


def test_every_seed_goes_on_where_it_was() -> None:
    values = (0, 1, 2**63 - 1, 987654321)
    draws = Draws(seeds(*values))
    found = torch.cat([draws(3), draws(2, 5).flatten(1)], 1)
    slow = [[(word >> 40) / 2**24 for word in plain(value, 13)] for value in values]
    assert found.dtype == torch.float32 and found.tolist() == slow


def test_an_images_numbers_do_not_depend_on_its_batch() -> None:
    whole, part = Draws(seeds(5, 6, 7))(2, 4, 4), Draws(seeds(7, 5))(2, 4, 4)
    assert torch.equal(whole[[2, 0]], part)


def test_they_are_uniform_and_apart() -> None:
    drawn = Draws(torch.arange(100))(1000).double()
    assert drawn.min() >= 0 and drawn.max() < 1
    counts = torch.histc(drawn, 50, 0, 1)
    assert ((counts - 2000).abs() < 5 * 2000**0.5).all(), "five standard deviations"
    correlation = torch.corrcoef(drawn)  # of seeds that follow on each other
    assert (correlation - torch.eye(100).double()).abs().max() < 5 / 1000**0.5
