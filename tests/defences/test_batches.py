"""What is done to a batch does what its textbook says, each image by draws of its own."""

from __future__ import annotations

import math

import pytest
import torch
from defence_kit import job, noise, pictures
from torch.nn import functional as F
from torchvision.transforms import autoaugment

from unlearnable.defences import _ops, cutmix, cutout, mixup, strong_augment, trivial_augment, ueraser
from unlearnable.train import Recipe


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_cutout_blackens_one_square_of_half_the_side_cut_at_the_border() -> None:
    out = cutout.cut(torch.ones(500, 3, 16, 16), 0.5, draws())
    sizes = set()
    for image in out:
        assert torch.equal(image[0], image[1]) and set(image.unique().tolist()) == {0.0, 1.0}
        rows, columns = (image[0] == 0).any(1), (image[0] == 0).any(0)
        assert (image[0] == 0).sum() == rows.sum() * columns.sum(), "one rectangle"
        sizes.add((int(rows.sum()), int(columns.sum())))
    assert max(sizes) == (8, 8) and min(height for height, _ in sizes) == 4, "centres reach the border"
    inner = sum((image[0] == 0).sum() == 64 for image in out) / 500
    assert 0.2 < inner < 0.45, "a centre is 8 or more from both borders in (9/16)^2 of the draws"


def test_mixup_blends_images_and_labels_by_the_same_share() -> None:
    x, shares = torch.rand(200, 3, 4, 4), torch.eye(200)
    mixed, soft = mixup.blend(x, shares, 0.5, draws())
    for i in range(200):
        assert torch.allclose(mixed[i], (soft[i] @ x.flatten(1)).view(3, 4, 4), atol=1e-6)
    untouched = (soft.max(1).values == 1).double().mean()
    assert 0.4 < untouched < 0.6 and torch.allclose(soft.sum(1), torch.ones(200))


def test_cutmix_gives_a_label_the_share_of_its_pixels() -> None:
    count = 200
    x = torch.arange(count).float().view(-1, 1, 1, 1).expand(count, 3, 16, 16)
    mixed, soft = cutmix.paste(x, torch.eye(count), 0.5, draws())
    for i in range(count):
        owners, pixels = mixed[i, 0].unique(return_counts=True)
        assert len(owners) <= 2
        for owner, number in zip(owners.long().tolist(), pixels.tolist(), strict=True):
            assert soft[i, owner] == pytest.approx(number / 256, abs=1e-6)
    assert 0.4 < (soft.diagonal() == 1).double().mean() < 0.65
    assert torch.allclose(soft.sum(1), torch.ones(count))


@pytest.mark.parametrize("module", [mixup, cutmix])
def test_soft_labels_reach_the_loss(module: object) -> None:
    """A network that is sure of hard labels cannot bring a mixed loss to nought."""
    x, y = pictures(20)
    plain = job(x, x, y, recipe=Recipe(epochs=6, batch=16))
    assert module.victim(plain, module.Params()).train_loss[-1] > plain.run().train_loss[-1] + 0.1  # type: ignore[attr-defined]


NAMES = {"color": "Color", "auto_contrast": "AutoContrast"}


@pytest.mark.parametrize("name", _ops.OPERATIONS)
@pytest.mark.parametrize("sign", [-1, 1])
def test_operations_are_those_of_torchvision(name: str, sign: int) -> None:
    x = pictures(4)[0]
    ranges, strength = trivial_augment._WIDE, 0.4
    chosen = torch.full((len(x),), _ops.OPERATIONS.index(name))
    out = _ops.apply(x.float(), chosen, torch.full((len(x),), strength), torch.full((len(x),), sign), ranges)
    magnitude = {
        "shear": ranges.shear * strength,
        "translate": math.trunc(16 * strength),
        "rotate": ranges.rotate * strength,
        "posterize": 8 - round(strength * ranges.bits),
        "solarize": 255 * (1 - strength),
    }.get(name.split("_")[0], ranges.blend * strength)
    theirs = NAMES.get(name, "".join(part.capitalize() for part in name.split("_")))
    if name in ("posterize", "solarize"):
        sign = 1
    for i, image in enumerate(x):
        slow = autoaugment._apply_op(image, theirs, magnitude * sign, autoaugment.InterpolationMode.NEAREST, None)
        far = (out[i] - slow.float()).abs() > 1
        assert far.double().mean() < 0.02, "but for nearest neighbours that are equally near"


def test_operations_are_drawn_for_each_image() -> None:
    same = pictures(1)[0][:1].expand(300, -1, -1, -1).float()
    out = _ops.draw_and_apply(same, trivial_augment._WIDE, draws())
    assert len({tuple(image.flatten().tolist()) for image in out}) > 100
    assert out.min() >= 0 and out.max() <= 255 and torch.equal(out, out.round())


def test_plasma_is_stretched_cloud_and_rougher_when_asked() -> None:
    def steepness(roughness: float) -> float:
        out = ueraser.plasma(torch.Size((20, 3, 32, 32)), torch.full((20,), roughness), draws())
        assert out.amin((2, 3)).abs().max() < 1e-6 and (out.amax((2, 3)) - 1).abs().max() < 1e-6
        return (out[..., 1:] - out[..., :-1]).abs().mean().item()

    assert steepness(0.3) < steepness(0.5) < steepness(0.9)


def test_ueraser_learns_from_the_worst_of_its_draws() -> None:
    """The loss is the mean over images of the largest of an image's losses, not of the batch's."""
    x, y = pictures(10)
    seen: list[torch.Tensor] = []

    class Scores(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(images.mean((2, 3)) * 5)
            return seen[-1]

    made = job(x, x, y, recipe=Recipe(epochs=1, batch=30, augment="none"))
    caught: list[float] = []

    def run(**given: object) -> object:
        loss = given["objective"](Scores(), x.float() / 255, y)  # type: ignore[operator]
        caught.append(float(loss))

    object.__setattr__(made, "run", run)
    ueraser.victim(made, ueraser.Params(draws=5))
    losses = torch.stack([F.cross_entropy(scores, y, reduction="none") for scores in seen])
    assert losses.shape == (5, 30) and caught == [pytest.approx(losses.max(0).values.mean().item())]
    assert losses.std(0).min() > 0, "five different looks at each image"


def test_strong_augmentation_of_nothing_is_the_picture() -> None:
    x = noise().float() / 255
    same = strong_augment.strengthened(x, strong_augment.Params(degrees=0, scale=0, colour=0), draws())
    assert torch.allclose(same, x, atol=1e-4)
    other = strong_augment.strengthened(x, strong_augment.Params(), draws())
    assert other.min() >= 0 and other.max() <= 1 and (other - x).abs().mean() > 0.01
