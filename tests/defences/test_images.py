"""Filters of the stored images are what their names say, pixel by pixel, and restore what they are said to restore."""

from __future__ import annotations

import io
import math
import statistics

import numpy as np
import pytest
import torch
from defence_kit import job, noise, pictures, tinted
from PIL import Image

from unlearnable.defences import bit_depth, blur, grayscale, jpeg, median, resize
from unlearnable.defences._job import changed
from unlearnable.train import Recipe


def test_median_is_the_middle_of_nine_with_the_border_continued() -> None:
    x = noise(2, 7)
    out = median.median(x)
    for i in range(2):
        for c in range(3):
            for row in range(7):
                for column in range(7):
                    around = [
                        int(x[i, c, min(max(row + a, 0), 6), min(max(column + b, 0), 6)])
                        for a in (-1, 0, 1)
                        for b in (-1, 0, 1)
                    ]
                    assert out[i, c, row, column] == statistics.median(around)


def test_median_takes_single_pixels_away() -> None:
    x = torch.full((1, 3, 16, 16), 90, dtype=torch.uint8)
    dotted = x.clone()
    dotted[:, :, 3::5, 2::5] = 255
    assert torch.equal(changed(median.median, dotted), x)


def test_luma_is_copied_to_all_channels() -> None:
    x = noise(3)
    out = changed(grayscale.luma, x)
    red, green, blue = x[1, :, 3, 4].tolist()
    assert out[1, :, 3, 4].tolist() == [round(0.299 * red + 0.587 * green + 0.114 * blue)] * 3
    assert out.dtype == torch.uint8 and out.shape == x.shape


def test_bits_kept_are_the_top_ones() -> None:
    x = torch.arange(256).byte().view(1, 1, 16, 16).expand(1, 3, 16, 16)
    for bits in (1, 2, 5):
        step = 2 ** (8 - bits)
        assert torch.equal(bit_depth.posterised(x, bits).long(), x.long() // step * step)


@pytest.mark.parametrize("quality", [10, 75])
def test_jpeg_is_pillows_with_halved_chroma(quality: int) -> None:
    x = noise(3)
    out = jpeg.compressed(x, quality)
    for i in range(3):
        file = io.BytesIO()
        Image.fromarray(x[i].permute(1, 2, 0).numpy()).save(file, "JPEG", quality=quality, subsampling="4:2:0")
        assert np.array_equal(out[i].permute(1, 2, 0).numpy(), np.asarray(Image.open(file)))


@pytest.mark.parametrize(("sigma", "spread"), [(0.5, 0.46), (1.0, 0.96), (3.0, 1.36)])
def test_a_blur_spreads_by_what_its_words_say(sigma: float, spread: float) -> None:
    """Of a wide bell curve the 5x5 kernel holds the middle alone, and a verdict says so."""
    dot = torch.zeros(1, 3, 9, 9, dtype=torch.uint8)
    dot[..., 4, 4] = 255
    weights = blur.blurred(dot, sigma)[0, 0].float()
    squares = (torch.arange(9.0) - 4) ** 2
    assert ((weights.sum(0) * squares).sum() / weights.sum()).sqrt() == pytest.approx(spread, abs=0.03)
    assert blur.WORDS.format(sigma=sigma) == f"Gaussian blur of sigma {sigma:g} within 5x5 pixels"


def test_blur_weighs_by_a_bell_curve() -> None:
    dot = torch.zeros(1, 3, 9, 9, dtype=torch.uint8)
    dot[:, :, 4, 4] = 255
    for sigma in (0.5, 1.0):
        bell = [math.exp(-(d**2) / (2 * sigma**2)) for d in range(-2, 3)]
        out = blur.blurred(dot, sigma)[0, 0, 2:7, 2:7]
        for row in range(5):
            for column in range(5):
                assert abs(out[row, column].item() - 255 * bell[row] * bell[column] / sum(bell) ** 2) <= 0.5 + 1e-3


def test_resizing_takes_fine_patterns_away_and_leaves_coarse_ones() -> None:
    side = torch.arange(32)
    board = ((side[:, None] + side) % 2 * 80 + 80).byte().expand(1, 3, 32, 32)
    halves = torch.where(side < 16, 60, 200).byte().expand(1, 3, 32, 32)
    flat = changed(lambda part: resize.down_up(part, 0.5), board).float()
    assert flat.std() < 3 and abs(flat.mean() - 120) < 1
    kept = changed(lambda part: resize.down_up(part, 0.5), halves).float()
    assert (kept - halves.float())[..., [0, 5, 10, 20, 31]].abs().max() < 2


def test_many_images_are_changed_in_parts_to_the_same_end(monkeypatch: pytest.MonkeyPatch) -> None:
    x = noise(37)
    whole = changed(median.median, x)
    monkeypatch.setattr("unlearnable.defences._job._AT_ONCE", 10)
    assert torch.equal(changed(median.median, x), whole)


def test_grayscale_restores_what_a_shortcut_in_colour_took() -> None:
    clean, labels = pictures(40)
    protected = tinted(clean, labels)
    made = job(protected, clean, labels, recipe=Recipe(epochs=6, batch=16))
    fooled = made.run()
    restored = grayscale.victim(made, grayscale.Params())
    assert fooled.peak < 0.7 and restored.peak > 0.85, (fooled.accuracy, restored.accuracy)
