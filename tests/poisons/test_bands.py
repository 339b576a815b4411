"""Codes of classes: inside the band, apart after what trainers do, as many as are asked for."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unlearnable.errors import UsageError
from unlearnable.keys import Key
from unlearnable.poisons import _bands, grating
from unlearnable.types import Context

KEY = Key(bytes(range(32)))


def codes(classes: int, params: _bands.Params, key: Key = KEY) -> np.ndarray:  # type: ignore[type-arg]
    names = tuple(f"class {i:03}" for i in range(classes))
    state = _bands.extend({}, params, Context(key, names, 8, 32), "grating")
    return torch.stack([state[name] for name in names]).numpy()


def slow_distance(a: list[float], b: list[float], params: _bands.Params) -> float:
    """Pair by pair, order by order, crop by crop."""
    waves = [[code[2 * i : 2 * i + 2] for i in range(params.waves)] for code in (a, b)]
    zooms = [(1.0, 1.0)]
    if params.crops:
        zooms = [
            (s * math.sqrt(q), s / math.sqrt(q)) for s in (1, 0.85, 0.72, 0.6) for q in (9 / 16, 0.75, 1, 4 / 3, 16 / 9)
        ]
    best = math.inf
    for one, other in (waves, waves[::-1]):
        for zoom, order in itertools.product(zooms, itertools.permutations(other)):
            gaps = [(x * zoom[0] - u) ** 2 + (y * zoom[1] - v) ** 2 for (x, y), (u, v) in zip(one, order, strict=True)]
            best = min(best, sum(gaps))
    signs = a[-3:], b[-3:]
    same = signs[0] == signs[1] or signs[0] == [-s for s in signs[1]]
    return math.sqrt(best + (0 if same else (params.high - params.low) ** 2))


@pytest.mark.parametrize("crops", [False, True])
@pytest.mark.parametrize("waves", [1, 2])
def test_distances_against_loops(waves: int, crops: bool) -> None:
    params = _bands.Params(colour="any", waves=waves, crops=crops)
    found = codes(7, params)
    fast = _bands.apart(found, found, params)
    for i, j in itertools.product(range(7), repeat=2):
        assert fast[i, j] == pytest.approx(slow_distance(found[i].tolist(), found[j].tolist(), params), abs=1e-5)


@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from(["grey", "opponent", "any"]), st.integers(1, 3), st.booleans(), st.binary(min_size=32, max_size=32)
)
def test_codes_are_inside_the_band_and_apart(colour: str, waves: int, crops: bool, secret: bytes) -> None:
    params = _bands.Params(4, 12, colour, waves, crops=crops)  # type: ignore[arg-type]
    found = codes(8, params, Key(secret))
    pairs = found[:, :-3].reshape(8, waves, 2)
    assert (((pairs == 0) | (pairs >= 4)) & (pairs <= 12)).all() and (pairs.sum(2) > 0).all()
    assert (_bands.apart(found, found, params) + 99 * np.eye(8)).min() >= _bands._CLOSEST


def test_four_classes_of_photos_look_like_no_other_after_any_crops() -> None:
    """By brute force over crops of both: frequencies stay apart, which they do not unless it is asked for."""
    sides = [
        (s * math.sqrt(q), s / math.sqrt(q)) for s in (0.6, 0.7, 0.8, 0.9, 1) for q in (0.75, 0.87, 1, 1.15, 4 / 3)
    ]
    zooms = np.array([zoom for zoom in sides if max(zoom) <= 1])

    def nearest(crops: bool) -> float:
        found = codes(4, _bands.Params(8, 16, crops=crops))[:, :2]
        cropped = [frequencies * zooms for frequencies in found]
        pairs = itertools.combinations(cropped, 2)
        return min(np.linalg.norm(a[:, None] - b[None], axis=2).min() for a, b in pairs)

    assert nearest(False) < 0.5 < 0.8 < nearest(True)


@pytest.mark.parametrize(
    ("classes", "params"),
    [(100, _bands.Params(4, 16)), (200, _bands.Params(waves=2)), (30, _bands.Params(4, 16, "any", crops=True))],
)
def test_many_classes(classes: int, params: _bands.Params) -> None:
    found = codes(classes, params)
    assert len(np.unique(found, axis=0)) == classes
    assert (_bands.apart(found, found, params) + 99 * np.eye(classes)).min() >= _bands._CLOSEST


def test_on_axes_until_they_are_full() -> None:
    params = _bands.Params(3, 9, directions="axes")
    first = codes(10, params)
    assert (first[:, 0] * first[:, 1] == 0).all()
    assert (_bands.apart(first, first, params) + 99 * np.eye(10)).min() >= 1.5
    more = codes(40, params)
    assert 10 <= (more[:, 0] * more[:, 1] == 0).sum() < 40, "the others are products"
    assert (_bands.apart(more, more, params) + 99 * np.eye(40)).min() >= _bands._CLOSEST


def test_photos_of_hundreds_of_classes_have_codes_and_the_first_are_straight_and_fine() -> None:
    params = grating.Params(**grating.PRESETS["grating_photo"])  # type: ignore[arg-type]
    found = codes(200, params)
    assert (found[:8, :2].min(1) == 0).all() and (found[:8, :2].max(1) == params.high).all()
    assert (_bands.apart(found[:16], found[:16], params) + 99 * np.eye(16)).min() >= 2, "however a trainer crops"
    uncropped = _bands.apart(found, found, replace(params, crops=False)) + 99 * np.eye(200)
    assert uncropped.min() >= _bands._CLOSEST, "the last at least where none does"


def test_a_later_class_leaves_the_others_alone_and_another_key_draws_others() -> None:
    params = _bands.Params()
    first = _bands.extend({}, params, Context(KEY, ("cat", "dog"), 8, 32), "grating")
    more = _bands.extend(first, params, Context(KEY, ("ant", "cat", "dog"), 8, 32), "grating")
    assert all(torch.equal(more[name], first[name]) for name in first)
    assert set(more) == {"ant", "cat", "dog"}
    assert not np.array_equal(codes(5, params), codes(5, params, Key(bytes(32))))


def test_a_full_band_is_refused_with_the_ways_out() -> None:
    with pytest.raises(UsageError, match="cannot have textures of their own between 4 and 8 cycles") as why:
        codes(300, _bands.Params())
    assert "high=16" in why.value.hint and "waves=2" in why.value.hint


@pytest.mark.parametrize(
    "wrong",
    [
        *(
            {"low": 8.0},
            {"high": 65.0},
            {"colour": "red"},
            {"waves": 0},
            {"octaves": 4},
            {"duty": 0.6},
            {"softness": 1.1},
        ),
        {"directions": "up"},
    ],
)
def test_ranges(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        _bands.Params(**wrong)  # type: ignore[arg-type]
