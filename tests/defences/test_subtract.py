"""Waves that are found by labels and subtracted: what stays of them, and that nothing is done where nothing is found."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from defence_kit import job
from torch import Tensor

from unlearnable import params, registry
from unlearnable.defences import subtract
from unlearnable.keys import Key
from unlearnable.types import Batch, Context

LABELS = torch.arange(240) % 3


def scenes(side: int = 32, seed: int = 0) -> Tensor:
    """Coloured noise whose power falls with the frequency, as that of photos does."""
    rng = np.random.default_rng(seed)
    across, down = np.fft.rfftfreq(side, 1 / side)[None], np.fft.fftfreq(side, 1 / side)[:, None]
    grey, tint = (rng.standard_normal((len(LABELS), count, side, side)) for count in (1, 3))
    spectra = np.fft.rfft2(grey + 0.2 * tint) / np.maximum(1, np.hypot(across, down))
    return torch.from_numpy(np.fft.irfft2(spectra, s=(side, side)) * 90 + 128).clamp(20, 235).byte()


def protected(images: Tensor, preset: str) -> tuple[Tensor, dict[str, Tensor]]:
    name, values = registry.find_preset("poisons", preset)
    module, given = registry.load("poisons", name), params.build("poisons", name, values)
    context = Context(Key(bytes(range(32))), ("a", "b", "c"), 8, images.shape[-1])
    state = module.fit(None, given, context)
    batch = Batch(tuple(map(str, range(len(images)))), images, LABELS)
    made = images + (255 * module.delta(batch, state, given, context)).round()
    return made.clamp(0, 255).byte(), state


def left(images: Tensor, clean: Tensor) -> float:
    return float((images.float() - clean.float()).square().mean().sqrt())


@pytest.mark.parametrize(("preset", "most"), [("in_phase", 3.0), ("grating", 6.5), ("in_phase_blue", 5.0)])
def test_it_finds_each_classs_frequencies_and_takes_most_of_a_wave_out(preset: str, most: float) -> None:
    clean = scenes()
    arm, state = protected(clean, preset)
    found = subtract.loudest(arm, LABELS, 3)
    for label, name in enumerate("abc"):
        for channel in range(3):
            code = state["blue" if channel == 2 and "blue" in state else "textures"][name]
            assert (found[label, channel] - code[:2]).abs().max() <= 0.25
    out = subtract.subtracted(arm, LABELS, found, 8.0)
    assert left(arm, clean) == pytest.approx(8, abs=0.1) and left(out, clean) < most


def test_frequencies_are_found_by_the_class_and_not_by_one_loud_picture() -> None:
    arm, state = protected(scenes(), "in_phase")
    wave = torch.cos(2 * torch.pi * 12 * torch.arange(32) / 32)
    arm[0] = (128 + 120 * wave).byte()  # of class a
    code = state["textures"]["a"][:2]
    assert (subtract.loudest(arm, LABELS, 3)[0] - code).abs().max() <= 0.25


def test_nothing_is_taken_from_a_class_that_cannot_be_compared() -> None:
    images, one = scenes()[:20], torch.zeros(20).long()
    found = subtract.loudest(images, one, 1)
    assert torch.equal(subtract.subtracted(images, one, found, 8.0), images)
    found = subtract.loudest(images, LABELS[:20], 4)
    assert (found[3] == 0).all() and (found[:3].sum(2) > 0).all(), "nobody is in the last class"


def test_a_victim_is_trained_on_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clean = scenes(16)
    arm, _ = protected(clean, "in_phase")
    seen: list[Tensor] = []
    monkeypatch.setattr("unlearnable.defences._job.Job.run", lambda self, images: seen.append(images))
    subtract.victim(job(arm, clean, LABELS), subtract.Params())
    assert left(seen[0], clean) < left(arm, clean) / 2


@pytest.mark.parametrize("wrong", [0, 65])
def test_ranges(wrong: float) -> None:
    with pytest.raises(ValueError, match="levels"):
        subtract.Params(wrong)
