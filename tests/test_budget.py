"""The budget holds on every pixel, whatever a poison returns, checked against plain Python."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unlearnable import budget
from unlearnable.errors import UsageError


@given(
    st.lists(st.floats(-300, 300), min_size=12, max_size=12),
    st.lists(st.integers(0, 255), min_size=12, max_size=12),
    st.integers(1, 255),
)
def test_steps_are_the_nearest_legal_whole_levels(deltas: list[float], clean: list[int], levels: int) -> None:
    delta = torch.tensor(deltas, dtype=torch.float64).view(3, 2, 2)
    pixels = np.array(clean, np.uint8).reshape(2, 2, 3)
    steps = budget.to_levels(delta / 255, pixels, levels)
    shipped = budget.add(pixels, steps)
    for row in range(2):
        for column in range(2):
            for channel in range(3):
                exact = (delta / 255)[channel, row, column].float().item() * 255.0
                want = max(-levels, min(levels, np.rint(np.float32(exact))))
                was = int(pixels[row, column, channel])
                assert shipped[row, column, channel] == max(0, min(255, was + want))
    assert np.abs(shipped.astype(int) - pixels).max() <= levels


def test_negative_steps_survive_and_rounding_has_no_bias() -> None:
    delta = (torch.rand((3, 64, 64), generator=torch.Generator().manual_seed(0)) * 2 - 1) * 8 / 255
    steps = budget.to_levels(delta, np.full((64, 64, 3), 128, np.uint8), 8)
    assert steps.min() == -8 and steps.max() == 8
    assert abs(steps.mean() - delta.mean().item() * 255) < 0.02  # truncation would be off by half a level


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_alpha_is_never_touched_and_grey_stays_one_channel(channels: int) -> None:
    clean = np.random.default_rng(0).integers(0, 256, (9, 7, channels)).astype(np.uint8)
    steps = budget.to_levels(torch.full((3, 9, 7), 1.0), clean, 8)
    shipped = budget.add(clean, steps)
    colours = budget.colour_channels(clean)
    assert shipped.shape == clean.shape and steps.shape[2] == colours
    assert (shipped[:, :, colours:] == clean[:, :, colours:]).all()
    assert (shipped[:, :, :colours] == np.minimum(clean[:, :, :colours].astype(int) + 8, 255)).all()


def test_what_is_not_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        budget.to_levels(torch.full((3, 2, 2), math.nan), np.zeros((2, 2, 3), np.uint8), 8)


@pytest.mark.parametrize("levels", [0, -1, 65, 300])
def test_a_senseless_budget_is_refused(levels: int) -> None:
    with pytest.raises(UsageError, match="grey levels"):
        budget.check_levels(levels)


def test_without_a_bound_black_becomes_white_and_white_black() -> None:
    clean = np.array([[[0, 255, 0], [255, 0, 255]]], np.uint8)
    delta = torch.from_numpy(np.where(clean == 0, 1.0, -1.0)).permute(2, 0, 1)
    steps = budget.to_levels(delta, clean, budget.NO_BOUND)
    assert steps.min() == -255 and steps.max() == 255
    assert (budget.add(clean, steps) == 255 - clean).all()


def test_the_budget_of_a_run_is_what_was_asked_or_what_is_usual() -> None:
    assert budget.resolve(None, unbounded=False) == 8 and budget.resolve(None, unbounded=True) == 255
    assert budget.resolve(64, unbounded=False) == 64 and budget.resolve(200, unbounded=True) == 200
    for eps, unbounded in ((65, False), (256, True), (0, True)):
        with pytest.raises(UsageError, match="grey levels"):
            budget.resolve(eps, unbounded)


@pytest.mark.parametrize("levels", [1, 5, 8, 40, 64])
def test_noise_like_another_change_is_as_large_as_it(levels: int) -> None:
    noise = np.random.default_rng(levels).integers(-levels, levels, 200_000, endpoint=True)
    assert budget.noise_like(float(np.sqrt(np.mean(noise**2.0)))) == levels


def test_noise_is_never_nothing_and_never_more_than_a_quarter_of_the_range() -> None:
    assert budget.noise_like(0) == 1 and budget.noise_like(255) == 64


@pytest.mark.parametrize(("height", "width"), [(16, 16), (40, 24), (7, 100), (224, 224)])
def test_resampling_never_leaves_the_budget(height: int, width: int) -> None:
    delta = torch.where(torch.rand((3, 16, 16), generator=torch.Generator().manual_seed(1)) < 0.5, -1.0, 1.0) * 8 / 255
    out = budget.resample(delta, height, width)
    assert out.shape == (3, height, width) and out.abs().max() <= 8 / 255 + 1e-6


def test_realised_change_is_measured_on_colour_alone() -> None:
    clean = np.zeros((10, 100, 4), np.uint8)
    shipped = clean.copy()
    shipped[0, 0, 0], shipped[0, 0, 3] = 5, 200
    largest, percentile, psnr = budget.realised(clean, shipped)
    assert (largest, percentile) == (5, 0)
    assert psnr == pytest.approx(10 * math.log10(255**2 / (25 / 3000)))
    assert budget.realised(clean, clean)[2] == math.inf


@settings(deadline=None)
@given(st.integers(8, 300), st.integers(8, 90), st.sampled_from([1, 2, 3, 4]), st.booleans(), st.integers(0, 99))
def test_protecting_in_parts_gives_the_same_pixels(
    height: int, width: int, channels: int, large: bool, seed: int
) -> None:
    clean = np.random.default_rng(seed).integers(0, 256, (height, width, channels)).astype(np.uint8)
    delta = (torch.rand((3, 32, 32), generator=torch.Generator().manual_seed(seed)) * 2 - 1) * 12 / 255
    whole = budget.add(clean, budget.to_levels(budget.resample(delta, height, width), clean, 8))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(budget, "_SAMPLES", 200 if large else budget._SAMPLES)
        assert (budget.protect(delta, clean, 8) == whole).all()
    steps = np.abs(whole.astype(int) - clean)[:, :, : budget.colour_channels(clean)]
    assert budget.realised(clean, whole)[0] == steps.max()
