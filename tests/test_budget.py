"""The budget holds on every pixel, whatever a poison returns, checked against plain Python."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from unlearnable import _resample, budget, imageio
from unlearnable.errors import UsageError


@given(
    st.lists(st.floats(-300, 300), min_size=12, max_size=12),
    st.lists(st.integers(0, 255), min_size=12, max_size=12),
    st.integers(1, 255),
)
def test_steps_are_the_nearest_legal_whole_levels(deltas: list[float], clean: list[int], levels: int) -> None:
    delta = (torch.tensor(deltas, dtype=torch.float64) / 255).float().view(3, 2, 2)
    pixels = np.array(clean, np.uint8).reshape(2, 2, 3)
    shipped = budget.protect(delta, pixels, levels)
    for row in range(2):
        for column in range(2):
            for channel in range(3):
                want = max(
                    -levels, min(levels, np.rint(np.float32(delta[channel, row, column].item()) * np.float32(255)))
                )
                was = int(pixels[row, column, channel])
                assert shipped[row, column, channel] == max(0, min(255, was + want))
    assert np.abs(shipped.astype(int) - pixels).max() <= levels


def test_negative_steps_survive_and_rounding_has_no_bias() -> None:
    delta = (torch.rand((3, 64, 64), generator=torch.Generator().manual_seed(0)) * 2 - 1) * 8 / 255
    steps = budget.protect(delta, np.full((64, 64, 3), 128, np.uint8), 8).astype(int) - 128
    assert steps.min() == -8 and steps.max() == 8
    assert abs(steps.mean() - delta.mean().item() * 255) < 0.02  # truncation would be off by half a level


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_alpha_is_never_touched_and_grey_stays_one_channel(channels: int) -> None:
    clean = np.random.default_rng(0).integers(0, 256, (9, 9, channels)).astype(np.uint8)
    shipped = budget.protect(torch.full((3, 9, 9), 1.0), clean, 8)
    colours = budget.colour_channels(clean)
    assert shipped.shape == clean.shape
    assert (shipped[:, :, colours:] == clean[:, :, colours:]).all()
    assert (shipped[:, :, :colours] == np.minimum(clean[:, :, :colours].astype(int) + 8, 255)).all()


@pytest.mark.parametrize("levels", [0, -1, 65, 300])
def test_a_senseless_budget_is_refused(levels: int) -> None:
    with pytest.raises(UsageError, match="grey levels"):
        budget.check_levels(levels)


def test_without_a_bound_black_becomes_white_and_white_black() -> None:
    clean = np.array([[[0, 255, 0], [255, 0, 255]]] * 2, np.uint8)
    delta = torch.from_numpy(np.where(clean == 0, 1.0, -1.0)).permute(2, 0, 1)
    assert (budget.protect(delta, clean, budget.NO_BOUND) == 255 - clean).all()


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


@pytest.mark.parametrize(("height", "width"), [(16, 16), (40, 24), (8, 100), (224, 224)])
def test_resampling_never_leaves_the_budget_and_uses_all_of_it(height: int, width: int) -> None:
    delta = torch.where(torch.rand((3, 4, 4), generator=torch.Generator().manual_seed(1)) < 0.5, -1.0, 1.0) * 8 / 255
    clean = np.full((height, width, 3), 128, np.uint8)
    delta = delta.repeat_interleave(4, 1).repeat_interleave(4, 2)
    moved = budget.protect(delta, clean, 8).astype(int) - clean
    assert moved.min() == -8 and moved.max() == 8


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_a_number_is_refused_at_any_size(value: float) -> None:
    delta = torch.zeros(3, 16, 16)
    delta[1, 3, 3] = value
    for side in (16, 40):
        with pytest.raises(ValueError, match="finite"):
            budget.strips(delta, np.zeros((side, side, 3), np.uint8), 8)


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
    height: int, width: int, channels: int, blocks: bool, seed: int
) -> None:
    clean = np.random.default_rng(seed).integers(0, 256, (height, width, channels)).astype(np.uint8)
    delta = (torch.rand((3, 32, 32), generator=torch.Generator().manual_seed(seed)) * 2 - 1) * 12 / 255
    if blocks:
        delta = delta[:, ::8, ::8].repeat_interleave(8, 1).repeat_interleave(8, 2)
    whole = budget.protect(delta, clean, 8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(budget, "_SAMPLES", 200)
        patch.setattr(budget, "IN_MEMORY", 0)
        patch.setattr(_resample, "_SMALL", 0)
        patch.setattr(_resample, "_recent", {})
        moved = budget.Moved()
        parts = list(budget.strips(delta, clean, 8, moved))
    assert len(parts) == math.ceil(height / max(1, 200 // (width * channels)))
    assert (np.concatenate(parts) == whole).all()
    steps = np.abs(whole.astype(int) - clean)[:, :, : budget.colour_channels(clean)]
    assert budget.realised(clean, whole)[0] == moved.figures()[0] == steps.max() <= 8
    assert (whole[:, :, budget.colour_channels(clean) :] == clean[:, :, budget.colour_channels(clean) :]).all()


def test_pages_that_are_made_side_by_side_do_not_mix() -> None:
    rng = np.random.default_rng(0)
    delta = (torch.rand((3, 32, 32), generator=torch.Generator().manual_seed(0)) * 2 - 1) * 8 / 255
    pages = [rng.integers(0, 256, (side, side, 3)).astype(np.uint8) for side in (32, 32, 40, 800)]
    alone = [budget.protect(delta, page, 8) for page in pages]
    beside = [budget.strips(delta * sign, page, 8) for page in pages for sign in (1, -1)]
    for page, made in zip(alone, beside[::2], strict=True):
        assert (np.concatenate(list(made)) == page).all()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_what_pillow_decoded_is_protected_as_any_other_array(channels: int) -> None:
    """Of Pillow's RGB every fourth byte is padding, which is neither moved nor counted."""
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[channels]
    drawn = np.random.default_rng(channels).integers(0, 256, (50, 70, channels)).astype(np.uint8)
    data = io.BytesIO()
    Image.fromarray(drawn.squeeze(), mode).save(data, "PNG")
    pixels = imageio.decode(data.getvalue(), "x.png").pixels
    delta = (torch.rand((3, 32, 32), generator=torch.Generator().manual_seed(1)) * 2 - 1) * 8 / 255
    shipped = budget.protect(delta, pixels, 8)
    assert (pixels == drawn).all() and not pixels.flags.writeable
    assert (shipped == budget.protect(delta, drawn, 8)).all()
    assert budget.realised(pixels, shipped) == budget.realised(drawn, shipped) == budget.realised(drawn, shipped.copy())


def test_pixels_that_are_asked_for_briefly_are_the_same() -> None:
    delta = torch.rand((3, 32, 32), generator=torch.Generator().manual_seed(7)) * 16 / 255 - 8 / 255
    for shape in ((40, 50, 3), (32, 32, 3), (300, 20, 4), (40, 50, 1), (9, 900, 2)):
        page = np.random.default_rng(shape[0]).integers(0, 256, shape).astype(np.uint8)
        whole = budget.protect(delta, page, 8)
        (brief,) = budget.strips(delta, page, 8, brief=True)
        assert (brief == whole).all() and (whole != page).any()
