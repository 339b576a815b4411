"""What is said of how close two pictures are holds against slow versions written out here."""

from __future__ import annotations

import math

import numpy as np
import pytest

from release import quality
from release.quality import BINS, Sample


def pictures(side: int = 16, channels: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(side)
    one = rng.integers(20, 230, (side, side + 3, channels), dtype=np.uint8)
    return one, (one.astype(int) + rng.integers(-8, 9, one.shape)).astype(np.uint8)


def slow_ssim(one: np.ndarray, other: np.ndarray) -> float:
    """Window by window, as the paper writes it."""
    side = range(11)
    weights = np.array([[math.exp(-((i - 5) ** 2 + (j - 5) ** 2) / (2 * 1.5**2)) for j in side] for i in side])
    weights /= weights.sum()
    found = []
    for top in range(one.shape[0] - 10):
        for left in range(one.shape[1] - 10):
            a, b = one[top : top + 11, left : left + 11], other[top : top + 11, left : left + 11]
            mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
            var_a, var_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
            both = (weights * (a - mean_a) * (b - mean_b)).sum()
            c1, c2 = 2.55**2, 7.65**2
            found.append(
                (2 * mean_a * mean_b + c1) * (2 * both + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
            )
    return float(np.mean(found))


def test_ssim_is_that_of_the_paper() -> None:
    one, other = map(quality.luma, pictures())
    assert quality.ssim(one, other) == pytest.approx(slow_ssim(one, other), abs=1e-9)
    assert quality.ssim(one, one) == pytest.approx(1.0)


def test_the_spectrum_is_that_of_the_sum_of_waves() -> None:
    change = np.random.default_rng(0).normal(size=(6, 8, 2))
    power, waves = np.zeros(BINS), np.zeros(BINS)
    for u in range(6):
        for v in range(8):
            fu, fv = (u / 6 + 0.5) % 1 - 0.5, (v / 8 + 0.5) % 1 - 0.5
            frequency = math.hypot(fu, fv)
            if frequency > 0.5:
                continue
            ring = min(int(frequency * 2 * BINS + 1e-12), BINS - 1)
            for c in range(2):
                wave = sum(
                    change[y, x, c] * np.exp(-2j * math.pi * (fu * y + fv * x)) for y in range(6) for x in range(8)
                )
                power[ring] += abs(wave) ** 2 / 48
                waves[ring] += 1
    found_power, found_waves = quality.rings(change)
    np.testing.assert_allclose(found_power, power, atol=1e-9)
    np.testing.assert_array_equal(found_waves, waves)


def test_noise_without_a_pattern_has_a_flat_spectrum_at_its_mean_power() -> None:
    rng = np.random.default_rng(1)
    sample = Sample()
    for _ in range(4):
        one = np.full((64, 64, 3), 128, np.uint8)
        sample.add(one, (128 + rng.integers(-8, 9, one.shape)).astype(np.uint8))
    seen = sample.spectrum()
    assert seen is not None and seen["mean_power"] == pytest.approx(24, rel=0.03)  # k(k + 1) / 3 of uniform -k..k
    assert np.array(seen["power"])[4:] == pytest.approx(seen["mean_power"], rel=0.15)


def test_one_wave_is_one_ring() -> None:
    x = np.arange(64)
    wave = np.round(8 * np.sin(2 * math.pi * x * 12 / 64))
    sample = Sample()
    one = np.full((64, 64, 1), 128, np.uint8)
    sample.add(one, (one + np.broadcast_to(wave[None, :, None], one.shape)).astype(np.uint8))
    seen = sample.spectrum()
    assert seen is not None
    assert seen["cycles_per_pixel"][int(np.argmax(seen["power"]))] == pytest.approx(12 / 64, abs=0.5 / BINS)


def test_an_unchanged_release_has_no_spectrum_and_is_equal() -> None:
    sample = Sample()
    one, _ = pictures()
    sample.add(one, one)
    assert sample.spectrum() is None
    assert sample.quality().ssim == pytest.approx(1.0) and sample.quality().images == 1


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_pictures_of_any_kind_are_measured_without_their_transparency(channels: int) -> None:
    one, other = pictures(24, channels)
    if channels in (2, 4):
        other = np.concatenate([one[:, :, :-1], other[:, :, -1:]], axis=2)  # only transparency differs
    sample = Sample()
    sample.add(one, other)
    assert (sample.quality().ssim == pytest.approx(1.0)) == (channels in (2, 4))


def test_small_pictures_are_left_out_and_said_so() -> None:
    sample = Sample()
    sample.add(*pictures(8))
    seen = sample.quality()
    assert seen.ssim is None and seen.ssim_lowest is None and seen.lpips is None and seen.lpips_missing
    assert sample.spectrum() is not None


def test_of_large_pictures_the_middle_is_measured_as_it_is() -> None:
    picture = np.zeros((700, 520, 3), np.uint8)
    picture[94:606, 4:516] = 1
    assert (quality.middle(picture) == 1).all() and quality.middle(picture).shape == (512, 512, 3)


def test_lpips_is_never_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    sample = Sample()
    sample.add(*pictures(40))
    seen = sample.quality()
    assert seen.lpips is None
    assert seen.lpips_missing == "torchmetrics is not installed" or "not on this machine" in seen.lpips_missing
    assert not list(tmp_path.rglob("*.pth"))
