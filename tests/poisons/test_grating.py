"""Gratings against a pixel loop, and the properties that they are chosen for."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unlearnable.errors import UsageError
from unlearnable.keys import Key
from unlearnable.poisons import _bands, grating
from unlearnable.types import Batch, Context

KEY = Key(bytes(range(32)))


def context(classes: int = 10, size: int = 32) -> Context:
    return Context(KEY, tuple(f"class {i}" for i in range(classes)), 8, size)


def batch(count: int, classes: int = 10, size: int = 32) -> Batch:
    ids = tuple(f"train/{i}" for i in range(count))
    return Batch(ids, torch.zeros(count, 3, size, size).byte(), torch.arange(count) % classes)


@pytest.mark.parametrize("colour", ["grey", "opponent"])
def test_a_texture_is_the_product_of_two_square_waves(colour: str) -> None:
    where = context(size=20)
    params = grating.Params(colour=colour)  # type: ignore[arg-type]
    state = grating.fit(None, params, where)
    made = grating.delta(batch(12, size=20), state, params, where)
    for n in range(12):
        fx, fy, *signs = state["textures"][f"class {n % 10}"].tolist()
        assert sorted(signs) == ([1, 1, 1] if colour == "grey" else [-1, 1, 1])
        px, py, sign = KEY.rng("grating", "image", f"train/{n}").random(3)
        for row in (0, 3, 19):
            for column in (0, 7, 18):
                x = 1.0 if fx == 0 or math.cos(2 * math.pi * (fx * (column + 0.5) / 20 + px)) >= 0 else -1.0
                y = 1.0 if fy == 0 or math.cos(2 * math.pi * (fy * (row + 0.5) / 20 + py)) >= 0 else -1.0
                want = x * y * (-8 / 255 if sign < 0.5 else 8 / 255)
                assert made[n, :, row, column].tolist() == pytest.approx([want * sign_of for sign_of in signs])


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 30), st.sampled_from([(4.0, 8.0), (8.0, 16.0), (3.0, 12.0)]))
def test_frequencies_are_in_the_band_and_apart(classes: int, band: tuple[float, float]) -> None:
    params = grating.Params(*band)
    found = torch.stack(list(grating.fit(None, params, context(classes))["textures"].values())).numpy()[:, :2]
    assert (((found == 0) | (found >= band[0])) & (found <= band[1])).all() and (found.sum(1) > 0).all()
    gaps = np.linalg.norm(found[:, None] - found[None], axis=2) + 99 * np.eye(classes)
    assert gaps.min() >= _bands._CLOSEST


def test_ten_classes_are_a_quarter_of_the_band_apart_and_straight() -> None:
    found = torch.stack(list(grating.fit(None, grating.Params(), context())["textures"].values())).numpy()[:, :2]
    assert (np.linalg.norm(found[:, None] - found[None], axis=2) + 99 * np.eye(10)).min() >= 1.5
    assert (found.min(1) == 0).all()


def test_photos_classes_differ_in_colour_or_by_an_octave() -> None:
    params = grating.Params(8, 16, "opponent")
    codes = torch.stack(list(grating.fit(None, params, context(9))["textures"].values())).numpy()
    for i in range(9):
        for j in range(i):
            assert (codes[i, 2:] != codes[j, 2:]).any() or np.linalg.norm(codes[i, :2] - codes[j, :2]) >= 8


def test_averaging_by_label_finds_nothing_but_the_spectrum_does() -> None:
    where, params = context(), grating.Params()
    state = grating.fit(None, params, where)
    many = Batch(tuple(f"train/{i}" for i in range(600)), torch.zeros(600, 3, 32, 32).byte(), torch.full((600,), 3))
    made = grating.delta(many, state, params, where)
    assert made.mean(0).abs().max() < 0.25 * 8 / 255
    power = torch.fft.rfft2(made[:, 0]).abs().mean(0)
    row, column = divmod(int(power.argmax()), power.shape[1])
    fx, fy = state["textures"]["class 3"][:2].tolist()
    assert (min(row, 32 - row), column) == (fy, fx)


def test_classes_can_be_added_and_there_is_an_end() -> None:
    params = grating.Params()
    first = grating.fit(None, params, context(4))
    grown = grating.extend(first, params, context(12))
    assert all(torch.equal(grown["textures"][name], value) for name, value in first["textures"].items())
    assert len(grown["textures"]) == 12
    with pytest.raises(UsageError, match="high=16"):
        grating.fit(None, params, context(500))


def test_several_waves_are_added_before_the_cut() -> None:
    where, params = context(size=20), grating.Params(waves=2, octaves=1, softness=0.5)
    state = grating.fit(None, params, where)
    made = grating.delta(batch(5, size=20), state, params, where)
    for n in range(5):
        code = state["textures"][f"class {n}"].tolist()
        assert len(code) == 7 and code[4:] == [1, 1, 1]
        pairs = [(code[0], code[1]), (code[2], code[3]), (code[0] / 2, code[1] / 2), (code[2] / 2, code[3] / 2)]
        drawn = KEY.rng("grating", "image", f"train/{n}").random(9)
        for row, column in ((0, 0), (3, 7), (19, 18)):
            total = 0.0
            for place, (fx, fy) in enumerate(pairs):
                across = math.cos(2 * math.pi * (fx * (column + 0.5) / 20 + drawn[2 * place])) if fx else 1.0
                down = math.cos(2 * math.pi * (fy * (row + 0.5) / 20 + drawn[2 * place + 1])) if fy else 1.0
                total += across * down
            want = min(1, max(-1, total / 0.5)) * (-8 / 255 if drawn[8] < 0.5 else 8 / 255)
            assert made[n, :, row, column].tolist() == pytest.approx([want] * 3, abs=1e-6)


def test_soft_waves_keep_less_of_the_budget() -> None:
    where = context()
    loud = []
    for softness in (0.0, 0.3, 1.0):
        params = grating.Params(softness=softness)
        made = grating.delta(batch(40), grating.fit(None, params, where), params, where)
        assert made.abs().max() <= 8 / 255 + 1e-7
        loud.append(made.square().mean().sqrt().item() * 255 / 8)
    assert loud[0] == pytest.approx(1) and loud[0] > loud[1] > loud[2] > 0.4, loud


def test_jitter_moves_every_image_within_it_and_leaves_the_phases() -> None:
    where, params = context(size=20), grating.Params(jitter=1.5)
    state = grating.fit(None, params, where)
    made = grating.delta(batch(6, size=20), state, params, where)
    for n in range(6):
        fx, fy = state["textures"][f"class {n}"][:2].tolist()
        right, down = KEY.rng("grating", "jitter", f"train/{n}").random(2)
        fx, fy = (f and f + 1.5 * (2 * drawn - 1) for f, drawn in ((fx, right), (fy, down)))
        px, py, sign = KEY.rng("grating", "image", f"train/{n}").random(3)
        for row, column in ((0, 0), (3, 7), (19, 18)):
            waves = ((fx, column, px), (fy, row, py))
            x, y = (math.cos(2 * math.pi * (f * (at + 0.5) / 20 + p)) if f else 1.0 for f, at, p in waves)
            want = math.copysign(8 / 255, x * y) * (-1 if sign < 0.5 else 1)
            assert made[n, :, row, column].tolist() == pytest.approx([want] * 3)


def test_jitter_blurs_the_line_in_a_classs_spectrum() -> None:
    where, many = context(), batch(600)

    def loudest(jitter: float) -> float:
        """The most power that a class has at one frequency, in the mean of all."""
        params = grating.Params(jitter=jitter)
        made = grating.delta(many, grating.fit(None, params, where), params, where)[:, 0]
        power = torch.fft.rfft2(made).abs().square()
        of = torch.stack([power[many.labels == label].mean(0) for label in range(10)])
        return (of.amax(0) / power.mean()).max().item()

    assert loudest(1.0) < loudest(0.0) / 2


def test_blue_has_a_wave_of_its_own_in_a_share_of_the_images() -> None:
    where, many = context(), batch(400)
    params = grating.Params(blue=0.5)
    state = grating.fit(None, params, where)
    made, plain = (
        grating.delta(many, *fitted, where)
        for fitted in ((state, params), (grating.fit(None, grating.Params(), where), grating.Params()))
    )
    assert torch.equal(made[:, :2], plain[:, :2]) and made.abs().max() <= 8 / 255 + 1e-7
    own = (made[:, 2] != plain[:, 2]).flatten(1).any(1)
    assert 150 < own.sum() < 250 and torch.equal(made[~own], plain[~own])
    power = torch.fft.rfft2(made[:, 2]).abs()
    for label in range(10):
        mean = power[own & (many.labels == label)].mean(0)
        row, column = divmod(int(mean.argmax()), mean.shape[1])
        fx, fy = state["blue"][f"class {label}"][:2].tolist()
        assert (min(row, 32 - row), column) == pytest.approx((fy, fx), abs=0.5)
        assert state["textures"][f"class {label}"][:2].tolist() != [fx, fy]


def test_blue_codes_are_apart_and_grow_with_the_classes() -> None:
    params = grating.Params(blue=1.0)
    first, all_at_once = (grating.fit(None, params, context(classes)) for classes in (4, 12))
    grown = grating.extend(first, params, context(12))
    assert all(torch.equal(grown["blue"][name], value) for name, value in first["blue"].items())
    found = torch.stack(list(all_at_once["blue"].values())).numpy()[:, :2]
    assert (np.linalg.norm(found[:, None] - found[None], axis=2) + 99 * np.eye(12)).min() >= _bands._CLOSEST
    assert "blue" not in grating.extend(grating.fit(None, grating.Params(), context(4)), params, context(12))
    assert "blue" not in grating.fit(None, grating.Params(blue=1.0, colour="any"), context(4))


def test_the_share_of_blue_is_a_share() -> None:
    with pytest.raises(ValueError, match="blue is 0 to 1"):
        grating.Params(blue=1.5)


def test_jitter_keeps_frequencies_above_zero() -> None:
    with pytest.raises(ValueError, match="below low"):
        grating.Params(jitter=4.0)
