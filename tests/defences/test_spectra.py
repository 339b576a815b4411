"""What scrapers do who know that classes have textures: filters against sums, and textures that are gone."""

from __future__ import annotations

import cmath
import io
import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from defence_kit import job, noise, pictures
from PIL import Image
from torch import Tensor

from unlearnable.defences import (
    _spectrum,
    band_clusters,
    block_means,
    demodulate,
    equalise,
    notch,
    shift_jpeg,
    whiten,
)
from unlearnable.train import Recipe

SIDE = 16


def textured(images: Tensor, labels: Tensor, levels: int = 40, seed: int = 0) -> Tensor:
    """Plane waves of 4 + label cycles across, with a phase for every image, on half of the contrast."""
    phases = torch.rand((len(images), 1, 1, 1), generator=torch.Generator().manual_seed(seed))
    turns = (4 + labels).view(-1, 1, 1, 1) * torch.arange(images.shape[-1]) / images.shape[-1] + phases
    return (images.float() / 2 + 64 + levels * torch.cos(2 * math.pi * turns)).round().clamp(0, 255).byte()


def at(images: Tensor, frequency: int) -> Tensor:
    """(N,) amplitude of the plane wave of so many cycles across, in grey levels of the green channel."""
    turns = frequency * torch.arange(images.shape[-1]) / images.shape[-1]
    wave = torch.complex(torch.cos(2 * math.pi * turns), torch.sin(-2 * math.pi * turns))
    return (images[:, 1].float().mean(1) * wave).sum(1).abs() * 2 / images.shape[-1]


def test_powers_are_those_of_a_fourier_sum_in_each_group_and_in_the_rest() -> None:
    x, groups = noise(5, 6), torch.tensor([0, 2, 0, 2, 2])
    own, others = _spectrum.powers(x, groups, 4)
    for group, down, across in itertools.product((0, 2), (0, 2, 5), (0, 1, 3)):
        for images, found in ((x[groups == group], own), (x[groups != group], others)):
            matrices = []
            for image in images.tolist():
                waves = [[cmath.exp(-2j * math.pi * (down * r + across * c) / 6) for c in range(6)] for r in range(6)]
                sums = np.array([np.sum(np.array(channel) * waves) / 36 for channel in image])
                matrices.append(np.outer(sums, sums.conj()).real)
            assert np.allclose(found[group, down, across], np.mean(matrices, 0), rtol=1e-3, atol=1e-2)
    assert torch.equal(own[1], others[1]), "a group without images has no more than the others"
    assert torch.equal(*_spectrum.powers(x, torch.zeros(5).long(), 1))


def test_excess_goes_down_to_the_others_in_any_mixture_of_colours_and_the_mean_stays() -> None:
    others = torch.diag(torch.tensor([10.0, 20, 30])).expand(2, 4, 3, 3, 3)
    own, axis = others.clone(), torch.tensor([1.0, -1, 1])
    own[1, 2, 1] += 50 * torch.outer(axis, axis)
    own[0, 0, 0] *= 9
    own[0, 1, 1] *= 0.1
    gains = _spectrum.excess_removed(own, others, 1)
    left = gains @ own @ gains.transpose(-1, -2)
    assert torch.allclose(left[1, 2, 1], others[1, 2, 1], atol=1e-2)
    for group, down, across in ((0, 0, 0), (0, 1, 1), (1, 3, 2)):
        assert torch.allclose(gains[group, down, across], torch.eye(3), atol=1e-4)
    twice = _spectrum.excess_removed(2 * others, others, 2)
    assert torch.allclose(twice[0, 2, 2], torch.eye(3) / 2, atol=1e-3)


def test_the_notch_takes_the_band_out_of_training_and_test_and_nothing_else() -> None:
    params = notch.Params(4, 6, 0.5)
    keep = notch.kept(SIDE, params)
    for row, column in itertools.product(range(SIDE), range(SIDE // 2 + 1)):
        down, across = min(row, SIDE - row), column
        gone = any((3.5 <= a <= 6.5) and (3.5 <= b <= 6.5 or b <= 0.5) for a, b in ((across, down), (down, across)))
        assert keep[row, column] == (not gone)
    clean, labels = pictures(4)
    seen = _spectrum.both_sides(
        job(textured(clean, labels), clean, labels),
        lambda images: _spectrum.restored(_spectrum.transformed(images) * keep, SIDE),
    )
    for images, before in ((seen.images, textured(clean, labels)), (seen.test[0], pictures(20, 1000)[0])):
        assert at(images, 5).max() < 2.5 < 10 < at(before, 5).max()  # levels are whole and end at 255
        assert (images.float().mean((2, 3)) - before.float().mean((2, 3))).abs().max() < 3
    assert torch.equal(seen.labels, labels)


def test_both_sides_change_every_set_that_accuracy_is_read_on() -> None:
    clean, labels = pictures(3)
    made = replace(job(clean, clean, labels), select=pictures(2, 7), whole=pictures(2, 9))
    seen = _spectrum.both_sides(made, lambda images: 255 - images)
    for new, old in ((seen.test, made.test), (seen.select, made.select), (seen.whole, made.whole)):
        assert new is not None and old is not None
        assert torch.equal(new[0], 255 - old[0]) and torch.equal(new[1], old[1])
    assert torch.equal(seen.images, 255 - clean) and torch.equal(seen.clean, clean)


@pytest.mark.parametrize("how", ["mean", "each"])
def test_a_whitened_spectrum_is_flat(how: str) -> None:
    x = textured(*pictures(30))
    mean = whiten.mean_powers(x)
    out = whiten.whitened(x, mean, whiten.Params(how))  # type: ignore[arg-type]
    powers = whiten.mean_powers(out)[0].flatten(1)[:, 1:]
    assert powers.max() / powers.median() < (3 if how == "mean" else 1.5)
    assert out.mean() == pytest.approx(128, abs=1) and out.std((1, 2, 3)).sub(50).abs().max() < 1


def test_demodulation_takes_each_classs_texture_and_leaves_the_rest() -> None:
    clean, labels = noise(120), torch.arange(120) % 3
    arm = textured(clean, labels)
    out = demodulate.demodulated(arm, labels, 3, demodulate.Params(2.0))
    for k in range(3):
        assert at(arm[labels == k], 4 + k).mean() > 35 and at(out[labels == k], 4 + k).mean() < 15
    plain = textured(clean, labels, levels=0)
    kept = demodulate.demodulated(plain, labels, 3, demodulate.Params(2.0)).float()
    pairs = torch.corrcoef(torch.stack([kept.flatten(), plain.float().flatten()]))
    assert pairs[0, 1] > 0.95 and (kept.mean((2, 3)) - plain.float().mean((2, 3))).abs().max() < 2


def test_a_texture_that_only_its_colours_tell_apart_is_taken_out_too() -> None:
    """Three classes with one wave, another channel turned in each: by channels alone they are the same."""
    clean, labels = noise(150), torch.arange(150) % 3
    phases = torch.rand((150, 1, 1, 1), generator=torch.Generator().manual_seed(3))
    wave = torch.cos(2 * math.pi * (5 * torch.arange(SIDE) / SIDE + phases))
    signs = 1 - 2 * torch.eye(3)[labels].view(-1, 3, 1, 1)
    arm = (clean.float() / 4 + 96 + 30 * wave * signs).round().clamp(0, 255).byte()
    out = demodulate.demodulated(arm, labels, 3, demodulate.Params(4.0))

    def told(images: Tensor) -> float:
        along = torch.fft.rfft(images.float().mean(2))[:, :, 5]
        mixed = torch.stack([(along * (1 - 2 * torch.eye(3)[k])).sum(1).abs() for k in range(3)], 1)
        return (mixed.argmax(1) == labels).float().mean().item()

    assert told(arm) > 0.99 and told(out) < 0.7


def test_demodulation_by_blocks_takes_a_tile_that_turns_around_block_by_block() -> None:
    generator = torch.Generator().manual_seed(0)
    x, labels = torch.full((60, 3, 16, 16), 128.0), torch.arange(60) % 3
    x += torch.randn(x.shape, generator=generator) * 5
    tile = torch.cos((2 * torch.arange(8) + 1) * math.pi / 8)[None].expand(8, 8)  # (0, 2) of JPEG's, for class 1
    signs = torch.randint(0, 2, (60, 1, 2, 2), generator=generator) * 2.0 - 1
    tiled = (signs.repeat_interleave(8, 2).repeat_interleave(8, 3) * tile.repeat(2, 2)) * 20
    arm = (x + tiled * (labels == 1).view(-1, 1, 1, 1)).round().byte()
    out = demodulate.demodulated(arm, labels, 3, demodulate.Params(2.0, of="blocks"))
    left = ((out.float() - x) * tiled).sum((1, 2, 3)) / tiled.square().sum((1, 2, 3))
    assert left[labels == 1].abs().max() < 0.3
    assert (out[labels != 1].float() - arm[labels != 1].float()).abs().mean() < 1


def test_equalised_classes_have_one_spectrum() -> None:
    clean, labels = pictures(60)
    arm = textured(clean, labels, levels=30)
    own = equalise.textures(arm, labels, 3)
    for k in range(3):
        assert own[k, 0, 4 + k].diagonal().sum() == pytest.approx(3 * (30 / 2) ** 2, rel=0.2), "a cosine of 30 levels"
    mixtures = equalise._root(torch.cat([own.sum(0) - own, own.sum(0)[None]]))
    out = equalise.added(arm, labels, mixtures, torch.Generator().manual_seed(0))
    for frequency in (4, 5, 6):
        before, after = (
            [at(images[labels == k], frequency).square().mean().item() for k in range(3)] for images in (arm, out)
        )
        assert max(before) > 5 * min(before) and max(after) < 2 * min(after), (before, after)


def test_the_root_of_powers_keeps_what_is_positive() -> None:
    a = torch.tensor([[4.0, 2, 0], [2, 3, 1], [0, 1, 2]])
    root = equalise._root(a)
    assert torch.allclose(root @ root, a, atol=1e-4)
    assert torch.allclose(equalise._root(torch.diag(torch.tensor([9.0, -4, 1]))), torch.diag(torch.tensor([3.0, 0, 1])))


def test_clusters_of_spectra_are_the_classes_where_each_has_a_texture() -> None:
    clean, labels = pictures(40)
    plain = noise(120)
    arm = textured(plain, 2 * labels - 1)  # 3, 5 and 7 cycles
    found = band_clusters.victim(job(arm, clean, labels, recipe=Recipe(1, 30)), band_clusters.Params())
    none = band_clusters.victim(job(plain, clean, labels, recipe=Recipe(1, 30)), band_clusters.Params())
    assert found.figures["cluster_agreement"] > 0.95 and none.figures["cluster_agreement"] < 0.6


def test_a_tile_that_all_blocks_share_goes_and_a_flat_picture_stays() -> None:
    x = noise(4, 20).float() * 0.2 + 100
    tile = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(1)) * 15
    arm = (x + tile.repeat(1, 3, 3)[:, :20, :20]).round().byte()
    out = block_means.without(arm, 8)
    for n, channel, row, column in itertools.product((0, 3), (0, 2), (0, 7, 9, 19), (1, 8, 15)):
        alike = [arm[n, channel, r, c].item() for r in range(row % 8, 20, 8) for c in range(column % 8, 20, 8)]
        want = arm[n, channel, row, column].item() - np.mean(alike) + arm[n, channel].float().mean().item()
        assert out[n, channel, row, column].item() == pytest.approx(want, abs=1e-2)
    flat = torch.full((1, 3, 16, 16), 77, dtype=torch.uint8)
    assert torch.allclose(block_means.without(flat, 8), flat.float())


def test_off_the_grid_is_a_shift_there_and_back() -> None:
    x = noise(6)
    out = shift_jpeg.moved(x, shift_jpeg.Params(30), torch.Generator().manual_seed(4))
    shifts = torch.randint(0, 8, (6, 2), generator=torch.Generator().manual_seed(4)).tolist()
    assert len({tuple(shift) for shift in shifts}) > 3
    for image, found, (down, across) in zip(x, out, shifts, strict=True):
        file = io.BytesIO()
        rolled = np.roll(image.permute(1, 2, 0).numpy(), (down, across), (0, 1))
        Image.fromarray(rolled).save(file, "JPEG", quality=30)
        back = np.roll(np.asarray(Image.open(file)), (-down, -across), (0, 1))
        assert np.array_equal(found.permute(1, 2, 0).numpy(), back)


def test_rescaled_images_come_back_to_their_place() -> None:
    x = pictures(4)[0]
    out = shift_jpeg.moved(x, shift_jpeg.Params(90, 0.3), torch.Generator().manual_seed(0))
    assert out.shape == x.shape and not torch.equal(out, x)
    pairs = torch.corrcoef(torch.stack([out.float().flatten(), x.float().flatten()]))
    assert pairs[0, 1] > 0.85
