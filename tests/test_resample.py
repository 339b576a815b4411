"""Whole numbers take the place of torch's bilinear floats: the same places and weights, the same on every machine."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from unlearnable import _resample, budget

SIZES = [(176, 264), (300, 210), (64, 50), (64, 65), (128, 128), (8, 100), (400, 13)]


def steps(delta: Tensor, height: int, width: int, levels: int, at_once: int = 64) -> NDArray[np.int64]:
    """(height, width, 3) whole levels, asked for in parts."""
    made = _resample.resampled(delta, levels, height, width, 3)
    parts = []
    for top in range(0, height, at_once):
        most, least, moved = made(top, min(top + at_once, height))
        found = (255 - most).astype(np.int64) - least
        assert (moved == found.astype(np.uint8)).all() and (np.minimum(255 - most, least) == 0).all()
        parts.append(np.broadcast_to(found, (min(top + at_once, height) - top, width * 3)))
    return np.concatenate(parts).reshape(height, width, 3)


def floats(delta: Tensor, height: int, width: int) -> NDArray[np.float64]:
    """The same in torch's floats, not yet rounded."""
    whole = interpolate(delta[None].double(), (height, width), mode="bilinear", align_corners=False, antialias=True)[0]
    found: NDArray[np.float64] = (whole * 255).permute(1, 2, 0).numpy()
    return found


def noise(levels: int, seed: int = 0) -> Tensor:
    return (torch.rand((3, 64, 64), generator=torch.Generator().manual_seed(seed)) * 2 - 1) * levels / 255


@pytest.mark.parametrize("levels", [1, 8, 16, 64, 255])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_it_is_torchs_bilinear_within_a_level_and_seldom_another_one(levels: int, height: int, width: int) -> None:
    exact = floats(noise(levels), height, width)
    found = steps(noise(levels), height, width, levels)
    assert np.abs(found - exact).max() < (0.85 if levels <= 8 else 0.55)
    apart = found != np.rint(exact)
    assert apart.mean() < (0.06 if levels <= 8 else 0.006)
    assert abs((found - exact).mean()) < 0.02, "rounding has no bias"


@pytest.mark.parametrize("levels", [1, 5, 8, 64, 255])
def test_a_constant_stays_itself_and_the_budget_is_never_left(levels: int) -> None:
    for value in (-levels, levels, 0, 1):
        assert (steps(torch.full((3, 64, 64), value / 255), 100, 40, levels) == value).all()
    far = torch.full((3, 64, 64), 3.0)
    assert (steps(far, 100, 40, levels) == levels).all() and (steps(-far, 100, 40, levels) == -levels).all()


def test_ties_go_up_as_often_as_down() -> None:
    signs = torch.where(torch.rand((3, 64, 64), generator=torch.Generator().manual_seed(0)) < 0.5, -1.0, 1.0)
    found = steps(signs * 4 / 255, 128, 128, 4)
    exact = floats(signs * 4 / 255, 128, 128)
    ties = np.abs(np.abs(exact % 1) - 0.5) < 1e-6
    assert ties.mean() > 0.1 and abs((found - exact)[ties].mean()) < 0.02


@pytest.mark.parametrize("levels", [8, 64])
@pytest.mark.parametrize("blocks", [1, 16, 64])
def test_parts_are_the_whole_to_the_last_bit(levels: int, blocks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that are the same are made once: among 1 block all are, among 64 none."""
    each = noise(levels)[:, :blocks, :blocks]
    delta = each.repeat_interleave(64 // blocks, 1).repeat_interleave(64 // blocks, 2)
    whole = steps(delta, 333, 50, levels, at_once=333)
    monkeypatch.setattr(_resample, "_SMALL", 0)
    monkeypatch.setattr(_resample, "_recent", {})
    for at_once in (1, 7, 100):
        assert (steps(delta, 333, 50, levels, at_once) == whole).all()


def test_what_is_kept_of_small_pictures_is_never_taken_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_resample, "_KEPT", 400_000)
    first, second = noise(8), noise(8)
    second[:, 1, 1] += 1  # where what tells them apart at a glance does not look
    for delta in (first, second, first, noise(8, 1), second):
        for size in ((90, 70), (70, 90)):
            exact = floats(delta.clamp(-8 / 255, 8 / 255), *size)
            assert np.abs(steps(delta, *size, 8) - exact).max() < 1
    assert sum(kept.nbytes() for kept in _resample._recent.values()) <= 400_000


def test_another_thread_may_throw_out_all_that_is_kept_at_any_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    class Shared(dict[tuple[object, ...], _resample._Pattern]):
        def values(self) -> Any:
            found = list(super().values())
            self.clear()  # by another thread, right after this one has looked
            return found

    monkeypatch.setattr(_resample, "_KEPT", 0)
    monkeypatch.setattr(_resample, "_recent", Shared())
    assert (steps(noise(8), 90, 70, 8) == steps(noise(8), 90, 70, 8, at_once=7)).all()


def test_a_perturbation_that_changes_in_place_is_seen() -> None:
    delta = noise(8)
    before = steps(delta, 90, 70, 8)
    delta.neg_()
    assert (steps(delta, 90, 70, 8) != before).any()


def test_the_pixels_are_those_of_every_other_machine() -> None:
    """Golden: whole numbers all the way, so no processor may change them."""
    delta = torch.from_numpy(np.random.default_rng(5).integers(-64, 65, (3, 64, 64)).astype(np.float32)) / 8 / 255
    found = hashlib.sha256()
    for (height, width), levels in zip(SIZES, (8, 8, 8, 16, 64, 255, 1), strict=True):
        clean = np.random.default_rng(height).integers(0, 256, (height, width, 3)).astype(np.uint8)
        found.update(budget.protect(delta, clean, levels).tobytes())
    assert found.hexdigest() == "64bf27df9fec0299f6ead271acd47a80f5b2b51e5e7acee5db92ef5eb011b29b"
