"""Filtered noise against a Fourier sum, and where its energy lies."""

from __future__ import annotations

import cmath
import itertools
import math

import numpy as np
import pytest
import torch

from unlearnable.keys import Key
from unlearnable.poisons import spectral
from unlearnable.types import Batch, Context

KEY = Key(bytes(range(32)))


def context(classes: int = 10, size: int = 32) -> Context:
    return Context(KEY, tuple(f"class {i}" for i in range(classes)), 8, size)


def batch(labels: list[int], size: int = 32) -> Batch:
    ids = tuple(f"train/{i}" for i in range(len(labels)))
    return Batch(ids, torch.zeros(len(labels), 3, size, size).byte(), torch.tensor(labels))


def slow_weight(x: float, y: float, pairs: list[list[float]], params: spectral.Params) -> float:
    """Of one plane wave, x and y cycles across and down, either signed: bells along the line to each pair and its mirror."""
    total = 0.0
    for a, b in pairs:
        for u, v in ((a, b), (a, -b)):
            near = min(
                (math.hypot(x - t * u, y - t * v) for t in np.linspace(2.0**-params.octaves, 1, 2001)), default=0.0
            )
            total += math.exp(-(near**2) / (2 * params.width**2))
    return total


@pytest.mark.parametrize("values", [{}, {"octaves": 1, "width": 0.7}, {"waves": 2}])
def test_bands_against_loops(values: dict[str, float]) -> None:
    params = spectral.Params(**values)  # type: ignore[arg-type]
    pairs = torch.tensor([[3.0, 5.0], [6.0, 0.0]][: params.waves], dtype=torch.float64)
    found = spectral.band(pairs, params, 12)
    for row, column in itertools.product(range(12), range(7)):
        down = row if row < 6 else row - 12
        assert found[row, column] == pytest.approx(slow_weight(column, down, pairs.tolist(), params), abs=1e-4)


def test_an_image_is_the_sign_of_its_noise_in_the_band() -> None:
    size, where, params = 9, context(3, 9), spectral.Params(1, 4)
    state = spectral.fit(None, params, where)
    made = spectral.delta(batch([2, 0, 1], size), state, params, where)
    for n, label in enumerate([2, 0, 1]):
        noise = KEY.rng("spectral", "image", f"train/{n}").standard_normal((size, size))
        pair = [state["textures"][f"class {label}"][:2].tolist()]
        waves = [(down, across) for down in range(-4, 5) for across in range(-4, 5)]
        # the spectrum of real noise is the same, conjugate, on both sides: weights of one half serve the other
        sides = {w: slow_weight(*((w[1], w[0]) if w[1] >= 0 else (-w[1], -w[0])), pair, params) for w in waves}
        height = {
            w: sum(
                noise[r, c] * cmath.exp(-2j * math.pi * (w[0] * r + w[1] * c) / size)
                for r in range(size)
                for c in range(size)
            )
            for w in waves
        }
        for row, column in ((0, 0), (2, 5), (8, 3), (4, 4)):
            parts = (
                height[w] * sides[w] * cmath.exp(2j * math.pi * (w[0] * row + w[1] * column) / size) for w in waves
            )
            value = sum(parts).real / size**2
            assert abs(value) > 1e-3, "or its sign is a matter of rounding"
            assert made[n, :, row, column].tolist() == pytest.approx([math.copysign(8 / 255, value)] * 3)


def test_energy_lies_in_the_band_and_nowhere_in_the_mean() -> None:
    where, params = context(), spectral.Params()
    state = spectral.fit(None, params, where)
    made = spectral.delta(batch([3] * 400), state, params, where)
    assert made.mean(0).abs().max() < 0.25 * 8 / 255, "averaging by label finds nothing"
    power = torch.fft.rfft2(made[:, 0]).abs().square().mean(0)
    fx, fy = state["textures"]["class 3"][:2].tolist()
    across, down = torch.arange(17)[None], (torch.fft.fftfreq(32) * 32)[:, None]
    near = torch.minimum((across - fx) ** 2 + (down - fy) ** 2, (across - fx) ** 2 + (down + fy) ** 2) <= 3**2
    assert power[near].sum() / power.sum() > 0.7, "the cut at the budget adds harmonics, no more"


def test_bands_of_classes_do_not_overlap_mirrored_or_not() -> None:
    where, params = context(), spectral.Params()
    state = spectral.fit(None, params, where)
    made = torch.stack([spectral.delta(batch([k] * 60), state, params, where)[:, 0] for k in range(10)])
    power = torch.fft.rfft2(made).abs().square().mean(1).flatten(1)
    mirrored = torch.fft.rfft2(made.flip(3)).abs().square().mean(1).flatten(1)
    shares, other = (p.sqrt() / p.sum(1, keepdim=True).sqrt() for p in (power, mirrored))
    overlap = shares @ other.T
    assert overlap.diag().min() > 0.95, "a mirrored image has the band it had"
    assert (overlap - 2 * overlap.diag().diag()).max() < 0.75


def test_the_spoke_of_a_class_stays_its_own_when_it_is_scaled() -> None:
    params = spectral.Params(8, 16, octaves=1)
    band = spectral.band(torch.tensor([[12.0, 6.0]], dtype=torch.float64), params, 64)
    on = [band[round(6 * t), round(12 * t)].item() for t in (0.5, 0.67, 0.83, 1.0)]
    assert min(on) > 0.75 and band[12, 6] < 0.05 and band[2, 3] < 0.05


def test_a_texture_turned_over_has_the_same_spectrum_and_another_look() -> None:
    where, params = context(4), spectral.Params(5, 5.4, duty=0.3)
    state = spectral.fit(None, params, where)
    codes = torch.stack(list(state["textures"].values()))
    assert {tuple(code) for code in codes[:, -3:].tolist()} == {(1, 1, 1), (-1, -1, -1)}
    up, down = ((codes[:, -1] == sign).nonzero()[0].item() for sign in (1, -1))
    state["textures"][f"class {down}"][:2] = state["textures"][f"class {up}"][:2]
    raised, lowered = (spectral.delta(batch([int(k)] * 50), state, params, where)[:, 0] for k in (up, down))
    assert (raised > 0).float().mean() == pytest.approx(0.3, abs=0.01) == (lowered < 0).float().mean()
    powers = [torch.fft.rfft2(made).abs().square().mean(0).flatten()[1:] for made in (raised, lowered)]
    assert torch.allclose(*powers, rtol=1e-3)
