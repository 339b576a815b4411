"""Batched augmentation does what the one-image textbook version does."""

from __future__ import annotations

import pytest
import torch

from unlearnable import augment


def images(count: int = 64, side: int = 16) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, side, side), generator=torch.Generator().manual_seed(0)).byte()


def test_every_crop_is_a_crop_of_the_padded_picture_or_its_mirror() -> None:
    x = images()
    out = augment.crop_flip(x, torch.Generator().manual_seed(1), padding=2)
    padded = torch.nn.functional.pad(x, (2, 2, 2, 2)).float() / 255
    seen = set()
    for i in range(len(x)):
        crops = {
            (top, left, flip): padded[i, :, top : top + 16, left : left + 16]
            for top in range(5)
            for left in range(5)
            for flip in (False, True)
        }
        matches = [key for key, crop in crops.items() if torch.equal(out[i], crop.flip(2) if key[2] else crop)]
        assert len(matches) == 1
        seen.add(matches[0])
    assert len(seen) > 30, "each image has a draw of its own"


@pytest.mark.parametrize("name", sorted(augment.AUGMENTATIONS))
def test_the_same_seed_gives_the_same_batch_inside_the_range(name: str) -> None:
    one, two, other = (augment.AUGMENTATIONS[name](images(), torch.Generator().manual_seed(s)) for s in (3, 3, 4))
    assert torch.equal(one, two) and one.shape == (64, 3, 16, 16)
    assert one.min() >= 0 and one.max() <= 1
    assert (name == "none") == torch.equal(one, other)


def test_a_resized_crop_of_the_whole_picture_is_the_picture_or_its_mirror() -> None:
    x = images()
    out = augment.resized_crop(x, torch.Generator().manual_seed(0), area=(4.0, 4.0))  # clamped to the whole picture
    clean = x.float() / 255
    for i in range(len(x)):
        assert torch.allclose(out[i], clean[i], atol=1e-5) or torch.allclose(out[i], clean[i].flip(2), atol=1e-5)


def test_resized_crops_cover_the_stated_area() -> None:
    ramp = torch.arange(64).view(1, 1, 1, 64).expand(400, 3, 64, 64).mul(4).byte()
    out = augment.resized_crop(ramp, torch.Generator().manual_seed(0), area=(0.25, 0.25))
    width = (out[:, 0, 32, -1] - out[:, 0, 32, 0]).abs() * 255 / 4
    assert 0.5 * 64 * 0.85 < width.mean() < 0.5 * 64 * 1.05
