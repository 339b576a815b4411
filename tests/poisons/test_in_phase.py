"""Waves in the picture's own phase against a pixel loop, and what the phase is for."""

from __future__ import annotations

import cmath
import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from unlearnable.keys import Key
from unlearnable.poisons import in_phase
from unlearnable.types import Batch, Context

KEY = Key(bytes(range(32)))
EPS = 8 / 255


def context(classes: int = 10, size: int = 32) -> Context:
    return Context(KEY, tuple(f"class {i}" for i in range(classes)), 8, size)


def pictures(count: int, size: int = 32, seed: int = 0) -> Tensor:
    """Noise whose power falls with the frequency, as that of photos does."""
    rng = np.random.default_rng(seed)
    across, down = np.fft.rfftfreq(size, 1 / size)[None], np.fft.fftfreq(size, 1 / size)[:, None]
    spectra = np.fft.rfft2(rng.standard_normal((count, 3, size, size))) / np.maximum(1, np.hypot(across, down))
    return torch.from_numpy(np.fft.irfft2(spectra, s=(size, size)) * 90 + 128).clamp(40, 215).byte()


def batch(images: Tensor, classes: int = 10) -> Batch:
    return Batch(tuple(f"train/{i}" for i in range(len(images))), images, torch.arange(len(images)) % classes)


def crafted(images: Tensor, params: in_phase.Params, where: Context) -> tuple[dict[str, Tensor], Tensor]:
    state = in_phase.fit(None, params, where)
    return state["textures"], in_phase.delta(batch(images, len(where.classes)), state, params, where)


def component(picture: Tensor, x: float, y: float) -> complex:
    """How much of exp(2 pi i (x across + y down)) a picture (S, S) holds, pixel by pixel."""
    size, mean = len(picture), float(picture.double().mean())
    return sum(
        (float(picture[row, column]) - mean) * cmath.exp(-2j * math.pi * (x * (column + 0.5) + y * (row + 0.5)) / size)
        for row, column in itertools.product(range(size), repeat=2)
    ) / (size * size)


@pytest.mark.parametrize("colour", ["grey", "opponent"])
def test_a_texture_is_the_cut_sum_of_two_mirrored_waves_in_the_pictures_phases(colour: str) -> None:
    size, images = 20, pictures(6, 20)
    params = in_phase.Params(low=2.0, high=6.0, colour=colour)  # type: ignore[arg-type]
    textures, made = crafted(images, params, context(6, size))
    assert any(code[0] and code[1] for code in textures.values()) and any(0 in code[:2] for code in textures.values())
    for n in range(6):
        x, y, *signs = textures[f"class {n}"].tolist()
        luma = sum(
            sign * weight * images[n, c].double()
            for c, (sign, weight) in enumerate(zip(signs, (0.299, 0.587, 0.114), strict=True))
        )
        assert isinstance(luma, Tensor)
        held = [component(luma, x, y), component(luma, x, -y)]
        for row, column in itertools.product((0, 5, 11, 19), (0, 7, 18)):
            turns = [2 * math.pi * (x * (column + 0.5) + way * (row + 0.5)) / size for way in (y, -y)]
            wave = sum(math.cos(turn + cmath.phase(part)) for turn, part in zip(turns, held, strict=True))
            if abs(wave) > 1e-6:
                want = [math.copysign(EPS, wave) * sign for sign in signs]
                assert made[n, :, row, column].tolist() == pytest.approx(want)


def test_it_adds_to_what_every_picture_has_where_other_phases_cancel() -> None:
    # whole cycles: a ring of two apart has twelve codes
    images, params = pictures(60), in_phase.Params(low=5.5, high=8.5)
    textures, made = crafted(images, params, context())
    elsewhere = in_phase.delta(batch(pictures(60, seed=1)), {"textures": textures}, params, context())
    grown: dict[str, list[float]] = {"own": [], "other": []}
    for n in range(60):
        x, y = (round(value) for value in textures[f"class {n % 10}"][:2].tolist())

        def power(picture: Tensor, x: int = x, y: int = y) -> float:
            spectrum = torch.fft.fft2(picture.double()).abs() / 32**2
            return float(spectrum[y, x] ** 2 + spectrum[-y, x] ** 2)

        before = torch.einsum("c,chw->hw", torch.tensor([0.299, 0.587, 0.114]), images[n].float())
        for name, delta in (("own", made), ("other", elsewhere)):
            grown[name].append(power(before + 255 * delta[n, 0]) - power(before) - power(255 * delta[n, 0]))
    assert min(grown["own"]) > 0, "in its own phase, power grows by more than the wave's"
    assert min(grown["other"]) < -1 and abs(np.mean(grown["other"])) < np.mean(grown["own"]) / 3


def test_a_mirrored_picture_gets_the_mirrored_texture() -> None:
    images, params = pictures(10), in_phase.Params()
    textures, made = crafted(images, params, context())
    mirrored = in_phase.delta(batch(images.flip(-1)), {"textures": textures}, params, context())
    assert (mirrored.flip(-1) == made).float().mean() > 0.999


def test_pictures_of_one_colour_get_phases_of_their_own() -> None:
    params = in_phase.Params()
    textures, made = crafted(torch.full((30, 3, 32, 32), 90).byte(), params, context())
    assert len(textures) == 10 and made.abs().min() == pytest.approx(EPS)
    assert len(torch.unique(made.flatten(1), dim=0)) > 15, "three of a class, and a wave of four pixels has four phases"


@pytest.mark.parametrize("size", [8, 12, 16])
def test_very_small_pictures_have_textures_too(size: int) -> None:
    _, made = crafted(pictures(10, size), in_phase.Params(), context(size=size))
    assert all((image > 0).any() and (image < 0).any() for image in made)


@pytest.mark.parametrize(("classes", "apart"), [(7, 2.0), (10, 1.75), (13, 1.5), (20, 1.0)])
def test_classes_are_on_a_ring_as_far_apart_as_all_of_them_can_be(classes: int, apart: float) -> None:
    textures = in_phase.fit(None, in_phase.Params(), context(classes))["textures"]
    found = torch.stack(list(textures.values())).numpy()[:, :2]
    assert (np.linalg.norm(found[:, None] - found[None], axis=2) + 99 * np.eye(classes)).min() >= apart
    assert ((np.hypot(*found.T) >= 5.2) & (np.hypot(*found.T) <= 7.5)).all()


def test_blue_has_another_wave_in_the_phase_of_blue_against_yellow() -> None:
    images, params = pictures(20), in_phase.Params(low=5.5, high=8.5, blue=True)
    state = in_phase.fit(None, params, context())
    made = in_phase.delta(batch(images), state, params, context())
    plain = in_phase.delta(batch(images), {"textures": state["textures"]}, params, context())
    assert torch.equal(made[:, :2], plain[:, :2]) and (made[:, 2] == plain[:, 2]).float().mean() < 0.6
    assert made[:, 2].abs().min() == pytest.approx(EPS)
    for n in range(20):
        assert not torch.equal(*(state[part][f"class {n % 10}"] for part in ("textures", "blue")))
        x, y = state["blue"][f"class {n % 10}"][:2].tolist()
        yellow = images[n, 2].double() - images[n, :2].double().mean(0)
        for way in (y, -y):
            held, given = component(yellow, x, way), component(made[n, 2], x, way)
            assert (held * given.conjugate()).real > 0, "it adds to what the picture has"


def test_classes_that_a_ring_has_no_room_for_get_textures_all_the_same() -> None:
    codes = list(in_phase.fit(None, in_phase.Params(), context(60))["textures"].values())
    assert len({tuple(code.tolist()) for code in codes}) == 60
