"""The game of noise and attacker against slow arithmetic, and what it wins in a miniature."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from poison_kit import context, little_memory, separable, surrogate, take
from torch import Tensor, nn
from torch.nn import functional as F

from unlearnable import adversarial, registry
from unlearnable.errors import TrainingError
from unlearnable.nets import Network
from unlearnable.poisons import _noise, _pgd, _surrogates, error_min, robust_error_min
from unlearnable.poisons.robust_error_min import Draw, Game, Params
from unlearnable.types import Batch, State

EPS = 8 / 255


def hard(count: int = 40, seed: int = 0, size: int = 16) -> Batch:
    """Images without classes: only noise can make them learnable."""
    data = separable(count, size=size, contrast=0, seed=seed)
    return replace(data, labels=torch.arange(count) % 3)


def bent(side: int = 16) -> Network:
    """A small network with gradients that differ from pixel to pixel and from image to image."""
    torch.manual_seed(4)
    body = nn.Sequential(nn.Conv2d(3, 8, 5, stride=3), nn.Tanh(), nn.Flatten())
    return _surrogates.freeze(Network(body, 8 * ((side - 5) // 3 + 1) ** 2, 3), "cpu")


def uniform(count: int, seed: int = 0) -> Draw:
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.rand((count, *shape), generator=generator)


def game(count: int, seed: int = 0, **params: Any) -> Game:
    return Game(Params(net="small", **params), EPS, uniform(count, seed), half=False)


def by_hand(images: Tensor, draws: Tensor) -> Tensor:
    """Padding with black, cropping and mirroring, one image after the other."""
    side = images.shape[-1]
    pad, out = side // 8, []
    for image, (down, right, mirror) in zip(images, draws.tolist(), strict=True):
        padded = F.pad(image, (pad, pad, pad, pad))
        top, left = int(down * (2 * pad + 1)), int(right * (2 * pad + 1))
        crop = padded[:, top : top + side, left : left + side]
        out.append(crop if mirror < 0.5 else crop.flip(2))
    return torch.stack(out)


@pytest.mark.parametrize("size", [16, 32, 20])
def test_a_view_is_a_padded_crop_and_a_flip(size: int) -> None:
    images = torch.rand((30, 3, size, size), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(game(30, 7).view(images), by_hand(images, uniform(30, 7)(3)), atol=1e-4, rtol=1e-4)


def test_the_gradient_comes_back_through_crop_and_flip() -> None:
    """Every pixel gets the gradient of that pixel of the view which shows it, and none if the crop left it out."""
    images = torch.rand((12, 3, 16, 16), generator=torch.Generator().manual_seed(2), requires_grad=True)
    weights = torch.randn((12, 3, 16, 16), generator=torch.Generator().manual_seed(3))
    (gradient,) = torch.autograd.grad((game(12, 5).view(images) * weights).sum(), images)
    numbers = torch.arange(1.0, 257.0).view(1, 1, 16, 16).expand(12, 3, 16, 16)
    shown = by_hand(numbers, uniform(12, 5)(3)).long()  # the number of the pixel that is seen, 0 for black
    slow = torch.zeros(12, 3, 257)
    for row, channel in ((row, channel) for row in range(12) for channel in range(3)):
        slow[row, channel, shown[row, channel].ravel()] = weights[row, channel].ravel()  # each is shown once at most
    torch.testing.assert_close(gradient, slow[:, :, 1:].view_as(gradient), atol=1e-4, rtol=1e-4)


def test_without_attacker_and_augmentation_it_is_error_mins_step() -> None:
    data, net = hard(), bent()
    start = (torch.rand(data.images.shape, generator=torch.Generator().manual_seed(6)) * 2 - 1) * EPS
    ours = game(40, steps=1, samples=0, attack_radius=0.0).noise(net, data.images, data.labels, start)
    plain = error_min._descent(error_min.Params(net="small", steps=1, step=0.2))
    theirs = replace(plain, half=False).run([net], data.images, data.labels, start, EPS, None)
    assert torch.equal(ours, theirs) and not torch.equal(ours, start)


def test_the_attacker_stays_in_its_ball_and_raises_the_loss() -> None:
    data, net = hard(), bent()
    view = data.images.float() / 255
    view[0], view[1] = 0, 1
    moved = game(40, attack_radius=0.5).attacked(net, view, data.labels)
    assert (moved - view).abs().max() <= EPS / 2 + 1e-6 and (moved - view).abs().max() > EPS / 2 - 1e-4
    assert moved.min() >= -1e-6 and moved.max() <= 1 + 1e-6
    assert (_pgd.toward(net, moved, data.labels) > _pgd.toward(net, view, data.labels)).all()
    assert torch.equal(game(40, attack_radius=0.0).attacked(net, view, data.labels), view)


def test_the_loss_is_the_mean_over_views_of_the_loss_under_attack() -> None:
    data, net = hard(), bent()
    seen = (data.images.float() / 255).requires_grad_()
    losses = game(40, 3, samples=3, attack_steps=4).loss(net, seen, data.labels)
    (gradient,) = torch.autograd.grad(losses.sum(), seen)
    slow, step = game(40, 3, samples=3, attack_steps=4), 0.2 * 0.5 * EPS
    expected, expected_gradient = torch.zeros(40), torch.zeros_like(seen)
    for _ in range(3):
        x = seen.detach().clone().requires_grad_()
        view = slow.view(x)
        low, high = (view - EPS / 2).clamp(min=0).detach(), (view + EPS / 2).clamp(max=1).detach()
        moved = (view.detach() + slow.uniform(view, EPS / 2)).clamp(low, high)
        for _ in range(4):
            moved.requires_grad_()
            (up,) = torch.autograd.grad(F.cross_entropy(net(moved), data.labels, reduction="sum"), moved)
            moved = (moved.detach() + step * up.sign()).clamp(low, high)
        loss = F.cross_entropy(net(view + (moved - view).detach()), data.labels, reduction="none")
        expected += loss.detach() / 3
        expected_gradient += torch.autograd.grad(loss.sum(), x)[0] / 3
    torch.testing.assert_close(losses.detach(), expected, atol=1e-4, rtol=1e-4)
    assert F.cosine_similarity(gradient.ravel(), expected_gradient.ravel(), dim=0) > 0.999


def test_an_attacker_before_is_where_the_noise_begins() -> None:
    """APBench's: five steps up, then down from there, against the loss of the image as it is."""
    data, net = hard(), bent()
    values = registry.describe("poisons", "robust_error_min").presets["rem_cheap"]
    start = torch.zeros(data.images.shape)
    found = game(40, 2, **values).noise(net, data.images, data.labels, start)
    clean = data.images.float() / 255
    top = game(40, 2, **values).attacked(net, clean, data.labels) - clean
    slow = _pgd.Descent(_pgd.toward, 5, 0.2, half=False).run([net], data.images, data.labels, top, EPS, None)
    assert torch.equal(found, slow) and not torch.equal(top, start)


QUICK: dict[str, Any] = {"net": "linear", "batch": 20, "iterations": 60, "steps": 4, "step": 0.5, "samples": 2}
QUICK |= {"attack_steps": 3, "attack_step": 0.6}


@cache
def quick() -> tuple[Batch, State, list[str]]:
    lines: list[str] = []
    data = hard()
    return data, robust_error_min.fit(data, Params(**QUICK), context(tell=lines.append)), lines


def under_attack(net: Network, images: Tensor, labels: Tensor) -> float:
    moved = adversarial.attacked(net, images, labels, EPS / 2, 5, torch.Generator().manual_seed(0))
    return F.cross_entropy(net(moved), labels).item()


def test_noise_made_against_an_attacker_is_read_under_attack() -> None:
    """On one and the same network, by a fresh attack with other draws, more surely than plain error-minimising noise."""
    data = separable(45, size=8, contrast=40)
    (net,), accuracy = surrogate(data, "small")
    assert accuracy > 0.9
    _surrogates.freeze(net, "cpu")
    wanted = (data.labels + 1) % 3  # what the network does not see in the images, only in the noise
    losses = []
    for radius in (0.0, 0.5):
        player = game(45, samples=0, attack_radius=radius, attack_steps=5, attack_step=0.4)
        noise = player.noise(net, data.images, wanted, torch.zeros(data.images.shape))
        losses.append(under_attack(net, data.images.float() / 255 + noise, wanted))
    assert losses[1] < 0.8 * losses[0], losses


def test_the_game_makes_the_loss_under_attack_small() -> None:
    data, state, lines = quick()
    clean = data.images.float() / 255
    noise = robust_error_min.delta(data, state, Params(**QUICK), context())
    (net,) = _surrogates.unpack(state, context())
    assert under_attack(net, clean + noise, data.labels) < 0.9 < 1.1 < under_attack(net, clean, data.labels)
    assert (noise < -4 / 255).float().mean() > 0.05 and noise.abs().max() <= EPS + 1e-6
    assert "iteration 60 of 60" in lines[-2] and "final network" in lines[-1]


def test_the_network_learns_from_attacked_images_only_where_it_is_to_be_robust(monkeypatch: pytest.MonkeyPatch) -> None:
    taught: list[Tensor] = []
    learn = _noise.learn

    def spy(net: Network, optimiser: torch.optim.Optimizer, images: Tensor, *rest: Any) -> Tensor:
        taught.append(images)
        return learn(net, optimiser, images, *rest)

    monkeypatch.setattr(_noise, "learn", spy)
    for robust in (True, False):
        params = Params(**QUICK | {"iterations": 1, "robust": robust})
        robust_error_min.fit(hard(), params, context())
    moved = (taught[0] - taught[1]).abs()  # the same draws before the attack
    assert EPS / 4 < moved.max() <= EPS / 2 + 1e-6 and (moved > 0).float().mean() > 0.5


def test_later_images_get_noise_of_the_same_network() -> None:
    _, state, _ = quick()
    params, later = Params(**QUICK), hard(12, seed=5)
    delta = robust_error_min.delta(later, state, params, context())
    clean = later.images.float() / 255
    (net,) = _surrogates.unpack(state, context())
    assert under_attack(net, clean + delta, later.labels) < 0.7 * under_attack(net, clean, later.labels)
    part = robust_error_min.delta(take(later, [7, 2]), state, params, context())
    assert ((part - delta[[7, 2]]).abs() > 0.5 / 255).float().mean() < 0.05


@pytest.mark.parametrize("robust", [True, False])
def test_where_memory_runs_out_it_goes_on_with_fewer_images(robust: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    little_memory(monkeypatch)
    lines: list[str] = []
    data, params = hard(), Params(**QUICK | {"robust": robust, "iterations": 20, "step": 1.0})
    state = robust_error_min.fit(data, params, context(tell=lines.append))
    assert "out of memory: going on with 5 images at once" in lines
    assert sum("out of memory" in line for line in lines) == 6, "twice for noise, network and final noise"
    noise, clean = robust_error_min.delta(data, state, params, context()), data.images.float() / 255
    (net,) = _surrogates.unpack(state, context())
    noisy, plain = (torch.cat([net(x) for x in seen.split(8)]) for seen in (clean + noise, clean))
    assert F.cross_entropy(noisy, data.labels) < 0.85 * F.cross_entropy(plain, data.labels), "the noise does its work"


def test_a_loss_that_is_no_number_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Network, "forward", lambda self, x: self.head(self.features(x)) * torch.nan)
    with pytest.raises(TrainingError, match="iteration 1"):
        robust_error_min.fit(hard(8), Params(net="small", iterations=2, batch=8, steps=1, attack_steps=1), context())


@pytest.mark.parametrize(
    "wrong", [{"iterations": 0}, {"samples": -1}, {"attack_radius": 1.5}, {"attack_step": 0.0}, {"attacker": "x"}]
)
def test_ranges(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Params(**wrong)
